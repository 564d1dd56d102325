// Attention by the rule of split.h. Where rows are few, each warp takes a split from the cache, and
// the splits are merged by another kernel; or all splits, where there is no room for their parts.
// Where rows are many (prefill.h), the warps of a block have queries of their own and take every
// split from shared memory.
#pragma once

#include "split.h"

// Whether there are registers for a split's values while it is scored: lanes that hold two words a
// row have them for all but the largest heads.
template <int kDims>
constexpr bool kIsEarly = kHalfWords == 2 && kDims <= 64;

// What a warp does with a split: keep it apart, or add it to those before it.
template <int kDims>
struct Apart {
    static constexpr bool kEarly = kIsEarly<kDims>;
    RowPlaces to;

    template <class From>
    DEV_MEMBER void take(const Weighed& w, const From& from) {
#pragma unroll
        for (int row = 0; row < kLaneRows; ++row)
            if (to.at[row]) to.at[row][0] = w.most[row], to.at[row][1] = w.sum[row];
#pragma unroll From::kAtOnce
        for (int d = 0; d < kDims / 16; ++d) {
            float sums[8] = {};
            add_values(w, from, d, sums);
#pragma unroll
            for (int i = 0; i < 8; ++i)
                if (float* at = to.at[element_row(i)]) at[2 + 16 * d + element_col(i)] = sums[i];
            keep_order();
        }
    }
};

// The sums of values are kept where the result will be: what takes this way is long and rare.
template <int kDims>
struct Added {
    static constexpr bool kEarly = false;
    RowPlaces to;
    Sums all;

    template <class From>
    DEV_MEMBER void take(const Weighed& w, const From& from) {
        Factors factors[kLaneRows];
        all.add(w, factors);
#pragma unroll 1
        for (int d = 0; d < kDims / 16; ++d) {
            float sums[8] = {};
            add_values(w, from, d, sums);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const Factors& f = factors[element_row(i)];
                float* at = to.at[element_row(i)];
                if (!at) continue;
                float& out = at[16 * d + element_col(i)];
                out = multiply_add(out, f.mine, sums[i] * f.theirs);
            }
        }
    }

    // With `is_first` the places are emptied, otherwise sums are divided by those of the weights.
    DEV_MEMBER void end(bool is_first) {
#pragma unroll
        for (int row = 0; row < kLaneRows; ++row)
#pragma unroll 1
            for (int d = 0; d < kDims / 16; ++d)
#pragma unroll
                for (int i = 0; i < 8; ++i) {
                    if (element_row(i) != row || !to.at[row]) continue;
                    float& out = to.at[row][16 * d + element_col(i)];
                    out = is_first ? 0.0f : out / all.sum[row];
                }
    }
};

template <int kDims, class From, class To>
DEV void run_from(const AttentionArgs& a, const Asked<kDims>& asked, const From& from, int first,
                  To& to) {
    Weighed w;
    weigh(asked, from, first, a.scale * kLog2E, w);
    to.take(w, from);
}

// The keys of `row` and their values from `first` on, for all queries of the warp.
template <int kDims, class To>
DEV void run_split(const AttentionArgs& a, const Step& s, const Asked<kDims>& asked, int row,
                   int kv_head, int first, To& to) {
    if (!a.is_block && !s.is_chain && first + kSplitKeys > s.n_past) {
        const Gathered<kDims> from = gathered<kDims>(a, s, row, kv_head, first, asked.end);
        run_from(a, asked, from, first, to);
        return;
    }
    const FromCache<kDims> from = from_cache<kDims>(a, s, kv_head, first, asked.end);
    if constexpr (To::kEarly) {
        Early<kDims, FromCache<kDims>> early{from, from.n_left, {}};
#pragma unroll
        for (int d = 0; d < kDims / 16; ++d)
#pragma unroll
            for (int block = 0; block < kSplitBlocks; ++block)
                from.values(block, d, early.held[d][block]);
        run_from(a, asked, early, first, to);
    } else {
        run_from(a, asked, from, first, to);
    }
}

