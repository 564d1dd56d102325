// Attention of 16 queries over 64 keys, on the matrix units: q and the keys as halves, sums as
// floats.
//
// One rule for every number of rows: a row's keys, in logical order, are cut into splits of 64; of
// each split come the largest score, the sum of the weights that are relative to it, and the
// weighted sum of the values; splits are merged in order. An element of a matrix product depends on
// its own row and column alone, so it does not matter which other queries share a tile; and what a
// row sees decides which keys these are, so that a branch of a tree computes what a straight
// sequence would.
#pragma once

#include "kv.h"
#include "lanes.h"

constexpr int kSplitKeys = 64, kSplitBlocks = kSplitKeys / kKvBlock, kQueries = 16;
constexpr int kSplitTiles = kSplitKeys / 16;
constexpr int kAttentionThreads = 128, kAttentionWarps = kAttentionThreads / kWarp;
constexpr float kNone = -3.0e38f;

// Of a split's part: the largest score, the sum of weights, two of nothing, the weighed values.
template <int kDims>
constexpr int kPartFloats = 4 + kDims;

struct AttentionArgs {
    const Step* step;
    KvPlace kv;
    const float* q;  // (T or R, H * D)
    float* out;      // the same
    float* partial;  // (rows, H, splits, 4 + D), where the splits have blocks of their own
    int n_head, window, is_block, is_selected, n_splits;  // n_splits 0: there are none
    float scale;
    int group;           // heads that share a KV head
    uint32 group_share;  // 2^32 / group, rounded up, or 0 of one
    int tiles_shift;     // a row's heads of a group have 1 << tiles_shift tiles of their own
    int pad;
};

// The keys one row sees: [first, end) in logical order.
struct Keys {
    int row, first, end;
};

DEV Keys keys_of(const AttentionArgs& a, const Step& s, int row) {
    const int step_row = a.is_selected ? s.out_rows[row] : row;
    const int depth = s.is_chain ? step_row : s.depth[step_row];
    const int end = a.is_block ? s.n_past + s.n_rows : s.n_past + depth + 1;
    const int first = a.window > 0 && end > a.window ? end - a.window : 0;
    return {step_row, first, end};
}

// The queries of a tile: pairs of a row and one of the heads that share the KV head. Rows that see
// different slots, branches of a tree, have tiles of their own.
struct Queries {
    int group, n_rows, is_tree;
    uint32 group_share;
    int tiles_shift;  // a row of a tree has 1 << tiles_shift tiles

    // i / group, exact as far as there are queries.
    DEV_MEMBER int row_of(int i) const {
        return group_share ? int((uint64(uint32(i)) * group_share) >> 32) : i;
    }
    DEV_MEMBER int row(int tile, int i) const {
        return is_tree ? tile >> tiles_shift : row_of(tile * kQueries + i);
    }
    DEV_MEMBER int head(int tile, int i) const {
        const int query = tile * kQueries + i;
        if (is_tree) return (tile & ((1 << tiles_shift) - 1)) * kQueries + i;
        return query - row_of(query) * group;
    }
    DEV_MEMBER bool exists(int tile, int i) const {
        return row(tile, i) < n_rows && head(tile, i) < group;
    }
};

DEV Queries queries_of(const AttentionArgs& a, const Step& step) {
    return {a.group, rows_of(step, a.is_selected), !step.is_chain, a.group_share, a.tiles_shift};
}

// ---- rows as the matrix unit takes them ----

struct alignas(16) Words {
    uint32 at[4];
};

// A lane's words of its row i, of kTiles tiles of 16 columns from the first on; a row has kWords.
template <int kWords, int kTiles>
DEV void load_run(const uint32* row, int first, int i, LaneHalves (&to)[kTiles]) {
#pragma unroll
    for (int f = 0; f < kTiles * kHalfWords; f += 4) {
        const Words four =
            *reinterpret_cast<const Words*>(row + run_word(first * kHalfWords + f, kWords));
#pragma unroll
        for (int n = 0; n < 4; ++n) to[(f + n) / kHalfWords][i][(f + n) % kHalfWords] = four.at[n];
    }
}

// ---- rows of int8 ----

// Eight numbers side by side as a cache in q8_0 has them, and what each is multiplied by.
struct KvRun {
    uint32 numbers[2];
    Words scales;  // as halves

