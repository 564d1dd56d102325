// The dialect all kernels are written in, for CUDA (nvcc, NVRTC), HIP (clang, HIPRTC; wave32) and
// emulation on the host.
//
// Beside the usual words (KERNEL, DEV, SHARED, block_sync, shuffle) each platform has the integer
// matrix unit as a *tile*: the products of 16 rows of one int8 matrix with 16 rows of another, over
// 16 columns a time. A row's 16 columns are four 32-bit words; which rows and words a lane must
// hold, and which products it then gets, is the platform's affair:
//   kLaneRows, kLaneWords           how many rows, and words of each, a lane holds
//   lane_row(i), lane_word(j)       which ones
//   tile_row(i), tile_col(i)        whose product element i (0..7) of a lane's tile is
//   tile_add(tile, a, b)            tile += a b^T
//   kFewHalves                      1 where half a tile, elements 0 to 3 and columns 0 to 7, is
//                                   less work than a whole one, or 2
// and the same for halves: a row's 16 columns are eight words, of which a lane holds kHalfWords,
// half_word(j); the products are floats, each the sum of one row's alone.
// copy_ahead(to, from) begins to copy 16 bytes of device memory to shared memory, where
// kCopiesAhead, and does it otherwise; end_of_group() ends a group of copies, groups_left<n>()
// waits until n are under way.
// Where HAS_ROW_LOADS, load_rows(words, mine) loads as many matrices of eight rows of 16 bytes from
// shared memory as there are words: lane 8 i + r has the place of row r of matrix i, and each lane
// gets word lane % 4 of row lane / 4 of each.
// launch_shared() is the shared memory that a launch asks for beside a kernel's own.
// halves(low, high) are two numbers in a word, from_other_half(v) what the lane 16 away shows;
// exp2_of may take for zero what is too small to be normal, maximum may pass over NaN.
// scaled_halves(four, pair, scales) are the first or second two of four int8, times a half each.
// dot4(a, b, sum) adds the products of four int8; the last bits of inverse and inverse_root may be
// wrong.
// A DENSE_KERNEL takes few enough registers for n_blocks of it to share a multiprocessor.
// begin_after_others() waits for the kernels before this one, where they may still be running; the
// step's inputs and constants may be read before it. By prefetch(p, n) one thread asks for n bytes
// from p, both multiples of 16, before they are needed.
// Where HAS_CLUSTERS, neighbouring blocks of a CLUSTER_KERNEL along x are launched as a cluster.
// Each opens a Mailbox in its launch_shared() for so many bytes, by all its threads; after
// mailboxes_opened() each may post(to, value, box, rank): a number to where the block of that rank
// has what lies at `to` in one's own; and after mailbox_wait(box), by all threads of all blocks,
// what was posted is there.
// keep_order() keeps a compiler that would load everything first from running out of registers.
// No system header is used, so that run-time compilers need nothing but this source.
#pragma once

using int8 = signed char;
using uint8 = unsigned char;
using uint16 = unsigned short;
using uint32 = unsigned int;
using int64 = long long;
using uint64 = unsigned long long;

#if defined(GPU_EMULATED)
#include "platform_emulated.h"
#elif defined(__CUDACC__) || defined(__CUDACC_RTC__)
#include "platform_cuda.h"
#else
#include "platform_hip.h"
#endif

constexpr int kWarp = 32;

// Where a block stands in the grid of an op.
struct Place {
    int x, y, z;
};

DEV Place block_place() {
    return {block_x(), block_y(), block_z()};
}

DEV int warp_index() {
    return thread_index() >> 5;
}

// The same sum whatever lane asks: a fixed tree over the lanes.
DEV float warp_sum(float v) {
    v += shuffle_xor(v, 16);
    v += shuffle_xor(v, 8);
    v += shuffle_xor(v, 4);
    v += shuffle_xor(v, 2);
    return v + shuffle_xor(v, 1);
}

DEV float larger(float a, float b) {
    return a > b ? a : b;
}

DEV uint32 larger(uint32 a, uint32 b) {
    return a > b ? a : b;
}

DEV float warp_max(float v) {
    v = larger(v, shuffle_xor(v, 16));
    v = larger(v, shuffle_xor(v, 8));
    v = larger(v, shuffle_xor(v, 4));
    v = larger(v, shuffle_xor(v, 2));
    return larger(v, shuffle_xor(v, 1));
}

constexpr float kLog2E = 1.44269504088896340736f;

DEV float exp_of(float x) {
    return exp2_of(x * kLog2E);
}
