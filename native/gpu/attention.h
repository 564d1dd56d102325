// Attention by the rule of split.h. Where rows are few, a block takes a split from the cache, and
// the splits are merged by another kernel; or a warp all splits, where there is no room for their
// parts. Where rows are many (prefill.h), the warps of a block have queries of their own and take
// every split from shared memory.
#pragma once

#include "split.h"

// ---- a block for each split ----

constexpr int kPartWarps = kSplitTiles, kPartThreads = kPartWarps * kWarp;

struct PartShared {
    float most[kSplitTiles][kQueries];
    float sums[kSplitTiles][kLaneRows][kWarp];
    uint32 weights[kSplitTiles][kLaneRows][kHalfWords][kWarp];
};

// A warp weighs a tile of the keys, then adds up every fourth 16 dimensions of the values. What is
// run once should be short: instructions come no faster than other memory.
template <int kDims, class From>
DEV void run_part(const AttentionArgs& a, const Asked<kDims>& asked, const From& from, int first,
                  const RowPlaces& to, PartShared& shared) {
    constexpr int kMine = (kDims / 16 + kPartWarps - 1) / kPartWarps;
    const int t = warp_index(), lane = lane_index();
    const float scale = a.scale * kLog2E;
    // Values are on their way while the weights are found, where there are registers for it.
    constexpr bool kIsEarly = kHalfWords < 8 || kDims <= 64;
    LaneHalves values[kMine][kSplitBlocks][2];
    const auto load_values = [&](int k) {
#pragma unroll
        for (int block = 0; block < kSplitBlocks; ++block)
            from.values(block, (t + k * kPartWarps) % (kDims / 16), values[k][block]);
    };
#pragma unroll
    for (int k = 0; kIsEarly && k < kMine; ++k) load_values(k);
    float scores[8] = {};
    score(asked, from, t, scores);
    if (is_hidden(asked, first)) hide(asked, first, t, scores);
    OfRows most, base, sums;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) most[row] = kNone;
    find_most(scores, most);
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) shared.most[t][lane_row(row)] = row_max(most[row]);
    block_sync();
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
#pragma unroll
        for (int w = 0; w < kSplitTiles; ++w)
            most[row] = maximum(most[row], shared.most[w][lane_row(row)]);
        base[row] = base_of(most[row], scale);
    }
    weigh_tile(scores, base, scale, sums);
    LaneHalves weights;
    as_rows(scores, weights);
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
        shared.sums[t][row][lane] = sums[row];
#pragma unroll
        for (int j = 0; j < kHalfWords; ++j) shared.weights[t][row][j][lane] = weights[row][j];
    }
    block_sync();
    LaneHalves all[kSplitTiles];
#pragma unroll
    for (int w = 0; w < kSplitTiles; ++w)
#pragma unroll
        for (int row = 0; row < kLaneRows; ++row)
#pragma unroll
            for (int j = 0; j < kHalfWords; ++j) all[w][row][j] = shared.weights[w][row][j][lane];
#pragma unroll
    for (int k = 0; k < kMine; ++k) {
        const int d = t + k * kPartWarps;
        if (!kIsEarly) load_values(k);
        float out[8] = {};
#pragma unroll
        for (int block = 0; block < kSplitBlocks; ++block) {
            const int n_left = from.n_left - kKvBlock * block;
            if (n_left < kKvBlock) keep_first(values[k][block], n_left);
#pragma unroll
            for (int c = 0; c < 2; ++c) rows_add(out, all[2 * block + c], values[k][block][c]);
        }
        if (d >= kDims / 16) continue;
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (float* at = to.at[element_row(i)]) at[4 + 16 * d + element_col(i)] = out[i];
        keep_order();
    }
    if (t != 0) return;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
        float sum = sums[row];
#pragma unroll
        for (int w = 1; w < kSplitTiles; ++w) sum += shared.sums[w][row][lane];
        sum = row_sum(sum);
        if (to.at[row]) to.at[row][0] = most[row] > kNone ? base[row] : kNone, to.at[row][1] = sum;
    }
}

// A block for each split, KV head and tile of queries; the parts are merged by another kernel.
template <int kDims>
DEV void attention_parts_at(const AttentionArgs& a, const Step& step, Place at,
                            PartShared& shared) {
    const Queries queries = queries_of(a, step);
    const int tile = at.z, split = at.x, first = split * kSplitKeys;
    if (queries.row(tile, 0) >= queries.n_rows || first >= step.n_past + step.n_rows) return;
    Asked<kDims> asked;
    ask(a, step, queries, at.y, tile, asked);
    if (first >= asked.end) return;
    const int row = keys_of(a, step, queries.row(tile, 0)).row;
    constexpr int kStride = kPartFloats<kDims>;
    const RowPlaces to =
        places_of(a, queries, at.y, tile, a.partial + split * kStride, int64(a.n_splits) * kStride);
    if (!a.is_block && !step.is_chain && first + kSplitKeys > step.n_past)
        run_part(a, asked, gathered<kDims>(a, step, row, at.y, first, asked.end), first, to,
                 shared);
    else
        run_part(a, asked, from_cache<kDims>(a, step, at.y, first, asked.end), first, to, shared);
}

// ---- a warp for all splits ----

