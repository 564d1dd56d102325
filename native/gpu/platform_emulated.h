// The host as a GPU: a block's threads are fibers that take turns at barriers and shuffles, as are
// those of a cluster's blocks; all others run one after another. What a kernel declares as SHARED
// is shared by a cluster's blocks, too: those of clusters have launch_shared() alone. Tiles lie in
// the lanes as gfx11's do, or, with EMULATED_QUADS, as NVIDIA's. For tests and tiny models.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace emulated {

constexpr int kMostThreads = 1024, kMostCluster = 8;
constexpr size_t kStackBytes = 64 * 1024;

// A barrier of `n_alive` fibers: whoever comes last opens it.
struct Barrier {
    int n_alive = 0, n_waiting = 0, n_opened = 0;
    void open() { n_waiting = 0, ++n_opened; }
};

// Lives on when its thread is done, and becomes a thread of the next blocks. It begins by
// setcontext; from then on it is left and entered by jumps, which ask nothing of the system.
struct Fiber {
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    bool has_begun = false, is_done = true;
};

struct Block {
    int x = 0;
    unsigned char* shared = nullptr;  // what the launch asked for
    Barrier all, warps[kMostThreads / 32];
    alignas(16) unsigned char slots[2][kMostThreads][32];  // what lanes show each other
    std::vector<Fiber> fibers;
};

// The blocks that run at once, and which thread of which of them does.
struct Cluster {
    int n_blocks = 1, n_threads = 0, nx = 0, y = 0, z = 0, rank = 0, thread = 0;
    size_t shared_bytes = 0;                  // from a block's to the next one's
    bool has_moved = false, is_torn = false;  // lanes of a warp waited for one that had left
    jmp_buf scheduler;
    Barrier all;
    Block blocks[kMostCluster];
    void (*body)(const void*) = nullptr;
    const void* args = nullptr;
};

inline Cluster& cluster() {
    static Cluster the_cluster;
    return the_cluster;
}

inline Block& block() {
    return cluster().blocks[cluster().rank];
}

inline void yield() {
    Cluster& c = cluster();
    if (_setjmp(block().fibers[size_t(c.thread)].place) == 0) _longjmp(c.scheduler, 1);
}

inline void wait(Barrier& barrier) {
    const int opened = barrier.n_opened;
    cluster().has_moved = true;
    if (++barrier.n_waiting == barrier.n_alive) return barrier.open();
    while (barrier.n_opened == opened) yield();
}

inline void leave(Barrier& barrier) {
    if (--barrier.n_alive > 0 && barrier.n_waiting == barrier.n_alive) barrier.open();
}

inline void run_fiber() {
    for (;;) {
        Cluster& c = cluster();
        Block& b = block();
        const int thread = c.thread;
        c.body(c.args);
        c.has_moved = true;
        leave(c.all);
        leave(b.all);
        if (b.warps[thread / 32].n_waiting > 0) c.is_torn = true;
        leave(b.warps[thread / 32]);
        b.fibers[size_t(thread)].is_done = true;
        yield();
    }
}

// Lets a thread run until it waits for others or is done.
inline void enter(Fiber& fiber) {
    if (_setjmp(cluster().scheduler) != 0) return;
    if (fiber.has_begun) _longjmp(fiber.place, 1);
    fiber.has_begun = true;
    fiber.stack.reset(new char[kStackBytes]);
    ucontext_t begin;
    getcontext(&begin);
    begin.uc_stack.ss_sp = fiber.stack.get();
    begin.uc_stack.ss_size = kStackBytes;
    begin.uc_link = nullptr;
    makecontext(&begin, run_fiber, 0);
    setcontext(&begin);
}