    DEV_MEMBER Words words() const {
        Words words;
#pragma unroll
        for (int n = 0; n < 4; ++n)
            words.at[n] = scaled_halves(numbers[n / 2], n % 2, scales.at[n]);
        return words;
    }
};

DEV KvRun run_of(const uint16* head, int at, const Words& scales) {
    struct alignas(8) Eight {
        uint32 at[2];
    };
    const auto eight = *reinterpret_cast<const Eight*>(reinterpret_cast<const int8*>(head) + at);
    return {{eight.at[0], eight.at[1]}, scales};
}

// Of a key eight dimensions, and of a dimension of the values eight positions.
template <int kDims>
DEV KvRun key_run(const uint16* head, int offset, int dim) {
    const uint32 scale = head[key_scale_at(kDims, offset, dim)] * 0x10001u;
    return run_of(head, offset * kDims + dim, {scale, scale, scale, scale});
}
template <int kDims>
DEV KvRun value_run(const uint16* head, int offset, int group, int dim) {
    const uint16* scales = head + value_scale_at(kDims, offset, kKvGroup * group);
    return run_of(head, (kDims + dim) * kKvBlock + offset, *reinterpret_cast<const Words*>(scales));
}

// As load_run, of a row of which run(n) has the numbers of words n to n + 3.
template <int kWords, int kTiles, class Run>
DEV void load_scaled(const Run& run, int first, int i, LaneHalves (&to)[kTiles]) {
#pragma unroll
    for (int f = 0; f < kTiles * kHalfWords; f += 4) {
        const Words four = run(run_word(first * kHalfWords + f, kWords)).words();
#pragma unroll
        for (int n = 0; n < 4; ++n) to[(f + n) / kHalfWords][i][(f + n) % kHalfWords] = four.at[n];
    }
}

// Of two positions a word holds, those before the end; what no key has is nothing, whatever lies
// there.
DEV uint32 kept(uint32 word, int n_left) {
    return n_left >= 2 ? word : n_left == 1 ? word & 0xffff : 0;
}

// The same of a lane's words of 32 positions.
DEV void keep_first(LaneHalves (&values)[2], int n_left) {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
        for (int f = 0; f < 2 * kHalfWords; ++f) {
            uint32& word = values[f / kHalfWords][i][f % kHalfWords];
            word = kept(word, n_left - 2 * run_word(f, kKvBlock / 2));
        }
}

// A warp's queries. `low` and `high` bound the keys that a lane's rows see, [first, end) all that
// any of the warp's sees and [all_first, all_end) has none that one of them does not.
template <int kDims>
struct Asked {
    LaneHalves of[kDims / 16];
    int low[kLaneRows], high[kLaneRows];
    int first, end, all_first, all_end;
};

// What bounds the keys of a tile's rows, without asking every lane: rows see the more the later
// they come, and those of a tree at least what was there before the step.
template <int kDims>
DEV void bound(const AttentionArgs& a, const Step& s, const Queries& queries, int tile,
               Asked<kDims>& asked) {
    const int last = queries.row(tile, kQueries - 1);
    if (queries.row(tile, 0) >= queries.n_rows) {
        asked.first = 0x7fffffff;  // in the order of below, so that they stay in registers
        asked.all_end = 0x7fffffff;
        asked.all_first = 0;
        asked.end = 0;
        return;
    }
    Keys least = keys_of(a, s, queries.row(tile, 0));
    Keys most = keys_of(a, s, last < queries.n_rows ? last : queries.n_rows - 1);
    if ((!s.is_chain || a.is_selected) && !queries.is_tree) {
        const int n = s.n_past + s.n_rows;
        least = {0, a.window > 0 && s.n_past + 1 > a.window ? s.n_past + 1 - a.window : 0,
                 s.n_past + 1};
        most = {0, a.window > 0 && n > a.window ? n - a.window : 0, n};
    }
    asked.first = least.first;
    asked.all_end = least.end;
    asked.all_first = most.first;
    asked.end = most.end;
}

