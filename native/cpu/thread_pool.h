// Threads that run one function together, spin briefly at barriers and sleep when idle.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace native::cpu {

class ThreadPool {
public:
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int n_threads() const { return n_threads_; }

    // Runs task(thread_idx) on every thread, the caller being thread 0; returns when all are done.
    // The task must not throw. Not reentrant.
    void run(const std::function<void(int)>& task);

    // Waits until every thread of the running task has arrived. The last one to arrive runs
    // `on_last` before any thread goes on.
    template <class OnLast>
    void barrier(OnLast&& on_last) {
        const uint32_t phase = barrier_phase_.load(std::memory_order_relaxed);
        if (barrier_count_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_threads_) {
            on_last();
            barrier_count_.store(0, std::memory_order_relaxed);
            barrier_phase_.fetch_add(1, std::memory_order_release);
            barrier_phase_.notify_all();
        } else {
            wait_while_equal(barrier_phase_, phase);
        }
    }

private:
    static void wait_while_equal(std::atomic<uint32_t>& value, uint32_t old);
    void worker(int thread_idx);

    const int n_threads_;
    std::vector<std::thread> threads_;
    const std::function<void(int)>* task_ = nullptr;
    alignas(64) std::atomic<uint32_t> generation_{0};
    alignas(64) std::atomic<uint32_t> barrier_phase_{0};
    alignas(64) std::atomic<int> barrier_count_{0};
    bool stopping_ = false;
};

}  // namespace native::cpu