// False if threads wait for others that never come.
inline bool run_cluster() {
    Cluster& c = cluster();
    c.all = {c.n_blocks * c.n_threads, 0, 0};
    for (int r = 0; r < c.n_blocks; ++r) {
        Block& b = c.blocks[r];
        if (b.fibers.empty()) b.fibers.resize(kMostThreads);
        b.all = {c.n_threads, 0, 0};
        for (int first = 0; first < c.n_threads; first += 32)
            b.warps[first / 32] = {c.n_threads - first < 32 ? c.n_threads - first : 32, 0, 0};
        for (int i = 0; i < c.n_threads; ++i) b.fibers[size_t(i)].is_done = false;
    }
    while (c.all.n_alive > 0) {
        c.has_moved = false;
        for (c.rank = 0; c.rank < c.n_blocks; ++c.rank) {
            std::vector<Fiber>& fibers = c.blocks[c.rank].fibers;
            for (c.thread = 0; c.thread < c.n_threads; ++c.thread)
                if (!fibers[size_t(c.thread)].is_done) enter(fibers[size_t(c.thread)]);
        }
        if (!c.has_moved) {
            for (Block& b : c.blocks) b.fibers.clear();  // they hang in the middle of the kernel
            return false;
        }
    }
    return true;
}

// 0; 1 where a block did not end, 2 where one wrote behind the shared memory it had, 3 where the
// grid is not made of such clusters, 4 where lanes were waited for that had left.
inline int launch(int nx, int ny, int nz, int n_threads, int shared_bytes, int n_blocks,
                  void (*body)(const void*), const void* args) {
    constexpr size_t kGuard = 4096;
    constexpr unsigned char kUntouched = 0xff;  // numbers never written are no numbers
    if (n_blocks < 1 || n_blocks > kMostCluster || nx % n_blocks != 0) return 3;
    Cluster& c = cluster();
    c.is_torn = false;
    c.n_blocks = n_blocks, c.n_threads = n_threads, c.nx = nx, c.body = body, c.args = args;
    c.shared_bytes = (size_t(shared_bytes) + kGuard + 15) / 16 * 16;
    std::vector<unsigned char> shared(c.shared_bytes * size_t(n_blocks) + 16, kUntouched);
    unsigned char* at = shared.data() + (16 - reinterpret_cast<uintptr_t>(shared.data()) % 16) % 16;
    for (int r = 0; r < n_blocks; ++r) c.blocks[r].shared = at + c.shared_bytes * size_t(r);
    for (c.z = 0; c.z < nz; ++c.z)
        for (c.y = 0; c.y < ny; ++c.y)
            for (int x = 0; x < nx; x += n_blocks) {
                for (int r = 0; r < n_blocks; ++r) c.blocks[r].x = x + r;
                if (!run_cluster()) return 1;
            }
    for (int r = 0; r < n_blocks; ++r)
        for (size_t i = 0; i < kGuard; ++i)
            if (c.blocks[r].shared[size_t(shared_bytes) + i] != kUntouched) return 2;
    return c.is_torn ? 4 : 0;
}

// Shows a value to the warp and returns what `lane` shows.
template <class T>
T exchange(const T& value, int lane) {
    static_assert(sizeof(T) <= 32);
    Block& b = block();
    const int thread = cluster().thread, warp = thread / 32;
    const int turn = b.warps[warp].n_opened & 1;  // so that nobody overwrites what is being read
    std::memcpy(b.slots[turn][thread], &value, sizeof(T));
    wait(b.warps[warp]);
    T found;
    std::memcpy(&found, b.slots[turn][warp * 32 + (lane & 31)], sizeof(T));
    return found;
}

}  // namespace emulated

