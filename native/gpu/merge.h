// The splits of attention's rows, merged in their order (split.h): by a kernel of its own, or by
// the blocks of the linear op that reads a single row's result, each for itself.
#pragma once

#include "attention.h"
#include "rounding.h"

// What one warp has merged of a row's head: each lane kDims / 32 neighbouring dimensions.
template <int kDims>
using Merged = float[kDims / kWarp];

// Of a short text: in turn, each lane for itself. What is run once should be short.
constexpr int kFewSplits = 4;

template <int kDims>
DEV void merge_few(const float* from, int n_splits, Merged<kDims>& out) {
    constexpr int kPer = kDims / kWarp, kFloats = kPartFloats<kDims>;
    Floats<2> sums[kFewSplits];
    Floats<kPer> values[kFewSplits];
#pragma unroll
    for (int i = 0; i < kFewSplits; ++i) {
        const float* part = from + (i < n_splits ? i : 0) * kFloats;
        sums[i] = *reinterpret_cast<const Floats<2>*>(part);
        values[i] = *reinterpret_cast<const Floats<kPer>*>(part + 4 + lane_index() * kPer);
    }
    float most = kNone, sum = n_splits > 0 ? 0 : 1;
#pragma unroll
    for (int j = 0; j < kPer; ++j) out[j] = 0;
#pragma unroll
    for (int i = 0; i < kFewSplits; ++i) {
        if (i >= n_splits) break;
        const Factors factors = factors_of(most, sums[i].at[0]);
        most = factors.most;
        sum = multiply_add(sum, factors.mine, sums[i].at[1] * factors.theirs);
#pragma unroll
        for (int j = 0; j < kPer; ++j)
            out[j] = multiply_add(out[j], factors.mine, values[i].at[j] * factors.theirs);
    }
    sum = inverse(sum);
#pragma unroll
    for (int j = 0; j < kPer; ++j) out[j] *= sum;
}

// All lanes of a warp come along; of no splits nothing is made. kAtOnce of them are asked for at
// once.
template <int kDims, int kAtOnce>
DEV void merge_splits(const float* from, int n_splits, Merged<kDims>& out) {
    if (n_splits <= kFewSplits) return merge_few<kDims>(from, n_splits, out);
    constexpr int kPer = kDims / kWarp, kFloats = kPartFloats<kDims>;
    const int lane = lane_index();
    float most = kNone, sum = n_splits > 0 ? 0 : 1;
#pragma unroll
    for (int j = 0; j < kPer; ++j) out[j] = 0;
#pragma unroll 1
    for (int first = 0; first < n_splits; first += kWarp, from += kWarp * kFloats) {
        const int n = n_splits - first < kWarp ? n_splits - first : kWarp;
        // A lane has one split's largest score and sum. What it and all before it are multiplied by
        // follows from the largest so far, without waiting for one after another.
        const Floats<2> mine =
            *reinterpret_cast<const Floats<2>*>(from + (lane < n ? lane : 0) * kFloats);
        Floats<kPer> values[kAtOnce];
        const auto load_values = [&](int i) {  // of no split nothing
            const float* values_of = from + i * kFloats + 4 + lane * kPer;
#pragma unroll
            for (int j = 0; j < kAtOnce; ++j, values_of += kFloats)
                values[j] =
                    i + j < n ? *reinterpret_cast<const Floats<kPer>*>(values_of) : Floats<kPer>{};
        };
        load_values(0);
        const float my_most = lane < n ? mine.at[0] : kNone;  // and weighs nothing
        float so_far = larger(most, my_most);
#pragma unroll
        for (int distance = 1; distance < kWarp; distance *= 2) {
            const float before = shuffle(so_far, lane >= distance ? lane - distance : lane);
            so_far = larger(so_far, before);
        }
        const float left = shuffle(so_far, lane > 0 ? lane - 1 : 0);
        const Factors factors = factors_of(lane > 0 ? left : most, my_most);
        const float my_sum = mine.at[1] * factors.theirs;
        most = shuffle(so_far, kWarp - 1);
#pragma unroll 1
        for (int i = 0; i < n; i += kAtOnce) {
            if (i > 0) load_values(i);
#pragma unroll
            for (int j = 0; j < kAtOnce; ++j) {
                const float before = shuffle(factors.mine, i + j);
                const float here = shuffle(factors.theirs, i + j);
                sum = multiply_add(sum, before, shuffle(my_sum, i + j));
#pragma unroll
                for (int k = 0; k < kPer; ++k)
                    out[k] = multiply_add(out[k], before, values[j].at[k] * here);
            }
        }
    }
    sum = inverse(sum);
#pragma unroll
    for (int j = 0; j < kPer; ++j) out[j] *= sum;
}

