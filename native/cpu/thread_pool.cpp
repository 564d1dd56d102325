#include "thread_pool.h"

#include "error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace native::cpu {

namespace {

// About a millisecond in all: sleeping and waking costs more than most ops of a step take, and an
// idle pool still sleeps at once by human measure. After the first part of it the core is offered
// to others at intervals, since the thread that is waited for may be waiting for this very core.
constexpr int kSpins = 40000, kSpinsBeforeYield = 2000, kYieldInterval = 256;
constexpr int kMostThreads = 1024;

void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

uint64_t cursor_at(uint64_t stage, int n_parts, int next_part) {
    return (stage & 0xffffffff) << 32 | uint64_t(n_parts) << 16 | uint64_t(next_part);
}

uint64_t stage_of(uint64_t cursor) {
    return cursor >> 32;
}

int n_parts_of(uint64_t cursor) {
    return int(cursor >> 16 & 0xffff);
}

int next_part_of(uint64_t cursor) {
    return int(cursor & 0xffff);
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads) {
    require(n_threads > 0 && n_threads <= kMostThreads, "threads",
            std::to_string(n_threads) + " threads, expected 1.." + std::to_string(kMostThreads));
    for (int i = 1; i < n_threads; ++i) threads_.emplace_back([this, i] { help(i); });
}

ThreadPool::~ThreadPool() {
    stopping_ = true;
    wake_.fetch_add(1);
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

// Makes the cursor visible; a stage of one part is the publisher's own and wakes nobody.
void ThreadPool::publish(uint64_t cursor) {
    cursor_.store(cursor);
    if (n_parts_of(cursor) == 1 || n_asleep_.load() == 0) return;
    wake_.fetch_add(1);
    wake_.notify_all();
}

// Runs the part that `cursor` claims, and goes on with the first part of every stage that this
// thread was the last to make ready.
void ThreadPool::run_parts(uint64_t cursor, int thread_idx) {
    for (;;) {
        const int n_parts = n_parts_of(cursor);
        job_->run_part(next_part_of(cursor), thread_idx);
        if (n_parts > 1 && n_parts_done_.fetch_add(1) + 1 < n_parts) return;
        n_parts_done_.store(0, std::memory_order_relaxed);
        const int n_next = job_->begin_stage();
        cursor = cursor_at(stage_of(cursor) + 1, n_next, 0);
        publish(n_next > 0 ? cursor + 1 : cursor);
        if (n_next == 0) return;
    }
}

void ThreadPool::run(Job& job) {
    job_ = &job;
    const int n_parts = job.begin_stage();
    if (n_parts == 0) return;
    const uint64_t first = cursor_at(stage_of(cursor_.load()) + 1, n_parts, 0);
    publish(first + 1);
    run_parts(first, 0);
    help(0);
}

// Claims parts until the job is done (the caller's thread) or the pool ends (the others).
void ThreadPool::help(int thread_idx) {
    for (;;) {
        const uint64_t seen = cursor_.load(std::memory_order_acquire);
        if (next_part_of(seen) < n_parts_of(seen)) {
            const uint64_t claim = cursor_.fetch_add(1, std::memory_order_acq_rel);
            if (next_part_of(claim) < n_parts_of(claim)) run_parts(claim, thread_idx);
            continue;
        }
        if (thread_idx == 0 ? n_parts_of(seen) == 0 : stopping_.load()) return;
        wait_for_stage_after(seen);
    }
}

void ThreadPool::wait_for_stage_after(uint64_t cursor) {
    const auto is_same = [&] {
        return stage_of(cursor_.load()) == stage_of(cursor) && !stopping_.load();
    };
    for (int i = 0; i < kSpins; ++i) {
        if (!is_same()) return;
        pause_briefly();
        if (i >= kSpinsBeforeYield && i % kYieldInterval == 0) std::this_thread::yield();
    }
    const uint32_t wake = wake_.load();
    n_asleep_.fetch_add(1);
    // Whoever publishes a stage either sees this sleeper or is seen by it.
    if (is_same()) wake_.wait(wake);
    n_asleep_.fetch_sub(1);
}

}  // namespace native::cpu