// A block for each KV head and tile of queries, and for as many splits as it has warps; the parts
// are merged by another kernel.
template <int kDims, int kWarps>
DEV void attention_parts_at(const AttentionArgs& a, const Step& step, Place at) {
    const Queries queries = queries_of(a, step);
    const int tile = at.z, split = at.x * kWarps + warp_index();
    if (queries.row(tile, 0) >= queries.n_rows) return;
    if (split * kSplitKeys >= step.n_past + step.n_rows) return;
    Asked<kDims> asked;
    ask(a, step, queries, at.y, tile, asked);
    if (split * kSplitKeys >= asked.end) return;
    const int row = keys_of(a, step, queries.row(tile, 0)).row;
    constexpr int stride = 2 + kDims;
    float* partial = a.partial + split * stride;
    Apart<kDims> apart{places_of(a, queries, at.y, tile, partial, int64(a.n_splits) * stride)};
    run_split(a, step, asked, row, at.y, split * kSplitKeys, apart);
}

// A block for each KV head and as many tiles of queries as it has warps, each of which takes all
// splits in order.
template <int kDims, int kWarps>
DEV void attention_whole_at(const AttentionArgs& a, const Step& step, Place at) {
    const Queries queries = queries_of(a, step);
    const int tile = at.z * kWarps + warp_index();
    if (queries.row(tile, 0) >= queries.n_rows) return;
    Asked<kDims> asked;
    ask(a, step, queries, at.y, tile, asked);
    const int row = keys_of(a, step, queries.row(tile, 0)).row;
    Added<kDims> added{places_of(a, queries, at.y, tile, a.out, kDims), no_sums()};
    added.end(true);
#pragma unroll 1
    for (int first = asked.first / kSplitKeys * kSplitKeys; first < asked.end; first += kSplitKeys)
        run_split(a, step, asked, row, at.y, first, added);
    added.end(false);
}

// Has the keys and values of a split on their way while other kernels still run.
template <int kDims>
DEV void prefetch_split(const AttentionArgs& a, const Step& s, int kv_head_index, int split) {
    const int first = split * kSplitKeys + lane_index() * kKvBlock;
    if (lane_index() < kSplitBlocks && first < s.n_past)
        prefetch(kv_head(a.kv, s.blocks[first / kKvBlock], kv_head_index), 4 * kKvBlock * kDims);
}

template <int kDims>
DEV void attention(const AttentionArgs& a) {
    const Step step = *a.step;
    if (block_z() == 0)
        prefetch_split<kDims>(a, step, block_y(), block_x() * kAttentionWarps + warp_index());
    begin_after_others();
    attention_parts_at<kDims, kAttentionWarps>(a, step, block_place());
}

template <int kDims>
DEV void attention_whole(const AttentionArgs& a) {
    const Step step = *a.step;
    begin_after_others();
    attention_whole_at<kDims, kAttentionWarps>(a, step, block_place());
}

KERNEL(attention_32, kAttentionThreads, AttentionArgs) {
    attention<32>(a);
}
KERNEL(attention_64, kAttentionThreads, AttentionArgs) {
    attention<64>(a);
}
KERNEL(attention_128, kAttentionThreads, AttentionArgs) {
    attention<128>(a);
}
KERNEL(attention_whole_32, kAttentionThreads, AttentionArgs) {
    attention_whole<32>(a);
}
KERNEL(attention_whole_64, kAttentionThreads, AttentionArgs) {
    attention_whole<64>(a);
}
KERNEL(attention_whole_128, kAttentionThreads, AttentionArgs) {
    attention_whole<128>(a);
}

// As attention's arguments; where `rounded` is not null, the result is rounded on its way, by
// blocks of 32 or 256, as rows.h does it.
struct MergeArgs {
    AttentionArgs attention;
    int8* rounded;
    float* scales;
    int is_super, pad;
};

constexpr int kMergeThreads = 256;  // the eight heads of 32 dimensions that may share a scale

template <int kWarps>
struct MergeShared {
    float of_warp[kWarps];
};