// `of_rows` are the queries of all rows and heads.
template <int kDims>
DEV void ask(const AttentionArgs& a, const Step& step, const Queries& queries, const float* of_rows,
             int kv_head, int tile, Asked<kDims>& asked) {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
        const int query = lane_row(i), row = queries.row(tile, query);
        const bool exists = queries.exists(tile, query);
        const Keys keys = exists ? keys_of(a, step, row) : Keys{0, 0, 0};
        asked.low[i] = keys.first;
        asked.high[i] = keys.end;
        const int head = exists ? kv_head * queries.group + queries.head(tile, query) : 0;
        const float* q = of_rows + (int64(exists ? row : 0) * a.n_head + head) * kDims;
#pragma unroll
        for (int f = 0; f < kDims / 16 * kHalfWords; f += 4) {  // a run of words
            Floats<4> eight[2] = {};
            const auto* from = reinterpret_cast<const Floats<4>*>(q + 2 * run_word(f, kDims / 2));
            if (exists) eight[0] = from[0], eight[1] = from[1];
#pragma unroll
            for (int n = 0; n < 4; ++n)
                asked.of[(f + n) / kHalfWords][i][(f + n) % kHalfWords] =
                    halves(eight[n / 2].at[n % 2 * 2], eight[n / 2].at[n % 2 * 2 + 1]);
        }
    }
    bound(a, step, queries, tile, asked);
}

// ---- where a split's keys and values are taken from ----
//
// Each source has keys(block, c, d, to), of 16 keys of one of the split's blocks kPiece times 16
// dimensions from 16 d on, and values(block, d, to), the block's 32 positions of 16 dimensions, for
// which kAtOnce may be asked at once; those behind the split's first n_left are anything. Those of
// a cache in q8_0 have the same as int8: key_run(block, c, i, dim), of the key that is a lane's row
// i, and value_run(block, offset, d, i), of the i-th of a lane's 16 dimensions from 16 d on.

// Lanes that hold whole rows have few registers beside the queries of the largest heads.
template <int kDims>
constexpr int kPiece = kDims < 64 || (kDims > 64 && kHalfWords > 4) ? 2 : 4;
template <int kDims>
using KeyPiece = LaneHalves[kPiece<kDims>];

// Of the cache, in the order they lie there.
template <int kDims>
struct FromCache {
    static constexpr int kAtOnce = 2;
    const uint16* heads[kSplitBlocks];
    int n_left;

    DEV_MEMBER const uint16* head(int block) const { return block ? heads[1] : heads[0]; }
    DEV_MEMBER void keys(int block, int c, int d, KeyPiece<kDims>& to) const {
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i) {
            if constexpr (kIsBytes)
                load_scaled<kDims / 2>([&](int n) { return key_run(block, c, i, 2 * n); }, d, i,
                                       to);
            else
                load_run<kDims / 2>(
                    reinterpret_cast<const uint32*>(head(block) + run_row(c, i) * kDims), d, i, to);
        }
    }
    DEV_MEMBER KvRun key_run(int block, int c, int i, int dim) const {
        return ::key_run<kDims>(head(block), run_row(c, i), dim);
    }

    DEV_MEMBER void values(int block, int d, LaneHalves (&to)[2]) const {
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i) {
            const int dim = 16 * d + lane_row(i);
            if constexpr (kIsBytes)
                load_scaled<kKvBlock / 2>([&](int n) { return value_run(block, 2 * n, d, i); }, 0,
                                          i, to);
            else
                load_run<kKvBlock / 2>(
                    reinterpret_cast<const uint32*>(head(block) + (kDims + dim) * kKvBlock), 0, i,
                    to);
        }
    }
    DEV_MEMBER KvRun value_run(int block, int offset, int d, int i) const {
        return ::value_run<kDims>(head(block), offset, d / 2, 16 * d + lane_row(i));
    }
};

DEV int block_at(const Step& s, int first) {
    const int last = (s.n_past + s.n_rows - 1) / kKvBlock, block = first / kKvBlock;
    return s.blocks[block < last ? block : last];
}

template <int kDims>
DEV FromCache<kDims> from_cache(const AttentionArgs& a, const Step& s, int kv_head_index, int first,
                                int end) {
    FromCache<kDims> from;
#pragma unroll
    for (int block = 0; block < kSplitBlocks; ++block)
        from.heads[block] = kv_head(a.kv, block_at(s, first + block * kKvBlock), kv_head_index);
    from.n_left = end - first;
    return from;
}

// Of a branch of a tree: keys lie wherever their slots are. Every lane knows where one key of each
// block lies, and tells the others.
template <int kDims>
struct Gathered {
    static constexpr int kAtOnce = 1;
    KvPlace kv;
    int kv_head_index, n_left;
    int places[kSplitBlocks];  // block * 32 + offset