#define KERNEL(name, threads, Args)                                                                \
    static void name##_body(const Args& a);                                                        \
    extern "C" __attribute__((visibility("default"))) int name##__launch(                          \
        int nx, int ny, int nz, int n_threads, int shared_bytes, int n_blocks, const void* args) { \
        return emulated::launch(                                                                   \
            nx, ny, nz, n_threads, shared_bytes, n_blocks,                                         \
            [](const void* p) { name##_body(*static_cast<const Args*>(p)); }, args);               \
    }                                                                                              \
    extern "C" __attribute__((visibility("default"))) int name##__args_bytes() {                   \
        return int(sizeof(Args));                                                                  \
    }                                                                                              \
    static void name##_body(const Args& a)
#define DENSE_KERNEL(name, threads, n_blocks, Args) KERNEL(name, threads, Args)
#define DEV static inline
#define DEV_MEMBER inline
#define SHARED static

DEV int thread_index() {
    return emulated::cluster().thread;
}
DEV int lane_index() {
    return thread_index() & 31;
}
DEV int block_x() {
    return emulated::block().x;
}
DEV int n_blocks_x() {
    return emulated::cluster().nx;
}
DEV int block_y() {
    return emulated::cluster().y;
}
DEV int block_z() {
    return emulated::cluster().z;
}
DEV unsigned char* launch_shared() {
    return emulated::block().shared;
}
DEV void block_sync() {
    emulated::wait(emulated::block().all);
}
#define HAS_CLUSTERS
#define CLUSTER_KERNEL(name, threads, Args) KERNEL(name, threads, Args)
using Mailbox = uint64;
DEV void mailbox_open(Mailbox*, int) {}
DEV void mailboxes_opened() {
    emulated::wait(emulated::cluster().all);
}
DEV void post(float* to, float value, Mailbox*, int rank) {
    const emulated::Cluster& c = emulated::cluster();
    const int64_t n_bytes = int64_t(rank - c.rank) * int64_t(c.shared_bytes);
    *reinterpret_cast<float*>(reinterpret_cast<uintptr_t>(to) + uintptr_t(n_bytes)) = value;
}
DEV void mailbox_wait(Mailbox*) {
    emulated::wait(emulated::cluster().all);
}
DEV void begin_after_others() {}
DEV void prefetch(const void*, int) {}
DEV void keep_order() {}
DEV void warp_sync() {
    emulated::wait(emulated::block().warps[thread_index() / 32]);
}

template <class T>
DEV T shuffle(T v, int lane) {
    return emulated::exchange(v, lane);
}
template <class T>
DEV T shuffle_xor(T v, int mask) {
    return emulated::exchange(v, lane_index() ^ mask);
}

DEV float multiply_add(float a, float b, float c) {
    return std::fma(a, b, c);
}
DEV float exp2_of(float x) {
    return std::exp2(x);
}
DEV float maximum(float a, float b) {
    return std::fmax(a, b);
}
DEV float log_of(float x) {
    return std::log(x);
}
DEV float inverse_root(float x) {
    return 1.0f / std::sqrt(x);
}
DEV float inverse(float x) {
    return 1.0f / x;
}
DEV int dot4(uint32 a, uint32 b, int sum) {
    for (int i = 0; i < 32; i += 8) sum += int(int8(a >> i)) * int(int8(b >> i));
    return sum;
}
DEV float nearest(float x) {
    return std::rint(x);
}
DEV float magnitude(float x) {
    return std::fabs(x);
}
DEV float bits_to_float(uint32 bits) {
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}
DEV uint32 float_to_bits(float x) {
    uint32 result;
    std::memcpy(&result, &x, sizeof result);
    return result;
}
DEV float half_to_float(uint16 half) {
    _Float16 value;
    std::memcpy(&value, &half, sizeof value);
    return float(value);
}
DEV uint16 float_to_half(float value) {
    const _Float16 half = _Float16(value);
    uint16 result;
    std::memcpy(&result, &half, sizeof result);
    return result;
}

DEV uint32 halves(float low, float high) {
    return uint32(float_to_half(low)) | uint32(float_to_half(high)) << 16;
}
DEV uint32 scaled_halves(uint32 four, int pair, uint32 scales) {
    const auto scaled = [&](int i) {
        return float(int8(four >> (16 * pair + 8 * i))) * half_to_float(uint16(scales >> (16 * i)));
    };
    return halves(scaled(0), scaled(1));
}
DEV uint32 from_other_half(uint32 v) {
    return shuffle_xor(v, 16);
}

#if defined(EMULATED_QUADS)
constexpr bool kCopiesAhead = true;
#else
constexpr bool kCopiesAhead = false;
#endif
DEV void copy_ahead(void* to, const void* from) {
    std::memcpy(to, from, 16);
}
DEV void end_of_group() {}
template <int kLeft>
DEV void groups_left() {}

#if defined(EMULATED_QUADS)

constexpr int kLaneRows = 2, kLaneWords = 1, kHalfWords = 2;
DEV int lane_row(int i) {
    return (lane_index() >> 2) + 8 * i;
}
DEV int lane_word(int) {
    return lane_index() & 3;
}
DEV int half_word(int j) {
    return (lane_index() & 3) + 4 * j;
}
DEV int tile_row(int i) {
    return (lane_index() >> 2) + 8 * ((i >> 1) & 1);
}
DEV int tile_col(int i) {
    return 2 * (lane_index() & 3) + (i & 1) + 8 * (i >> 2);
}

using LaneWords = uint32[kLaneRows][kLaneWords];
using LaneHalves = uint32[kLaneRows][kHalfWords];

#define HAS_ROW_LOADS
template <int n>
DEV void load_rows(uint32 (&words)[n], const void* mine) {
    for (int i = 0; i < n; ++i) {
        const void* row = emulated::exchange(mine, 8 * i + (lane_index() >> 2));
        words[i] = static_cast<const uint32*>(row)[lane_index() & 3];
    }
}

// A matrix's 16 rows, put together from what the lanes show.
template <int kWords>
struct Operand {
    uint32 rows[16][4 * kWords];

    explicit Operand(const uint32 (&mine)[2][kWords]) {
        struct Shown {
            uint32 words[2][kWords];
        } shown;
        std::memcpy(&shown, mine, sizeof shown);
        for (int lane = 0; lane < 32; ++lane) {
            const Shown theirs = emulated::exchange(shown, lane);
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < kWords; ++j)
                    rows[lane / 4 + 8 * i][lane % 4 + 4 * j] = theirs.words[i][j];
        }
    }
};