// Merges the splits: a warp for each row and head, a lane for every 32nd dimension.
template <int kDims, int kWarps>
DEV void merge_at(const MergeArgs& a, const Step& s, Place place, MergeShared<kWarps>& shared) {
    constexpr int kPerLane = kDims / kWarp, kStride = 2 + kDims;
    constexpr int kAtOnce = 16;  // splits whose values are under way
    const AttentionArgs& all = a.attention;
    const int head = place.x * kWarps + warp_index(), row = place.y, lane = lane_index();
    if (row >= rows_of(s, all.is_selected)) return;
    const bool exists = head < all.n_head;
    const int n_splits = exists ? (keys_of(all, s, row).end - 1) / kSplitKeys + 1 : 0;
    const int at = row * all.n_head + head;
    const float* from = all.partial + int64(at) * all.n_splits * kStride;
    float most = kNone, sum = exists ? 0 : 1, out[kPerLane] = {};
#pragma unroll 1
    for (int first = 0; first < n_splits; first += kWarp, from += kWarp * kStride) {
        const int n = n_splits - first < kWarp ? n_splits - first : kWarp;
        float loaded[kAtOnce][kPerLane];
        const auto load = [&](int i) {
            const float* values = from + i * kStride + 2 + lane;
#pragma unroll
            for (int k = 0; k < kAtOnce; ++k)
#pragma unroll
                for (int j = 0; j < kPerLane; ++j)
                    loaded[k][j] = i + k < n ? values[k * kStride + j * kWarp] : 0.0f;
        };
        // A lane has one split's largest score and sum. What it and all before it are multiplied by
        // follows from the largest so far, without waiting for one after another.
        const float* part = from + (lane < n ? lane : 0) * kStride;
        const float mine = lane < n ? part[0] : kNone, mine_sum = part[1];
        load(0);
        float so_far = larger(most, mine);
#pragma unroll
        for (int distance = 1; distance < kWarp; distance *= 2) {
            const float before = shuffle(so_far, lane >= distance ? lane - distance : lane);
            so_far = larger(so_far, before);
        }
        const float left = shuffle(so_far, lane > 0 ? lane - 1 : 0);
        const Factors factors = factors_of(lane > 0 ? left : most, mine);
        const float scaled_sum = mine_sum * factors.theirs;
        most = shuffle(so_far, kWarp - 1);
#pragma unroll 1
        for (int i = 0; i < n; i += kAtOnce) {
            if (i > 0) load(i);
#pragma unroll
            for (int k = 0; k < kAtOnce; ++k) {
                const float before = shuffle(factors.mine, i + k);
                const float now = shuffle(factors.theirs, i + k);
                const float more = multiply_add(sum, before, shuffle(scaled_sum, i + k));
                sum = i + k < n ? more : sum;
#pragma unroll
                for (int j = 0; j < kPerLane; ++j) {
                    const float next = multiply_add(out[j], before, loaded[k][j] * now);
                    out[j] = i + k < n ? next : out[j];
                }
            }
        }
    }
    float largest = 0;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
        out[j] /= sum;
        if (exists && !a.rounded) all.out[int64(at) * kDims + lane + j * kWarp] = out[j];
        largest = larger(largest, sized(out[j]));
    }
    if (!a.rounded) return;
    if (a.is_super) {  // the heads of 256 dimensions share a scale
        constexpr int kHeads = 256 / kDims < kWarps ? 256 / kDims : kWarps;
        largest = warp_max(largest);
        if (lane == 0) shared.of_warp[warp_index()] = largest;
        block_sync();
        const int beside = warp_index() / kHeads * kHeads;
#pragma unroll
        for (int w = 0; w < kHeads; ++w) largest = larger(largest, shared.of_warp[beside + w]);
    }
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
        const float most_here = a.is_super ? largest : warp_max(sized(out[j]));
        if (exists)
            write_rounded(a.rounded, a.scales, row, head * kDims + j * kWarp + lane,
                          all.n_head * kDims, out[j], most_here);
    }
}

template <int kDims>
DEV void attention_merge(const MergeArgs& a) {
    constexpr int kWarps = kMergeThreads / kWarp;
    SHARED MergeShared<kWarps> shared;
    const Step step = *a.attention.step;
    begin_after_others();
    merge_at<kDims, kWarps>(a, step, block_place(), shared);
}

KERNEL(attention_merge_32, kMergeThreads, MergeArgs) {
    attention_merge<32>(a);
}
KERNEL(attention_merge_64, kMergeThreads, MergeArgs) {
    attention_merge<64>(a);
}
KERNEL(attention_merge_128, kMergeThreads, MergeArgs) {
    attention_merge<128>(a);
}
