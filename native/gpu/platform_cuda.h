// NVIDIA: sm_80 and later. Halves are converted and tiles computed by PTX, without headers.
#pragma once

#define KERNEL(name, threads, Args) \
    extern "C" __global__ void __launch_bounds__(threads) name(const Args a)
#define DENSE_KERNEL(name, threads, n_blocks, Args) \
    extern "C" __global__ void __launch_bounds__(threads, n_blocks) name(const Args a)
#define DEV static __device__ __forceinline__
#define DEV_MEMBER __device__ __forceinline__
#define SHARED __shared__

// What a launch asks for beside a kernel's own.
DEV unsigned char* launch_shared() {
    extern __shared__ __align__(16) unsigned char memory[];
    return memory;
}

DEV int thread_index() {
    return threadIdx.x;
}
DEV int lane_index() {
    return threadIdx.x & 31;
}
DEV int block_x() {
    return blockIdx.x;
}
DEV int n_blocks_x() {
    return gridDim.x;
}
DEV int block_y() {
    return blockIdx.y;
}
DEV int block_z() {
    return blockIdx.z;
}
DEV void block_sync() {
    __syncthreads();
}
DEV void warp_sync() {
    __syncwarp();
}

DEV float shuffle(float v, int lane) {
    return __shfl_sync(~0u, v, lane);
}
DEV int shuffle(int v, int lane) {
    return __shfl_sync(~0u, v, lane);
}
DEV float shuffle_xor(float v, int mask) {
    return __shfl_xor_sync(~0u, v, mask);
}
DEV int shuffle_xor(int v, int mask) {
    return __shfl_xor_sync(~0u, v, mask);
}

DEV float multiply_add(float a, float b, float c) {
    return fmaf(a, b, c);
}
DEV float exp2_of(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
DEV float maximum(float a, float b) {
    return fmaxf(a, b);
}
DEV float log_of(float x) {
    return logf(x);
}
DEV float inverse_root(float x) {
    float result;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
DEV float inverse(float x) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
DEV int dot4(uint32 a, uint32 b, int sum) {
    asm("dp4a.s32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}
DEV float nearest(float x) {
    return rintf(x);
}
DEV float magnitude(float x) {
    return fabsf(x);
}
DEV float bits_to_float(uint32 bits) {
    return __uint_as_float(bits);
}
DEV uint32 float_to_bits(float x) {
    return __float_as_uint(x);
}

// The kernels of a graph are launched early: until here they may not read what others write.
DEV void begin_after_others() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

DEV uint32 shared_address(const void* p) {
    return uint32(__cvta_generic_to_shared(p));
}

#if __CUDA_ARCH__ >= 900
#define HAS_CLUSTERS
#define CLUSTER_KERNEL(name, threads, Args) DENSE_KERNEL(name, threads, 2, Args)
using Mailbox = uint64;  // a barrier that counts bytes

DEV void mailbox_open(Mailbox* box, int n_bytes) {
    if (threadIdx.x == 0) {
        const uint32 at = shared_address(box);
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at),
                     "r"(n_bytes)
                     : "memory");
    }
    __syncwarp();
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
DEV void mailboxes_opened() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
DEV void post(float* to, float value, Mailbox* box, int rank) {
    asm volatile(
        "{ .reg .b32 there, box;\n"
        "mapa.shared::cluster.u32 there, %0, %3;\n"
        "mapa.shared::cluster.u32 box, %1, %3;\n"
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [there], %2, [box]; }" ::
            "r"(shared_address(to)),
        "r"(shared_address(box)), "r"(__float_as_uint(value)), "r"(rank)
        : "memory");
}
DEV void mailbox_wait(Mailbox* box) {
    asm volatile(
        "{ .reg .pred done;\n"
        "again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], 0;\n"
        "@!done bra again; }" ::"r"(shared_address(box))
        : "memory");
}
#endif

DEV void keep_order() {}
DEV void prefetch(const void* p, int n_bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(n_bytes));
#else
    for (int i = 0; i < n_bytes; i += 128)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const char*>(p) + i));
#endif
}