    DEV_MEMBER int places_of_block(int block) const { return block ? places[1] : places[0]; }
    DEV_MEMBER const uint16* head_of(int place) const {
        return kv_head(kv, place / kKvBlock, kv_head_index);
    }

    DEV_MEMBER void keys(int block, int c, int d, KeyPiece<kDims>& to) const {
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i) {
            if constexpr (kIsBytes) {
                load_scaled<kDims / 2>([&](int n) { return key_run(block, c, i, 2 * n); }, d, i,
                                       to);
            } else {
                const int place = shuffle(places_of_block(block), run_row(c, i));
                const uint16* key = head_of(place) + place % kKvBlock * kDims;
                load_run<kDims / 2>(reinterpret_cast<const uint32*>(key), d, i, to);
            }
        }
    }
    DEV_MEMBER KvRun key_run(int block, int c, int i, int dim) const {
        const int place = shuffle(places_of_block(block), run_row(c, i));
        return ::key_run<kDims>(head_of(place), place % kKvBlock, dim);
    }

    DEV_MEMBER void values(int block, int d, LaneHalves (&to)[2]) const {
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i) {
            if constexpr (kIsBytes) {
                load_scaled<kKvBlock / 2>([&](int n) { return value_run(block, 2 * n, d, i); }, 0,
                                          i, to);
            } else {
                const int dim = 16 * d + lane_row(i);
#pragma unroll
                for (int f = 0; f < 2 * kHalfWords; ++f) {
                    const int key = 2 * run_word(f, kKvBlock / 2);
                    to[f / kHalfWords][i][f % kHalfWords] =
                        value(block, key, dim) | uint32(value(block, key + 1, dim)) << 16;
                }
            }
        }
    }
    DEV_MEMBER uint16 value(int block, int key, int dim) const {
        const int place = shuffle(places_of_block(block), key);
        return head_of(place)[value_at(kv, place % kKvBlock, dim)];
    }
    DEV_MEMBER KvRun value_run(int block, int offset, int d, int i) const {
        KvRun run = {};
#pragma unroll
        for (int n = 0; n < 8; ++n) {
            const int place = shuffle(places_of_block(block), offset + n);
            const uint16* head = head_of(place);
            const int at = value_at(kv, place % kKvBlock, 16 * d + lane_row(i));
            const uint32 number = reinterpret_cast<const uint8*>(head)[at];
            const uint32 scale = head[value_scale_at(kDims, place % kKvBlock, 16 * d)];
            run.numbers[n / 4] |= number << (n % 4 * 8);
            run.scales.at[n / 2] |= scale << (n % 2 * 16);
        }
        keep_order();
        return run;
    }
};

template <int kDims>
DEV Gathered<kDims> gathered(const AttentionArgs& a, const Step& s, int row, int kv_head_index,
                             int first, int end) {
    Gathered<kDims> from{a.kv, kv_head_index, end - first, {}};
#pragma unroll
    for (int block = 0; block < kSplitBlocks; ++block) {
        const int key = first + block * kKvBlock + lane_index();
        const int slot = slot_of(s, row, key < end ? key : end - 1);
        from.places[block] = s.blocks[slot / kKvBlock] * kKvBlock + slot % kKvBlock;
    }
    return from;
}

// ---- one split ----

// Weights of a split's keys, relative to each row's largest score, which is `most` as a power of
// two.
struct Weighed {
    LaneHalves of[kSplitTiles];
    float most[kLaneRows], sum[kLaneRows];
};

// The products of the queries with 16 keys, tile t of the split.
template <int kDims, class From>
DEV void score(const Asked<kDims>& asked, const From& from, int t, float (&scores)[8]) {
#pragma unroll
    for (int first_d = 0; first_d < kDims / 16; first_d += kPiece<kDims>) {
        KeyPiece<kDims> keys;
        from.keys(t / 2, t % 2, first_d, keys);
#pragma unroll
        for (int d = 0; d < kPiece<kDims>; ++d) rows_add(scores, asked.of[first_d + d], keys[d]);
        if (kDims > 64 || t % 2) keep_order();
    }
}

// Scores a row does not see, of tile t of the 64 keys from `first`, become none.
template <int kDims>
DEV void hide(const Asked<kDims>& asked, int first, int t, float (&scores)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int key = first + t / 2 * kKvBlock + run_col(t % 2, i), row = element_row(i);
        if (key < asked.low[row] || key >= asked.high[row]) scores[i] = kNone;
    }
}