// The sums of values are kept where the result will be: what takes this way is long and rare.
template <int kDims>
struct Added {
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

// The keys of `row` and their values from `first` on, for all queries of the warp.
template <int kDims>
DEV void run_split(const AttentionArgs& a, const Step& s, const Asked<kDims>& asked, int row,
                   int kv_head, int first, Added<kDims>& to) {
    Weighed w;
    if (!a.is_block && !s.is_chain && first + kSplitKeys > s.n_past) {
        const Gathered<kDims> from = gathered<kDims>(a, s, row, kv_head, first, asked.end);
        weigh(asked, from, first, a.scale * kLog2E, w);
        to.take(w, from);
    } else {
        const FromCache<kDims> from = from_cache<kDims>(a, s, kv_head, first, asked.end);
        weigh(asked, from, first, a.scale * kLog2E, w);
        to.take(w, from);
    }
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
    const int first = split * kSplitKeys + thread_index() * kKvBlock;
    if (thread_index() < kSplitBlocks && first < s.n_past)
        prefetch(kv_head(a.kv, s.blocks[first / kKvBlock], kv_head_index), 4 * kKvBlock * kDims);
}

template <int kDims>
DEV void attention(const AttentionArgs& a) {
    SHARED PartShared shared;
    const Step step = *a.step;
    if (block_z() == 0) prefetch_split<kDims>(a, step, block_y(), block_x());
    begin_after_others();
    attention_parts_at<kDims>(a, step, block_place(), shared);
}

template <int kDims>
DEV void attention_whole(const AttentionArgs& a) {
    const Step step = *a.step;
    begin_after_others();
    attention_whole_at<kDims, kAttentionWarps>(a, step, block_place());
}

KERNEL(attention_32, kPartThreads, AttentionArgs) {
    attention<32>(a);
}
KERNEL(attention_64, kPartThreads, AttentionArgs) {
    attention<64>(a);
}
KERNEL(attention_128, kPartThreads, AttentionArgs) {
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

// Heads of 32 dimensions share a scale by eights, and a block's shared memory is small.
template <int kDims>
constexpr int kMergeWarps = kDims == 32 ? 8 : 4;
template <int kDims>
constexpr int kMergeSplits = kDims > 64 ? 16 : 32;  // at once

template <int kDims>
struct MergeShared {
    alignas(16) float parts[kMergeWarps<kDims>][kMergeSplits<kDims>][kPartFloats<kDims>];
    float of_warp[kMergeWarps<kDims>];
};

// Merges the splits: a warp for each row and head, a lane for every 32nd dimension.
template <int kDims>
DEV void merge_at(const MergeArgs& a, const Step& s, Place place, MergeShared<kDims>& shared) {
    constexpr int kWarps = kMergeWarps<kDims>, kSplits = kMergeSplits<kDims>;
    constexpr int kPerLane = kDims / kWarp, kFloats = kPartFloats<kDims>;
    const AttentionArgs& all = a.attention;
    const int head = place.x * kWarps + warp_index(), row = place.y, lane = lane_index();
    if (row >= rows_of(s, all.is_selected)) return;
    const bool exists = head < all.n_head;
    const int n_splits = exists ? (keys_of(all, s, row).end - 1) / kSplitKeys + 1 : 0;
    const int at = row * all.n_head + head;
    const float* from = all.partial + int64(at) * all.n_splits * kFloats;
    auto& parts = shared.parts[warp_index()];
    float most = kNone, sum = exists ? 0 : 1, out[kPerLane] = {};
#pragma unroll 1
    for (int first = 0; first < n_splits; first += kSplits, from += kSplits * kFloats) {
        const int n = n_splits - first < kSplits ? n_splits - first : kSplits;
        warp_sync();
#pragma unroll 1
        for (int i = 4 * lane; i < n * kFloats; i += 4 * kWarp) copy_ahead(&parts[0][i], from + i);
        end_of_group();
        groups_left<0>();
        warp_sync();
        // A lane has one split's largest score and sum. What it and all before it are multiplied by
        // follows from the largest so far, without waiting for one after another.
        float* const mine = parts[lane < n ? lane : 0];
        const float my_most = lane < n ? mine[0] : kNone, my_sum = mine[1];
        float so_far = larger(most, my_most);
#pragma unroll
        for (int distance = 1; distance < kWarp; distance *= 2) {
            const float before = shuffle(so_far, lane >= distance ? lane - distance : lane);
            so_far = larger(so_far, before);
        }
        const float left = shuffle(so_far, lane > 0 ? lane - 1 : 0);
        const Factors factors = factors_of(lane > 0 ? left : most, my_most);
        most = shuffle(so_far, kWarp - 1);
        warp_sync();
        if (lane < n) {
            mine[0] = factors.mine;
            mine[1] = factors.theirs;
            mine[2] = my_sum * factors.theirs;
        }
        warp_sync();
#pragma unroll 2
        for (int i = 0; i < n; ++i) {
            const float* part = parts[i];
            sum = multiply_add(sum, part[0], part[2]);
#pragma unroll
            for (int j = 0; j < kPerLane; ++j)
                out[j] = multiply_add(out[j], part[0], part[4 + lane + j * kWarp] * part[1]);
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
    SHARED MergeShared<kDims> shared;
    const Step step = *a.attention.step;
    begin_after_others();
    merge_at<kDims>(a, step, block_place(), shared);
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