DEV float half_to_float(uint16 half) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(half));
    return result;
}

DEV uint16 float_to_half(float value) {
    uint16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(value));
    return result;
}

DEV uint32 halves(float low, float high) {
    uint32 result;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}
// A byte is the mantissa of a half that is 1024 more.
DEV uint32 scaled_halves(uint32 four, int pair, uint32 scales) {
    const uint32 more = __byte_perm(four ^ 0x80808080u, 0x64646464u, pair ? 0x4342 : 0x4140);
    uint32 result;
    asm("{ .reg .b32 two; sub.rn.f16x2 two, %1, %2; mul.rn.f16x2 %0, two, %3; }"
        : "=r"(result)
        : "r"(more), "r"(0x64806480u), "r"(scales));  // 1024 + 128
    return result;
}
DEV uint32 from_other_half(uint32 v) {
    return __shfl_xor_sync(~0u, v, 16);
}

constexpr bool kCopiesAhead = true;
DEV void copy_ahead(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
                 : "memory");
}
DEV void end_of_group() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kLeft>
DEV void groups_left() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// A row's word j lies in lane 4 * row + j; a lane holds that word of rows r and r + 8.
constexpr int kLaneRows = 2, kLaneWords = 1;
DEV int lane_row(int i) {
    return (lane_index() >> 2) + 8 * i;
}
DEV int lane_word(int) {
    return lane_index() & 3;
}
DEV int tile_row(int i) {
    return (lane_index() >> 2) + 8 * ((i >> 1) & 1);
}
DEV int tile_col(int i) {
    return 2 * (lane_index() & 3) + (i & 1) + 8 * (i >> 2);
}

using LaneWords = uint32[kLaneRows][kLaneWords];

#define HAS_ROW_LOADS
DEV void load_rows(uint32 (&words)[2], const void* mine) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(words[0]), "=r"(words[1])
                 : "r"(shared_address(mine))
                 : "memory");
}
DEV void load_rows(uint32 (&words)[4], const void* mine) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(shared_address(mine))
                 : "memory");
}

// A tile is two halves of eight columns; without rows to fill it, the first is done alone.
constexpr int kFewHalves = 1;

template <int n_elements, int n_rows>
DEV void tile_add(int (&tile)[n_elements], const LaneWords& a,
                  const uint32 (&b)[n_rows][kLaneWords]) {
#pragma unroll
    for (int half = 0; half < n_elements / 4; ++half) {
        int* c = tile + 4 * half;
        asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
            "{%0,%1,%2,%3};"
            : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
            : "r"(a[0][0]), "r"(a[1][0]), "r"(b[half][0]));
    }
}

// As two calls of the above, for columns 0 to 15 and 16 to 31.
template <int n_elements, int n_rows>
DEV void tile_add(int (&tile)[n_elements], const LaneWords (&a)[2],
                  const uint32 (&b)[2][n_rows][kLaneWords]) {
#pragma unroll
    for (int half = 0; half < n_elements / 4; ++half) {
        int* c = tile + 4 * half;
        asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
            "{%8,%9}, {%0,%1,%2,%3};"
            : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
            : "r"(a[0][0][0]), "r"(a[0][1][0]), "r"(a[1][0][0]), "r"(a[1][1][0]),
              "r"(b[0][half][0]), "r"(b[1][half][0]));
    }
}

// Of halves, lane 4 * row + j holds words j and j + 4 of rows r and r + 8.
constexpr int kHalfWords = 2;
DEV int half_word(int j) {
    return (lane_index() & 3) + 4 * j;
}

using LaneHalves = uint32[kLaneRows][kHalfWords];

template <int n_elements>
DEV void tile_add(float (&tile)[n_elements], const LaneHalves& a, const LaneHalves& b) {
#pragma unroll
    for (int half = 0; half < n_elements / 4; ++half) {
        float* c = tile + 4 * half;
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
            "{%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0][0]), "r"(a[1][0]), "r"(a[0][1]), "r"(a[1][1]), "r"(b[half][0]),
              "r"(b[half][1]));
    }
}
