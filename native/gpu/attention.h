// Attention by the rule of split.h. Where rows are few, a block takes a split from the cache, and
// the splits are merged (merge.h) by whoever reads the result; or a warp takes all splits, where
// there is no room for their parts. Where rows are many (prefill.h), the warps of a block have
// queries of their own and take every split from shared memory.
#pragma once

#include "split.h"

// ---- a block for each split ----

constexpr int kPartWarps = kSplitTiles, kPartThreads = kPartWarps * kWarp;

struct PartShared {
    float most[kSplitTiles][kQueries];
    float sums[kSplitTiles][kLaneRows][kWarp];
    uint32 weights[kSplitTiles][kLaneRows][kHalfWords][kWarp];
};

// Which of the warps that share a split this is: of a block with several splits they lie side by
// side.
DEV int part_warp() {
    return warp_index() % kPartWarps;
}

// What a warp needs of a split: a tile of keys, and every fourth 16 dimensions of the values. They
// are on their way before the queries are known, where there are registers for it.
template <int kDims>
constexpr bool kIsEarly = kHalfWords < 8 || kDims <= 64;
template <int kDims>
constexpr int kMine = (kDims / 16 + kPartWarps - 1) / kPartWarps;

// Which 16 dimensions the k-th of a warp's are.
template <int kDims>
DEV int my_dims(int k) {
    return (part_warp() + k * kPartWarps) % (kDims / 16);
}

template <int kDims>
struct PartHalves {
    LaneHalves keys[kDims / 16];
    LaneHalves values[kMine<kDims>][kSplitBlocks][2];

    template <class From>
    DEV_MEMBER void load_values(const From& from, int k) {
#pragma unroll
        for (int block = 0; block < kSplitBlocks; ++block)
            from.values(block, my_dims<kDims>(k), values[k][block]);
    }

    template <class From>
    DEV_MEMBER void load(const From& from) {
        const int t = part_warp();
#pragma unroll
        for (int d = 0; d < kDims / 16; d += kPiece<kDims>) {
            KeyPiece<kDims> piece;
            from.keys(t / 2, t % 2, d, piece);
#pragma unroll
            for (int n = 0; n < kPiece<kDims>; ++n)
#pragma unroll
                for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
                    for (int j = 0; j < kHalfWords; ++j) keys[d + n][i][j] = piece[n][i][j];
        }
#pragma unroll
        for (int k = 0; k < kMine<kDims>; ++k) load_values(from, k);
    }

    DEV_MEMBER void score(const Asked<kDims>& asked, float (&scores)[8]) const {
#pragma unroll
        for (int d = 0; d < kDims / 16; ++d) rows_add(scores, asked.of[d], keys[d]);
    }
    using Values = LaneHalves[2];
    DEV_MEMBER Values& values_of(int k, int block) { return values[k][block]; }
};

// The same of a cache in q8_0: int8 until they are used.
template <int kDims>
struct PartBytes {
    static constexpr int kTileRuns = kHalfWords / 2;  // of two tiles
    KvRun keys[kDims / 32][kTileRuns][kLaneRows];
    KvRun values[kMine<kDims>][kSplitBlocks][kTileRuns][kLaneRows];
    LaneHalves shown[2];

    template <class From>
    DEV_MEMBER void load_values(const From& from, int k) {
#pragma unroll
        for (int block = 0; block < kSplitBlocks; ++block)
#pragma unroll
            for (int r = 0; r < kTileRuns; ++r)
#pragma unroll
                for (int i = 0; i < kLaneRows; ++i)
                    values[k][block][r][i] = from.value_run(
                        block, 2 * run_word(4 * r, kKvBlock / 2), my_dims<kDims>(k), i);
    }

    template <class From>
    DEV_MEMBER void load(const From& from) {
        const int t = part_warp();
#pragma unroll
        for (int d = 0; d < kDims / 32; ++d)
#pragma unroll
            for (int r = 0; r < kTileRuns; ++r)
#pragma unroll
                for (int i = 0; i < kLaneRows; ++i)
                    keys[d][r][i] = from.key_run(
                        t / 2, t % 2, i, 2 * run_word(2 * d * kHalfWords + 4 * r, kDims / 2));
#pragma unroll
        for (int k = 0; k < kMine<kDims>; ++k) load_values(from, k);
    }

    DEV_MEMBER void show(const KvRun (&runs)[kTileRuns][kLaneRows]) {
#pragma unroll
        for (int r = 0; r < kTileRuns; ++r)
#pragma unroll
            for (int i = 0; i < kLaneRows; ++i) {
                const Words four = runs[r][i].words();
#pragma unroll
                for (int n = 0; n < 4; ++n)
                    shown[(4 * r + n) / kHalfWords][i][(4 * r + n) % kHalfWords] = four.at[n];
            }
    }

