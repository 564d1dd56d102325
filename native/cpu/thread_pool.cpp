#include "thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace native::cpu {

namespace {

// About a millisecond in all: sleeping and waking costs more than most ops of a step take, and an
// idle pool still sleeps at once by human measure. After the first part of it the core is offered
// to others at intervals, since the thread that is waited for may be waiting for this very core.
constexpr int kSpins = 40000, kSpinsBeforeYield = 2000, kYieldInterval = 256;

void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads) {
    for (int i = 1; i < n_threads; ++i) threads_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
    stopping_ = true;
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::wait_while_equal(std::atomic<uint32_t>& value, uint32_t old) {
    for (int i = 0; i < kSpins; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause_briefly();
        if (i >= kSpinsBeforeYield && i % kYieldInterval == 0) std::this_thread::yield();
    }
    while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

void ThreadPool::run(const std::function<void(int)>& task) {
    task_ = &task;
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    task(0);
    barrier([] {});  // every worker joins this barrier after its task
    task_ = nullptr;
}

void ThreadPool::worker(int thread_idx) {
    uint32_t seen = 0;
    for (;;) {
        wait_while_equal(generation_, seen);
        seen = generation_.load(std::memory_order_acquire);
        if (stopping_) return;
        (*task_)(thread_idx);
        barrier([] {});
    }
}

}  // namespace native::cpu