template <int kDims>
DEV bool is_hidden(const Asked<kDims>& asked, int first) {
    return first < asked.all_first || first + kSplitKeys > asked.all_end;
}

using OfRows = float[kLaneRows];

// The largest of the scores and of `most`.
DEV void find_most(const float (&scores)[8], OfRows& most) {
#pragma unroll
    for (int i = 0; i < 8; ++i) most[element_row(i)] = maximum(most[element_row(i)], scores[i]);
}

// What powers of two the weights are relative to; where no key is seen, weights are 0.
DEV float base_of(float most, float scale) {
    return most > kNone ? most * scale : 0.0f;
}

// From scores to weights; `sums` are of this lane's alone. `scale` includes log2(e).
DEV void weigh_tile(float (&scores)[8], const OfRows& base, float scale, OfRows& sums) {
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) sums[row] = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int row = element_row(i);
        scores[i] = exp2_of(multiply_add(scores[i], scale, -base[row]));
        sums[row] += scores[i];
    }
}

template <int kDims, class From>
DEV void weigh(const Asked<kDims>& asked, const From& from, int first, float scale, Weighed& w) {
    float scores[kSplitTiles][8] = {};
    OfRows most, base;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) most[row] = kNone;
#pragma unroll
    for (int t = 0; t < kSplitTiles; ++t) score(asked, from, t, scores[t]);
    if (is_hidden(asked, first)) {
#pragma unroll
        for (int t = 0; t < kSplitTiles; ++t) hide(asked, first, t, scores[t]);
    }
#pragma unroll
    for (int t = 0; t < kSplitTiles; ++t) find_most(scores[t], most);
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
        most[row] = row_max(most[row]);
        base[row] = base_of(most[row], scale);
        w.most[row] = most[row] > kNone ? base[row] : kNone;
    }
#pragma unroll
    for (int t = 0; t < kSplitTiles; ++t) {
        OfRows sums;
        weigh_tile(scores[t], base, scale, sums);
#pragma unroll
        for (int row = 0; row < kLaneRows; ++row)
            w.sum[row] = t ? w.sum[row] + sums[row] : sums[row];
        as_rows(scores[t], w.of[t]);
    }
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) w.sum[row] = row_sum(w.sum[row]);
}

// The split's values of dimensions 16 d and on, weighed and added up.
template <class From>
DEV void add_values(const Weighed& w, const From& from, int d, float (&sums)[8]) {
#pragma unroll
    for (int block = 0; block < kSplitBlocks; ++block) {
        LaneHalves values[2];
        from.values(block, d, values);
        const int n_left = from.n_left - kKvBlock * block;
        if (n_left < kKvBlock) keep_first(values, n_left);
#pragma unroll
        for (int c = 0; c < 2; ++c) rows_add(sums, w.of[2 * block + c], values[c]);
    }
}

// ---- splits merged in order ----

// Two sums of weights become one: what each is multiplied by.
struct Factors {
    float most, mine, theirs;
};

DEV Factors factors_of(float mine, float theirs) {
    const float most = larger(mine, theirs);
    return {most, exp2_of(mine - most), exp2_of(theirs - most)};
}

// What a row has of all splits so far, and takes of the next.
struct Sums {
    float most[kLaneRows], sum[kLaneRows];

    DEV_MEMBER void add(const Weighed& w, Factors (&factors)[kLaneRows]) {
#pragma unroll
        for (int row = 0; row < kLaneRows; ++row) {
            factors[row] = factors_of(most[row], w.most[row]);
            sum[row] = multiply_add(sum[row], factors[row].mine, w.sum[row] * factors[row].theirs);
            most[row] = factors[row].most;
        }
    }
};

DEV Sums no_sums() {
    Sums sums;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) sums.most[row] = kNone, sums.sum[row] = 0;
    return sums;
}

// Where the rows of a lane have something in memory, `stride` floats a row and head; null for those
// that are not there.
struct RowPlaces {
    float* at[kLaneRows];
};

DEV RowPlaces places_of(const AttentionArgs& a, const Queries& queries, int kv_head, int tile,
                        float* memory, int64 stride) {
    RowPlaces places;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) {
        const int query = lane_row(row);
        const int head = kv_head * queries.group + queries.head(tile, query);
        const int64 at = int64(queries.row(tile, query)) * a.n_head + head;
        places.at[row] = queries.exists(tile, query) ? memory + at * stride : nullptr;
    }
    return places;
}