    DEV_MEMBER void score(const Asked<kDims>& asked, float (&scores)[8]) {
#pragma unroll
        for (int d = 0; d < kDims / 32; ++d) {
            show(keys[d]);
#pragma unroll
            for (int n = 0; n < 2; ++n) rows_add(scores, asked.of[2 * d + n], shown[n]);
            keep_order();
        }
    }
    using Values = LaneHalves[2];
    DEV_MEMBER Values& values_of(int k, int block) {
        show(values[k][block]);
        return shown;
    }
};

template <int kDims>
using PartWords = typename OfCache<PartBytes<kDims>, PartHalves<kDims>>::Type;

// A warp weighs a tile of the keys, then adds up its dimensions of the values. What is run once
// should be short: instructions come no faster than other memory.
template <int kDims, class From>
DEV void run_part(const AttentionArgs& a, const Asked<kDims>& asked, const From& from,
                  PartWords<kDims>& words, int first, const RowPlaces& to, PartShared& shared) {
    const int t = part_warp(), lane = lane_index();
    const float scale = a.scale * kLog2E;
    float scores[8] = {};
    if constexpr (kIsEarly<kDims>)
        words.score(asked, scores);
    else
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
    for (int k = 0; k < kMine<kDims>; ++k) {
        const int d = t + k * kPartWarps;
        if (!kIsEarly<kDims>) words.load_values(from, k);
        float out[8] = {};
#pragma unroll
        for (int block = 0; block < kSplitBlocks; ++block) {
            LaneHalves(&values)[2] = words.values_of(k, block);
            const int n_left = from.n_left - kKvBlock * block;
            if (n_left < kKvBlock) keep_first(values, n_left);
#pragma unroll
            for (int c = 0; c < 2; ++c) rows_add(out, all[2 * block + c], values[c]);
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

// A block for each split, KV head and tile of queries. Splits that were there before the step are
// the same slots for every branch of a tree: its rows share tiles there, and what they read is
// asked for while other kernels still run.
template <int kDims>
DEV void attention_parts(const AttentionArgs& a, const Step& step, Place at, PartShared& shared) {
    const int tile = at.z, split = at.x, first = split * kSplitKeys;
    const bool is_past = first + kSplitKeys <= step.n_past;
    Queries queries = queries_of(a, step);
    if (is_past) queries.is_tree = false;
    const bool is_there =
        queries.row(tile, 0) < queries.n_rows && first < step.n_past + step.n_rows;
    PartWords<kDims> words;
    FromCache<kDims> cached = {};
    if (is_there && is_past) {
        cached = from_cache<kDims>(a, step, at.y, first, first + kSplitKeys);
        if (kIsEarly<kDims>) words.load(cached);
    }
    begin_after_others();
    if (!is_there) return;
    Asked<kDims> asked;
    ask(a, step, queries, a.q, at.y, tile, asked);
    if (first >= asked.end) return;
    constexpr int kStride = kPartFloats<kDims>;
    const RowPlaces to =
        places_of(a, queries, at.y, tile, a.partial + split * kStride, int64(a.n_splits) * kStride);
    if (!is_past && !a.is_block && !step.is_chain) {
        const int row = keys_of(a, step, queries.row(tile, 0)).row;
        const auto from = gathered<kDims>(a, step, row, at.y, first, asked.end);
        if (kIsEarly<kDims>) words.load(from);
        return run_part(a, asked, from, words, first, to, shared);
    }
    if (!is_past) {
        cached = from_cache<kDims>(a, step, at.y, first, asked.end);
        if (kIsEarly<kDims>) words.load(cached);
    }
    run_part(a, asked, cached, words, first, to, shared);
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
                    out = is_first ? 0.0f : out * inverse(all.sum[row]);
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
    ask(a, step, queries, a.q, at.y, tile, asked);
    const int row = keys_of(a, step, queries.row(tile, 0)).row;
    Added<kDims> added{places_of(a, queries, at.y, tile, a.out, kDims), no_sums()};
    added.end(true);
#pragma unroll 1
    for (int first = asked.first / kSplitKeys * kSplitKeys; first < asked.end; first += kSplitKeys)
        run_split(a, step, asked, row, at.y, first, added);
    added.end(false);
}

template <int kDims>
DEV void attention(const AttentionArgs& a) {
    SHARED PartShared shared;
    attention_parts<kDims>(a, *a.step, block_place(), shared);
}

template <int kDims>
DEV void attention_whole(const AttentionArgs& a) {
    const Step step = *a.step;
    begin_after_others();
    attention_whole_at<kDims, kAttentionWarps>(a, step, block_place());
}

KV_KERNEL(attention_32, kPartThreads, AttentionArgs) {
    attention<32>(a);
}
KV_KERNEL(attention_64, kPartThreads, AttentionArgs) {
    attention<64>(a);
}
KV_KERNEL(attention_128, kPartThreads, AttentionArgs) {
    attention<128>(a);
}
KV_KERNEL(attention_whole_32, kAttentionThreads, AttentionArgs) {
    attention_whole<32>(a);
}
KV_KERNEL(attention_whole_64, kAttentionThreads, AttentionArgs) {
    attention_whole<64>(a);
}
KV_KERNEL(attention_whole_128, kAttentionThreads, AttentionArgs) {
    attention_whole<128>(a);
}
