// AMD: RDNA 3 (gfx11) and RDNA 4 (gfx12), wave32. Compiled by clang or HIPRTC without device
// libraries: everything is a compiler builtin.
#pragma once

#ifndef __HIPCC_RTC__
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#endif
#define KERNEL(name, threads, Args)                                                           \
    extern "C" __global__ void __attribute__((amdgpu_flat_work_group_size(1, threads))) name( \
        const Args a)
#define DENSE_KERNEL(name, threads, n_blocks, Args) KERNEL(name, threads, Args)
#define DEV static __device__ inline __attribute__((always_inline))
#define DEV_MEMBER __device__ inline __attribute__((always_inline))
#define SHARED __shared__

DEV unsigned char* launch_shared() {
    extern __shared__ __attribute__((aligned(16))) unsigned char memory[];
    return memory;
}

DEV int thread_index() {
    return __builtin_amdgcn_workitem_id_x();
}
DEV int lane_index() {
    return __builtin_amdgcn_mbcnt_lo(~0u, 0);
}
DEV int block_x() {
    return __builtin_amdgcn_workgroup_id_x();
}
DEV int n_blocks_x() {
    return __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x();
}
DEV int block_y() {
    return __builtin_amdgcn_workgroup_id_y();
}
DEV int block_z() {
    return __builtin_amdgcn_workgroup_id_z();
}
DEV void block_sync() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
DEV void warp_sync() {
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
}

DEV void begin_after_others() {}
DEV void prefetch(const void*, int) {}
DEV void keep_order() {
    __builtin_amdgcn_sched_barrier(0);
}

DEV int shuffle(int v, int lane) {
    return __builtin_amdgcn_ds_bpermute(lane << 2, v);
}
DEV float shuffle(float v, int lane) {
    return __builtin_bit_cast(float, shuffle(__builtin_bit_cast(int, v), lane));
}
DEV int shuffle_xor(int v, int mask) {
    return shuffle(v, lane_index() ^ mask);
}
DEV float shuffle_xor(float v, int mask) {
    return shuffle(v, lane_index() ^ mask);
}

DEV float multiply_add(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
DEV float exp2_of(float x) {
    return __builtin_amdgcn_exp2f(x);
}
DEV float maximum(float a, float b) {
    return __builtin_fmaxf(a, b);
}
DEV float log_of(float x) {
    return __builtin_amdgcn_logf(x) * 0.693147180559945309417f;
}
DEV float inverse_root(float x) {
    return __builtin_amdgcn_rsqf(x);
}
DEV float inverse(float x) {
    return __builtin_amdgcn_rcpf(x);
}
DEV int dot4(uint32 a, uint32 b, int sum) {
    return __builtin_amdgcn_sudot4(true, int(a), true, int(b), sum, false);
}
DEV float nearest(float x) {
    return __builtin_rintf(x);
}
DEV float magnitude(float x) {
    return __builtin_fabsf(x);
}
DEV float bits_to_float(uint32 bits) {
    return __builtin_bit_cast(float, bits);
}
DEV uint32 float_to_bits(float x) {
    return __builtin_bit_cast(uint32, x);
}
DEV float half_to_float(uint16 half) {
    return float(__builtin_bit_cast(_Float16, half));
}
DEV uint16 float_to_half(float value) {
    return __builtin_bit_cast(uint16, _Float16(value));
}

DEV uint32 halves(float low, float high) {
    return uint32(float_to_half(low)) | uint32(float_to_half(high)) << 16;
}
// A byte is the mantissa of a half that is 1024 more.
DEV uint32 scaled_halves(uint32 four, int pair, uint32 scales) {
    using Two = _Float16 __attribute__((ext_vector_type(2)));
    const uint32 more =
        __builtin_amdgcn_perm(0x64646464u, four ^ 0x80808080u, pair ? 0x04030402u : 0x04010400u);
    const Two numbers = __builtin_bit_cast(Two, more) - _Float16(1024 + 128);
    return __builtin_bit_cast(uint32, numbers * __builtin_bit_cast(Two, scales));
}
DEV uint32 from_other_half(uint32 v) {
    return __builtin_amdgcn_permlanex16(v, v, 0x76543210u, 0xfedcba98u, false, false);
}

constexpr bool kCopiesAhead = false;
DEV void copy_ahead(void* to, const void* from) {
    // Said to be of device memory: a load that might be of any waits for shared memory, too.
    using Words = int __attribute__((ext_vector_type(4)));
    using DeviceWords = const __attribute__((address_space(1))) Words;
    *static_cast<Words*>(to) = *(DeviceWords*)from;
}
DEV void end_of_group() {}
template <int kLeft>
DEV void groups_left() {}

using IntTile = int __attribute__((ext_vector_type(8)));

constexpr int kLaneRows = 1;
DEV int lane_row(int) {
    return lane_index() & 15;
}
DEV int tile_col(int) {
    return lane_index() & 15;
}

#if defined(__GFX12__)
// A lane holds half of its row's words; its elements are eight neighbouring rows.
constexpr int kLaneWords = 2, kHalfWords = 4;
using Operand = int __attribute__((ext_vector_type(2)));
DEV int half_word(int j) {
    return 4 * (lane_index() >> 4) + j;
}
DEV int lane_word(int j) {
    return 2 * (lane_index() >> 4) + j;
}
DEV int tile_row(int i) {
    return i + 8 * (lane_index() >> 4);
}
#define WMMA_INT8 __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32_gfx12
#define WMMA_HALF __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12
#else
// Both halves of the wave hold whole rows; their elements are the even and the odd ones.
constexpr int kLaneWords = 4, kHalfWords = 8;
using Operand = int __attribute__((ext_vector_type(4)));
DEV int half_word(int j) {
    return j;
}
DEV int lane_word(int j) {
    return j;
}
DEV int tile_row(int i) {
    return 2 * i + (lane_index() >> 4);
}
#define WMMA_INT8 __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32
#define WMMA_HALF __builtin_amdgcn_wmma_f32_16x16x16_f16_w32
#endif

using LaneWords = uint32[kLaneRows][kLaneWords];
constexpr int kFewHalves = 2;  // there are no half tiles

DEV void tile_add(int (&tile)[8], const LaneWords& a, const LaneWords& b) {
    Operand left, right;
    IntTile sum;
    for (int j = 0; j < kLaneWords; ++j) {
        left[j] = int(a[0][j]);
        right[j] = int(b[0][j]);
    }
    for (int i = 0; i < 8; ++i) sum[i] = tile[i];
    sum = WMMA_INT8(true, left, true, right, sum, false);
    for (int i = 0; i < 8; ++i) tile[i] = sum[i];
}

DEV void tile_add(int (&tile)[8], const LaneWords (&a)[2], const LaneWords (&b)[2]) {
    tile_add(tile, a[0], b[0]);
    tile_add(tile, a[1], b[1]);
}

using LaneHalves = uint32[kLaneRows][kHalfWords];
using HalfOperand = _Float16 __attribute__((ext_vector_type(2 * kHalfWords)));
using FloatTile = float __attribute__((ext_vector_type(8)));

DEV void tile_add(float (&tile)[8], const LaneHalves& a, const LaneHalves& b) {
    HalfOperand left, right;
    FloatTile sum;
    __builtin_memcpy(&left, a, sizeof left);
    __builtin_memcpy(&right, b, sizeof right);
    for (int i = 0; i < 8; ++i) sum[i] = tile[i];
    sum = WMMA_HALF(left, right, sum);
    for (int i = 0; i < 8; ++i) tile[i] = sum[i];
}
