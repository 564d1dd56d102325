// Quantized linear with vector registers: kSets groups of kLanes weight rows at a time, straight
// from the file's layout.
//
// A register holds four columns of every row of a group (linear_unpack.h) and meets one broadcast
// group of an activation row; nothing is summed across lanes. 32 columns of all groups stay in
// registers for all activation rows: unpacking is paid once, a broadcast serves every group.
// Written in the names of lanes_avx2.h, lanes_avx512.h and lanes_neon.h.
#pragma once

#include "linear_unpack.h"

namespace native::cpu::KERNEL_ISA {

constexpr int kRowTile = 64;  // activation rows per pass; their accumulators stay in L1
static_assert(kRowGroup % kLanes == 0, "threads share out whole groups of rows");

// Rows [t0, t0 + n_rows) of the activations of one block.
struct ActivationRows {
    const Activations& activations;
    int64_t first_slot, n_rows;
};

// acc (T, kSets, kLanes) += one block of 32 columns.
template <class Weights, int kSets>
inline void add_block(const ActivationRows& rows, const IntLanes (&w)[kSets][8],
                      const FloatLanes* d, const FloatLanes* m, float* acc) {
    const auto* sums = static_cast<const int32_t*>(rows.activations.sum) + rows.first_slot;
    const float* scales = rows.activations.scale + rows.first_slot;
    const int8_t* x = rows.activations.q + rows.first_slot * kBlock;
    for (int64_t t = 0; t < rows.n_rows; ++t, x += kBlock, acc += kSets * kLanes) {
        IntLanes isum[kSets];
        for (int i = 0; i < kSets; ++i) isum[i] = zero_lanes();
        add_dot<Weights::kSums, 8>(w, 0, x, isum);
        if constexpr (Weights::kOffset != 0)
            for (int i = 0; i < kSets; ++i)
                isum[i] = sub32(isum[i], splat32(Weights::kOffset * sums[t]));
        const FloatLanes scale = splat_lanes(scales[t]);
        for (int i = 0; i < kSets; ++i) {
            FloatLanes y = load_lanes(acc + i * kLanes);
            y = fma_lanes(to_float(isum[i]), multiply(d[i], scale), y);
            if constexpr (Weights::kHasMinimum)
                y = fma_lanes(splat_lanes(float(sums[t])), multiply(m[i], scale), y);
            store_lanes(acc + i * kLanes, y);
        }
    }
}

// Flattened: arrays of registers that went through a call would have to lie in memory.
template <class Block, int kSets>
__attribute__((flatten)) inline void linear_q8_rows(const LinearArgs& a, int64_t r0, int64_t end,
                                                    bool is_first) {
    using Weights = Q8Weights<Block>;
    constexpr int kWidth = kSets * kLanes;
    alignas(64) float acc[kRowTile * kWidth];
    WeightRows<Block> rows(a, r0);
    int64_t n_fetched = 0;
    for (int64_t t0 = 0; t0 < a.n_rows; t0 += kRowTile) {
        const int64_t n_rows = a.n_rows - t0 < kRowTile ? a.n_rows - t0 : kRowTile;
        for (int64_t i = 0; i < n_rows * kSets; ++i) store_lanes(acc + i * kLanes, splat_lanes(0));
        for (int64_t b = 0; b < a.n_cols / kBlock; ++b) {
            if (t0 == 0) prefetch_next_group<Block>(a, r0, b, kWidth);
            if (t0 == 0 && is_first) prefetch_this_group<Block>(a, r0, b, kWidth, &n_fetched);
            IntLanes w[kSets][8];
            FloatLanes d[kSets], m[kSets];
#pragma GCC unroll 2
            for (int i = 0; i < kSets; ++i) Weights::unpack(rows.block(b, i), w[i], &d[i], &m[i]);
            add_block<Weights>({a.activations, b * a.n_rows + t0, n_rows}, w, d, m, acc);
        }
        write_group(a, acc, kWidth, t0, n_rows, r0, end - r0 < kWidth ? end - r0 : kWidth);
    }
}

// isum (T, kSets, kLanes) += sub-blocks of a pair from the first-th on, times their scales: so many
// that their weights fit the registers.
template <class Weights, int kSets>
inline void add_sub_blocks(const ActivationRows& rows, int pair, int first,
                           const IntLanes (&packed)[kSets][8], const SuperHead* head,
                           int32_t* isum) {
    constexpr int kSubBlocks = kMostSets / kSets, kScales = 8 / Weights::kGroupsOfScale;
    IntLanes weights[kSubBlocks][kSets][8];
    ScaleLanes scale[kSubBlocks][kScales][kSets];
    for (int s = 0; s < kSubBlocks; ++s)
        for (int i = 0; i < kSets; ++i) {
            Weights::unpack(packed[i], head[i], pair, first + s, weights[s][i]);
            for (int k = 0; k < kScales; ++k)
                scale[s][k][i] = head[i].scale[kScales * Weights::sub_block(pair, first + s) + k];
        }
    const int8_t* x = rows.activations.q + rows.first_slot * kSuperBlock;
    for (int64_t t = 0; t < rows.n_rows; ++t, x += kSuperBlock, isum += kSets * kLanes) {
        IntLanes total[kSets];
        for (int i = 0; i < kSets; ++i) total[i] = load_lanes(isum + i * kLanes);
        for (int s = 0; s < kSubBlocks; ++s)
            for (int k = 0; k < kScales; ++k) {
                constexpr int kCount = Weights::kGroupsOfScale;
                add_scaled_dot<Weights::kSums, kCount>(
                    weights[s], k * kCount,
                    x + kBlock * Weights::sub_block(pair, first + s) + 4 * k * kCount, scale[s][k],
                    total);
            }
        for (int i = 0; i < kSets; ++i) store_lanes(isum + i * kLanes, total[i]);
    }
}

// acc (T, kSets, kLanes) += a super-block's integer sums, less the minima times the activations.
template <class Block, int kSets>
inline void add_super_block(const ActivationRows& rows, const SuperHead* head, const int32_t* isum,
                            float* acc) {
    // Without a minimum of its own, a type's minima stand for its offset and share its scale.
    constexpr bool kHasMinimum = requires(Block block) { block.dmin; };
    const auto* sums = static_cast<const int16_t*>(rows.activations.sum) + rows.first_slot * 16;
    const float* scales = rows.activations.scale + rows.first_slot;
    for (int64_t t = 0; t < rows.n_rows; ++t, sums += 16) {
        IntLanes msum[kSets];
        for (int i = 0; i < kSets; ++i) msum[i] = zero_lanes();
        for (int s = 0; s < 8; ++s) {
            const IntLanes pair = broadcast_group(sums + 2 * s);
            for (int i = 0; i < kSets; ++i)
                msum[i] = add_pair_products(msum[i], head[i].minimum[s], pair);
        }
        const FloatLanes scale = splat_lanes(scales[t]), negative = splat_lanes(-scales[t]);
        for (int i = 0; i < kSets; ++i, isum += kLanes, acc += kLanes) {
            IntLanes total = load_lanes(isum);
            if constexpr (!kHasMinimum) total = sub32(total, msum[i]);
            FloatLanes y = load_lanes(acc);
            y = fma_lanes(to_float(total), multiply(head[i].d, scale), y);
            if constexpr (kHasMinimum)
                y = fma_lanes(to_float(msum[i]), multiply(head[i].dmin, negative), y);
            store_lanes(acc, y);
        }
    }
}

template <class Block, int kSets>
__attribute__((flatten)) inline void linear_q8k_rows(const LinearArgs& a, int64_t r0, int64_t end,
                                                     bool is_first) {
    using Weights = Q8KWeights<Block>;
    constexpr int kWidth = kSets * kLanes;
    alignas(64) float acc[kRowTile * kWidth];
    alignas(64) int32_t isum[kRowTile * kWidth];
    WeightRows<Block> rows(a, r0);
    int64_t n_fetched = 0;
    for (int64_t t0 = 0; t0 < a.n_rows; t0 += kRowTile) {
        const int64_t n_rows = a.n_rows - t0 < kRowTile ? a.n_rows - t0 : kRowTile;
        for (int64_t i = 0; i < n_rows * kSets; ++i) store_lanes(acc + i * kLanes, splat_lanes(0));
        for (int64_t b = 0; b < a.n_cols / kSuperBlock; ++b) {
            if (t0 == 0 && is_first) prefetch_this_group<Block>(a, r0, b, kWidth, &n_fetched);
            const ActivationRows x{a.activations, b * a.n_rows + t0, n_rows};
            for (int64_t i = 0; i < n_rows * kSets; ++i)
                store_lanes(isum + i * kLanes, zero_lanes());
            SuperHead head[kSets];
#pragma GCC unroll 2
            for (int i = 0; i < kSets; ++i) Weights::unpack_head(rows.block(b, i), &head[i]);
#pragma GCC unroll 4
            for (int pair = 0; pair < 4; ++pair) {
                IntLanes packed[kSets][8];
#pragma GCC unroll 2
                for (int i = 0; i < kSets; ++i) {
                    if (t0 == 0)
                        prefetch_ahead<Block>(a, r0, b, kWidth, pair * kSets + i, 4 * kSets);
                    gather32(rows.block(b, i), Weights::kPairs + 32 * pair, packed[i]);
                }
#pragma GCC unroll 2
                for (int s = 0; s < 2; s += kMostSets / kSets)
                    add_sub_blocks<Weights, kSets>(x, pair, s, packed, head, isum);
            }
            add_super_block<Block, kSets>(x, head, isum, acc);
        }
        write_group(a, acc, kWidth, t0, n_rows, r0, end - r0 < kWidth ? end - r0 : kWidth);
    }
}

// rows<n>(r0) computes n groups of weight rows from r0 on: `most` at a time, then one by one.
template <class Rows>
inline void for_each_group(int64_t begin, int64_t end, int most, Rows&& rows) {
    int64_t r0 = begin;
    if constexpr (kMostSets > 1)
        for (; most == kMostSets && r0 + kMostSets * kLanes <= end; r0 += kMostSets * kLanes)
            rows.template operator()<kMostSets>(r0);
    for (; r0 < end; r0 += kLanes) rows.template operator()<1>(r0);
}

template <class Block>
inline void linear_q8(const LinearArgs& a, int64_t begin, int64_t end) {
    for_each_group(begin, end, kMostSets, [&]<int kSets>(int64_t r0) {
        linear_q8_rows<Block, kSets>(a, r0, end, r0 == begin);
    });
}

// One activation row shares no broadcast with a second: there a pair of sub-blocks in registers
// gains more than a second group.
template <class Block>
inline void linear_q8k(const LinearArgs& a, int64_t begin, int64_t end) {
    for_each_group(begin, end, a.n_rows > 1 ? kMostSets : 1, [&]<int kSets>(int64_t r0) {
        linear_q8k_rows<Block, kSets>(a, r0, end, r0 == begin);
    });
}

}  // namespace native::cpu::KERNEL_ISA