// A row's head, merged, and rounded where `to` is not null. `mosts` are shared by the block's
// kWarps warps, of which those with the heads of 256 dimensions lie side by side; with `is_super`
// all come.
template <int kDims, int kAtOnce, int kWarps, class To>
DEV void merge_head(const AttentionArgs& a, const Step& s, int row, int head, bool exists,
                    const To& to, int is_super, float* mosts) {
    constexpr int kPer = kDims / kWarp;
    constexpr int kHeads = kStretch / kDims < kWarps ? kStretch / kDims : kWarps;
    const int n_splits = exists ? (keys_of(a, s, row).end - 1) / kSplitKeys + 1 : 0;
    const int64 at = int64(row) * a.n_head + head;
    Merged<kDims> merged;
    merge_splits<kDims, kAtOnce>(a.partial + at * a.n_splits * kPartFloats<kDims>, n_splits,
                                 merged);
    if (!to.numbers) {
        if (!exists) return;
        Floats<kPer> mine;
#pragma unroll
        for (int j = 0; j < kPer; ++j) mine.at[j] = merged[j];
        *reinterpret_cast<Floats<kPer>*>(a.out + at * kDims + lane_index() * kPer) = mine;
        return;
    }
    float most = most_of(merged, is_super);
    if (is_super) {  // the heads of 256 dimensions share a scale
        if (lane_index() == 0) mosts[warp_index()] = most;
        block_sync();
        const int beside = warp_index() / kHeads * kHeads;
#pragma unroll
        for (int w = 0; w < kHeads; ++w) most = larger(most, mosts[beside + w]);
    }
    const int width = exists ? a.n_head * kDims : 0;
    write_rounded(to, row, head * kDims + lane_index() * kPer, width, merged, most);
}

// Where `rounded` is null, the result is written as it is.
struct MergeArgs {
    AttentionArgs attention;
    void* rounded;
    float* scales;
    int is_super, pad;
};

// Heads of 32 dimensions share a scale by eights.
template <int kDims>
constexpr int kMergeWarps = kDims == 32 ? 8 : 4;

// A warp for each row and head.
template <int kDims, class Number = int8, class To = RoundedRows<kTileRows>>
DEV void attention_merge(const MergeArgs& a) {
    constexpr int kWarps = kMergeWarps<kDims>;
    SHARED float mosts[kWarps];
    const AttentionArgs& all = a.attention;
    const Step step = *all.step;
    begin_after_others();
    const int row = block_y(), head = block_x() * kWarps + warp_index();
    if (row >= rows_of(step, all.is_selected)) return;
    const To to{static_cast<Number*>(a.rounded), a.scales, all.n_head * kDims / kBlock};
    merge_head<kDims, 512 / kDims, kWarps>(all, step, row, head, head < all.n_head, to, a.is_super,
                                           mosts);
}

KERNEL(attention_merge_32, kMergeWarps<32>* kWarp, MergeArgs) {
    attention_merge<32>(a);
}
KERNEL(attention_merge_64, kMergeWarps<64>* kWarp, MergeArgs) {
    attention_merge<64>(a);
}
KERNEL(attention_merge_128, kMergeWarps<128>* kWarp, MergeArgs) {
    attention_merge<128>(a);
}
KERNEL(attention_merge_half_32, kMergeWarps<32>* kWarp, MergeArgs) {
    attention_merge<32, uint16, HalfRows>(a);
}
KERNEL(attention_merge_half_64, kMergeWarps<64>* kWarp, MergeArgs) {
    attention_merge<64, uint16, HalfRows>(a);
}
KERNEL(attention_merge_half_128, kMergeWarps<128>* kWarp, MergeArgs) {
    attention_merge<128, uint16, HalfRows>(a);
}

// One row by all warps of a block, to where only it reads it. `mosts` has room for two numbers a
// warp.
template <int kDims, int kWarps>
DEV void merge_one(const AttentionArgs& a, const Step& s, const RoundedRows<1>& to, int is_super,
                   float* mosts) {
    constexpr int kAtOnce = kDims == 64 ? 16 : 8;
    int turn = 0;
#pragma unroll 1
    for (int first = 0; first < a.n_head; first += kWarps, turn ^= kWarps) {
        const int head = first + warp_index();
        merge_head<kDims, kAtOnce, kWarps>(a, s, 0, head, head < a.n_head, to, is_super,
                                           mosts + turn);
    }
}
