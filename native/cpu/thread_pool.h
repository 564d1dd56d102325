// Threads that work through the stages of a job together, spin briefly between them and sleep when
// idle.
//
// Parts of a stage are claimed, not assigned: a thread the system has taken off its core, or that
// runs on a slower one, holds up nothing but the part it is at.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace native::cpu {

// A sequence of stages, each of parts that may run in any order on any thread.
class Job {
public:
    virtual ~Job() = default;

    // The number of parts of the next stage, 1..kMostParts, or 0 when the job is done. Called by
    // one thread, when every part before is done.
    virtual int begin_stage() = 0;

    // Runs one part of the present stage. Must not throw.
    virtual void run_part(int part, int thread_idx) = 0;

    static constexpr int kMostParts = 4096;
};

class ThreadPool {
public:
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int n_threads() const { return n_threads_; }

    // Runs all stages, the caller being thread 0. One job at a time.
    void run(Job& job);

private:
    void help(int thread_idx);
    void publish(uint64_t cursor);
    void run_parts(uint64_t cursor, int thread_idx);
    void wait_for_stage_after(uint64_t cursor);

    const int n_threads_;
    std::vector<std::thread> threads_;
    Job* job_ = nullptr;
    // Stage number (32 bits), its number of parts (16), the next part to claim (16). Taking the
    // last three in one step is what makes it safe for a thread to come late: what it claims
    // belongs to the stage that runs now, which cannot end before the claimed part has.
    alignas(64) std::atomic<uint64_t> cursor_{0};
    alignas(64) std::atomic<int> n_parts_done_{0};
    alignas(64) std::atomic<uint32_t> wake_{0};  // changes whenever a sleeper must look again
    std::atomic<int> n_asleep_{0};
    std::atomic<bool> stopping_{false};
};

}  // namespace native::cpu