constexpr int kFewHalves = 1;

template <int n_elements, int n_rows>
DEV void tile_add(int (&tile)[n_elements], const LaneWords& a,
                  const uint32 (&b)[n_rows][kLaneWords]) {
    const uint32 all[2][1] = {{b[0][0]}, {b[n_rows - 1][0]}};
    const Operand<1> left(a), right(all);
    for (int i = 0; i < n_elements; ++i) {
        int8 x[16], y[16];
        std::memcpy(x, left.rows[tile_row(i)], 16);
        std::memcpy(y, right.rows[tile_col(i)], 16);
        for (int k = 0; k < 16; ++k) tile[i] += int(x[k]) * int(y[k]);
    }
}

template <int n_elements>
DEV void tile_add(float (&tile)[n_elements], const LaneHalves& a, const LaneHalves& b) {
    const Operand<2> left(a), right(b);
    for (int i = 0; i < n_elements; ++i) {
        uint16 x[16], y[16];
        std::memcpy(x, left.rows[tile_row(i)], 32);
        std::memcpy(y, right.rows[tile_col(i)], 32);
        for (int k = 0; k < 16; ++k) tile[i] += half_to_float(x[k]) * half_to_float(y[k]);
    }
}

#else

constexpr int kLaneRows = 1, kLaneWords = 4;
DEV int lane_row(int) {
    return lane_index() & 15;
}
DEV int lane_word(int j) {
    return j;
}
DEV int tile_row(int i) {
    return 2 * i + (lane_index() >> 4);
}
DEV int tile_col(int) {
    return lane_index() & 15;
}

using LaneWords = uint32[kLaneRows][kLaneWords];
constexpr int kFewHalves = 2;

DEV void tile_add(int (&tile)[8], const LaneWords& a, const LaneWords& b) {
    struct Row {
        int8 v[16];
    } left, right;
    std::memcpy(&left, a, sizeof left);
    std::memcpy(&right, b, sizeof right);
    for (int i = 0; i < 8; ++i) {
        const Row row = emulated::exchange(left, tile_row(i));
        for (int k = 0; k < 16; ++k) tile[i] += int(row.v[k]) * int(right.v[k]);
    }
}

constexpr int kHalfWords = 8;
DEV int half_word(int j) {
    return j;
}

using LaneHalves = uint32[kLaneRows][kHalfWords];

DEV void tile_add(float (&tile)[8], const LaneHalves& a, const LaneHalves& b) {
    struct Row {
        uint16 v[16];
    } left, right;
    std::memcpy(&left, a, sizeof left);
    std::memcpy(&right, b, sizeof right);
    for (int i = 0; i < 8; ++i) {
        const Row row = emulated::exchange(left, tile_row(i));
        for (int k = 0; k < 16; ++k) tile[i] += half_to_float(row.v[k]) * half_to_float(right.v[k]);
    }
}

#endif

template <int n_elements, int n_rows>
DEV void tile_add(int (&tile)[n_elements], const LaneWords (&a)[2],
                  const uint32 (&b)[2][n_rows][kLaneWords]) {
    tile_add(tile, a[0], b[0]);
    tile_add(tile, a[1], b[1]);
}
