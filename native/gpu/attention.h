// Attention on the matrix units: q and the keys as halves, sums as floats.
//
// One rule for every number of rows: a row's keys, in logical order, are cut into splits of 64, a
// split into tiles of 32 that are added up in order; splits are merged in order. An element of a
// matrix product depends on its own row and column alone, so it does not matter which other queries
// share a tile; and what a row sees decides which keys these are, so that a branch of a tree
// computes what a straight sequence would.
#pragma once

#include "kv.h"

constexpr int kSplitKeys = 64, kTileKeys = 32, kQueries = 16;
constexpr int kAttentionThreads = 128, kAttentionWarps = kAttentionThreads / kWarp;
constexpr float kNone = -3.0e38f;
// Whether there are registers for a tile's keys and values at once: lanes that hold two words a row
// have them for the commonest heads, where few warps share a block.
template <int kDims, int kWarps>
constexpr bool kIsEarly = kHalfWords == 2 && kDims == 64 && kWarps == kAttentionWarps;

struct AttentionArgs {
    const Step* step;
    KvPlace kv;
    const float* q;  // (T or R, H * D)
    float* out;      // the same
    float* partial;  // (rows, H, splits, 2 + D), where the splits have blocks of their own
    int n_head, window, is_block, is_selected, n_splits;  // n_splits 0: a block does all of them
    float scale;
};

// The keys one row sees: [first, end) in logical order.
struct Keys {
    int row, first, end;
};

DEV Keys keys_of(const AttentionArgs& a, const Step& s, int row) {
    const int step_row = a.is_selected ? s.out_rows[row] : row;
    const int end = a.is_block ? s.n_past + s.n_rows : s.n_past + s.depth[step_row] + 1;
    const int first = a.window > 0 && end > a.window ? end - a.window : 0;
    return {step_row, first, end};
}

// The queries of a tile: pairs of a row and one of the heads that share the KV head. Rows that see
// different slots, branches of a tree, have tiles of their own.
struct Queries {
    int group, n_rows, is_tree;

    DEV_MEMBER int n_tiles_of_row() const { return (group + kQueries - 1) / kQueries; }
    DEV_MEMBER int row(int tile, int i) const {
        return is_tree ? tile / n_tiles_of_row() : (tile * kQueries + i) / group;
    }
    DEV_MEMBER int head(int tile, int i) const {
        return is_tree ? tile % n_tiles_of_row() * kQueries + i : (tile * kQueries + i) % group;
    }
    DEV_MEMBER bool exists(int tile, int i) const {
        return row(tile, i) < n_rows && head(tile, i) < group;
    }
};

// What the warps of a block share. Rows of words are padded against conflicts of banks.
template <int kDims, int kWarps>
struct AttentionShared {
    uint32 q[kQueries][kDims / 2 + 4];
    float scores[kWarps][kQueries][kTileKeys + 1];
    uint32 weights[kWarps][kQueries][kTileKeys / 2 + 4];  // halves
    float factor[kWarps][kQueries];
    float theirs[kQueries];
    float most[kQueries], sum[kQueries], out[kQueries][kDims + 1];  // of all splits so far
    int first[kQueries], end[kQueries];                             // the keys each query sees
};

// A warp's running softmax over one split: `most` and `sum` of query lane / 2, and the sums of
// values as tiles of 16 dimensions.
template <int kDims>
struct Running {
    float most, sum;
    float out[kDims / 16][8];
};

// Keys [first, end) of the step's `row`. They lie in one block of the cache, in order, at `head`;
// or, where branches of a tree are seen, wherever their slots are.
struct Tile {
    Step step;
    int warp, kv_head, row, first, end, is_gathered;
    const uint16* head;
    int place;  // block * 32 + offset of this lane's key, where it is_gathered
};

// Where a key's block begins, and its place in it.
struct Slot {
    const uint16* head;
    int offset;
};

// Every lane knows where one of the tile's keys lies, and tells the others: found for each word of
// each dimension, places take more registers than there are.
DEV int place_of_lane(const Tile& t) {
    const int key = t.first + lane_index();
    const int slot = slot_of(t.step, t.row, key < t.end ? key : t.end - 1);
    return t.step.blocks[slot / kKvBlock] * kKvBlock + slot % kKvBlock;
}

DEV Slot slot_in(const AttentionArgs& a, const Tile& t, int i) {
    if (!t.is_gathered) return {t.head, i};
    const int place = shuffle(t.place, i);
    return {kv_head(a.kv, place / kKvBlock, t.kv_head), place % kKvBlock};
}

template <int kDims, int kWarps>
DEV void score(const AttentionArgs& a, AttentionShared<kDims, kWarps>& shared, const Tile& t) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
        const uint32* rows[kLaneRows];
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i) {
            const Slot slot = slot_in(a, t, 16 * c + lane_row(i));
            rows[i] = reinterpret_cast<const uint32*>(slot.head + key_at(a.kv, slot.offset, 0));
        }
        float sums[8] = {};
#pragma unroll
        for (int d = 0; d < kDims / 16; ++d) {
            LaneHalves q, k;
#pragma unroll
            for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
                for (int j = 0; j < kHalfWords; ++j) {
                    q[i][j] = shared.q[lane_row(i)][8 * d + half_word(j)];
                    k[i][j] = rows[i][8 * d + half_word(j)];
                }
            tile_add(sums, q, k);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i)
            shared.scores[t.warp][tile_row(i)][16 * c + tile_col(i)] = sums[i] * a.scale;
    }
}

// From scores to weights; two lanes have a query. What it had before is to be scaled by `factor`.
template <int kDims, int kWarps>
DEV void weigh(AttentionShared<kDims, kWarps>& shared, const Tile& t, Running<kDims>& r) {
    const int query = lane_index() >> 1, from = 16 * (lane_index() & 1);
    const int low = shared.first[query], high = shared.end[query];
    float scores[16];
    float most = kNone;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        const int key = t.first + from + i;
        const bool is_seen = key >= low && key < high;
        scores[i] = is_seen ? shared.scores[t.warp][query][from + i] : kNone;
        most = larger(most, scores[i]);
    }
    most = larger(r.most, larger(most, shuffle_xor(most, 1)));
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
        const float x = scores[i] > kNone ? exp_of(scores[i] - most) : 0.0f;
        const float y = scores[i + 1] > kNone ? exp_of(scores[i + 1] - most) : 0.0f;
        sum += x;
        sum += y;
        shared.weights[t.warp][query][(from + i) / 2] =
            uint32(float_to_half(x)) | uint32(float_to_half(y)) << 16;
    }
    const float factor = exp_of(r.most - most);
    r.sum = multiply_add(r.sum, factor, sum + shuffle_xor(sum, 1));
    r.most = most;
    if (from == 0) shared.factor[t.warp][query] = factor;
}

// Positions 2 w and the next of one dimension. Always a load, and never a branch around it: all
// loads of a tile are to be under way together.
DEV uint32 value_word(const AttentionArgs& a, const Tile& t, int dim, int w) {
    return reinterpret_cast<const uint32*>(t.head + value_at(a.kv, 0, dim))[w];
}

// The same of keys that lie wherever their slots are.
DEV uint32 gathered_word(const AttentionArgs& a, const Tile& t, int dim, int w) {
    const Slot x = slot_in(a, t, 2 * w), y = slot_in(a, t, 2 * w + 1);
    return x.head[value_at(a.kv, x.offset, dim)] | uint32(y.head[value_at(a.kv, y.offset, dim)])
                                                       << 16;
}

// The words of 16 dimensions; what no key of the tile has is nothing, whatever lies there.
template <bool kGathered>
DEV void load_values(const AttentionArgs& a, const Tile& t, int first_dim,
                     LaneHalves (&values)[2]) {
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
            for (int j = 0; j < kHalfWords; ++j) {
                const int dim = first_dim + lane_row(i), w = 8 * c + half_word(j);
                const uint32 word =
                    kGathered ? gathered_word(a, t, dim, w) : value_word(a, t, dim, w);
                const int n_left = t.end - t.first - 2 * w;
                values[c][i][j] = n_left >= 2 ? word : n_left == 1 ? word & 0xffff : 0;
            }
}

template <int kDims>
using Values = LaneHalves[kDims / 16][2];

template <int kDims, bool kGathered>
DEV void load_all_values(const AttentionArgs& a, const Tile& t, Values<kDims>& values) {
#pragma unroll
    for (int d = 0; d < kDims / 16; ++d) load_values<kGathered>(a, t, 16 * d, values[d]);
}

// `values` are there already, or are loaded as they are needed where the registers are few.
template <int kDims, bool kGathered, int kWarps>
DEV void add_values(const AttentionArgs& a, AttentionShared<kDims, kWarps>& shared, const Tile& t,
                    Values<kDims>& values, Running<kDims>& r) {
    LaneHalves weights[2];
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
            for (int j = 0; j < kHalfWords; ++j)
                weights[c][i][j] = shared.weights[t.warp][lane_row(i)][8 * c + half_word(j)];
#pragma unroll
    for (int d = 0; d < kDims / 16; ++d) {
        if (!kIsEarly<kDims, kWarps>) load_values<kGathered>(a, t, 16 * d, values[d]);
#pragma unroll
        for (int i = 0; i < 8; ++i) r.out[d][i] *= shared.factor[t.warp][tile_row(i)];
#pragma unroll
        for (int c = 0; c < 2; ++c) tile_add(r.out[d], weights[c], values[d][c]);
    }
}

// One split by one warp; `end` is where the last of the queries' keys end.
template <int kDims, int kWarps>
DEV void run_split(const AttentionArgs& a, AttentionShared<kDims, kWarps>& shared, Tile t,
                   int split, int begin, int end, Running<kDims>& r) {
    r.most = kNone;
    r.sum = 0;
#pragma unroll
    for (int d = 0; d < kDims / 16; ++d)
#pragma unroll
        for (int i = 0; i < 8; ++i) r.out[d][i] = 0;
    const int last = split * kSplitKeys + kSplitKeys;
#pragma unroll 1
    for (t.first = split * kSplitKeys; t.first < last && t.first < end; t.first += kTileKeys) {
        if (t.first + kTileKeys <= begin) continue;
        t.end = end;
        const Step& s = t.step;
        t.is_gathered = !a.is_block && !s.is_chain && t.first + kTileKeys > s.n_past;
        t.head = kv_head(a.kv, s.blocks[t.first / kKvBlock], t.kv_head);
        if (t.is_gathered) t.place = place_of_lane(t);
        Values<kDims> values;
        if (kIsEarly<kDims, kWarps> && t.is_gathered) load_all_values<kDims, true>(a, t, values);
        if (kIsEarly<kDims, kWarps> && !t.is_gathered) load_all_values<kDims, false>(a, t, values);
        score(a, shared, t);
        warp_sync();
        weigh(shared, t, r);
        warp_sync();
        if (!kIsEarly<kDims, kWarps> && t.is_gathered)
            add_values<kDims, true>(a, shared, t, values, r);
        else
            add_values<kDims, false>(a, shared, t, values, r);
        warp_sync();
    }
}

// Adds a warp's split to what the block has seen before it.
template <int kDims, int kWarps>
DEV void merge(AttentionShared<kDims, kWarps>& shared, const Running<kDims>& r, int warp) {
    const int query = lane_index() >> 1;
    const float most = larger(shared.most[query], r.most);
    const float mine = exp_of(shared.most[query] - most), theirs = exp_of(r.most - most);
    const float sum = multiply_add(shared.sum[query], mine, r.sum * theirs);
    warp_sync();
    if (!(lane_index() & 1)) {
        shared.most[query] = most;
        shared.sum[query] = sum;
        shared.factor[warp][query] = mine;
        shared.theirs[query] = theirs;
    }
    warp_sync();
#pragma unroll
    for (int d = 0; d < kDims / 16; ++d) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            float& out = shared.out[tile_row(i)][16 * d + tile_col(i)];
            out = multiply_add(out, shared.factor[warp][tile_row(i)],
                               r.out[d][i] * shared.theirs[tile_row(i)]);
        }
    }
}

template <int kDims>
DEV void write_partial(const AttentionArgs& a, const Queries& queries, const Running<kDims>& r,
                       int kv_head, int tile, int split) {
    const int mine = lane_index() >> 1;
    const int64 stride = 2 + kDims;
    const auto place = [&](int i) {
        const int head = kv_head * queries.group + queries.head(tile, i);
        return a.partial +
               ((int64(queries.row(tile, i)) * a.n_head + head) * a.n_splits + split) * stride;
    };
    if (!(lane_index() & 1) && queries.exists(tile, mine)) {
        float* to = place(mine);
        to[0] = r.most;
        to[1] = r.sum;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        if (!queries.exists(tile, tile_row(i))) continue;
        float* to = place(tile_row(i)) + 2 + tile_col(i);
#pragma unroll
        for (int d = 0; d < kDims / 16; ++d) to[16 * d] = r.out[d][i];
    }
}

// The keys any query of a tile sees, [begin, end).
struct Seen {
    int begin, end;
};

// Has a tile's queries in shared memory.
template <int kDims, int kWarps>
DEV Seen load_queries(const AttentionArgs& a, const Step& step, Place at, const Queries& queries,
                      AttentionShared<kDims, kWarps>& shared) {
    constexpr int dims = kDims, n_threads = kWarps * kWarp;
    const int tile = at.z;
    for (int i = thread_index(); i < kQueries; i += n_threads) {
        const bool exists = queries.exists(tile, i);
        const Keys keys = exists ? keys_of(a, step, queries.row(tile, i)) : Keys{0, 0, 0};
        shared.first[i] = keys.first;
        shared.end[i] = keys.end;
        shared.most[i] = kNone;
        shared.sum[i] = 0;
    }
    for (int i = thread_index(); i < kQueries * dims / 2; i += n_threads) {
        const int query = i / (dims / 2), word = i % (dims / 2);
        shared.q[query][word] = 0;
        shared.out[query][2 * word] = shared.out[query][2 * word + 1] = 0;
        if (!queries.exists(tile, query)) continue;
        const int head = at.y * queries.group + queries.head(tile, query);
        const float* q = a.q + (int64(queries.row(tile, query)) * a.n_head + head) * dims;
        shared.q[query][word] =
            uint32(float_to_half(q[2 * word])) | uint32(float_to_half(q[2 * word + 1])) << 16;
    }
    block_sync();
    int begin = 0x7fffffff, end = 0;
    for (int i = 0; i < kQueries; ++i) {
        if (shared.end[i] > 0 && shared.first[i] < begin) begin = shared.first[i];
        end = shared.end[i] > end ? shared.end[i] : end;
    }
    return {begin, end};
}

DEV Queries queries_of(const AttentionArgs& a, const Step& step) {
    return {a.n_head / a.kv.n_kv, rows_of(step, a.is_selected), !step.is_chain};
}

DEV Tile tile_of(const AttentionArgs& a, const Step& step, Place at, const Queries& queries) {
    const int first_row = keys_of(a, step, queries.row(at.z, 0)).row;
    return {step, warp_index(), at.y, first_row, 0, 0, 0, nullptr, 0};
}

// A block for each KV head and tile of queries, and for as many splits as it has warps; the parts
// are merged by another kernel.
template <int kDims, int kWarps>
DEV void attention_parts_at(const AttentionArgs& a, const Step& step, Place at,
                            AttentionShared<kDims, kWarps>& shared) {
    const Queries queries = queries_of(a, step);
    if (queries.row(at.z, 0) >= queries.n_rows) return;
    const Seen seen = load_queries(a, step, at, queries, shared);
    const int split = at.x * kWarps + warp_index();
    if (split * kSplitKeys >= seen.end) return;
    Running<kDims> r;
    run_split(a, shared, tile_of(a, step, at, queries), split, seen.begin, seen.end, r);
    write_partial(a, queries, r, at.y, at.z, split);
}

// A block for each KV head and tile of queries, which does all splits and merges them.
template <int kDims, int kWarps>
DEV void attention_whole_at(const AttentionArgs& a, const Step& step, Place at,
                            AttentionShared<kDims, kWarps>& shared) {
    constexpr int dims = kDims, n_threads = kWarps * kWarp;
    const int tile = at.z, warp = warp_index();
    const Queries queries = queries_of(a, step);
    if (queries.row(tile, 0) >= queries.n_rows) return;
    const Seen seen = load_queries(a, step, at, queries, shared);
    const Tile t = tile_of(a, step, at, queries);
    Running<kDims> r;
    for (int first = 0; first * kSplitKeys < seen.end; first += kWarps) {
        run_split(a, shared, t, first + warp, seen.begin, seen.end, r);
        for (int turn = 0; turn < kWarps; ++turn) {
            if (turn == warp && (first + turn) * kSplitKeys < seen.end) merge(shared, r, warp);
            block_sync();
        }
    }
    for (int i = thread_index(); i < kQueries * dims; i += n_threads) {
        const int query = i / dims, dim = i % dims;
        if (!queries.exists(tile, query)) continue;
        const int head = at.y * queries.group + queries.head(tile, query);
        a.out[(int64(queries.row(tile, query)) * a.n_head + head) * dims + dim] =
            shared.out[query][dim] / shared.sum[query];
    }
}

template <int kDims>
DEV void attention(const AttentionArgs& a) {
    SHARED AttentionShared<kDims, kAttentionWarps> shared;
    const Step step = *a.step;
    begin_after_others();
    if (a.n_splits > 0)
        attention_parts_at(a, step, block_place(), shared);
    else
        attention_whole_at(a, step, block_place(), shared);
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

// As attention's arguments; where `rounded` is not null, the result is rounded on its way, by
// blocks of 32 or 256, as rows.h does it.
struct MergeArgs {
    AttentionArgs attention;
    int8* rounded;
    float* scales;
    int is_super, pad;
};

template <int kWarps>
struct MergeShared {
    float of_warp[kWarps];
};

// Merges the splits: a warp for each row and head, a lane for every 32nd dimension.
template <int kWarps>
DEV void merge_at(const MergeArgs& a, const Step& s, Place place, MergeShared<kWarps>& shared) {
    constexpr int kMostDims = 128 / kWarp;
    const AttentionArgs& all = a.attention;
    const int head = place.x * kWarps + warp_index(), row = place.y;
    if (row >= rows_of(s, all.is_selected)) return;
    const bool exists = head < all.n_head;
    const int last = exists ? (keys_of(all, s, row).end - 1) / kSplitKeys : -1;
    const int dims = all.kv.head_dim;
    const int64 at = int64(row) * all.n_head + head;
    const float* from = all.partial + at * all.n_splits * (2 + dims);
    float most = kNone, sum = exists ? 0 : 1, out[kMostDims] = {};
#pragma unroll 4
    for (int split = 0; split <= last; ++split, from += 2 + dims) {
        const float both = larger(most, from[0]);
        const float mine = exp_of(most - both), theirs = exp_of(from[0] - both);
        sum = multiply_add(sum, mine, from[1] * theirs);
#pragma unroll
        for (int i = 0; i < kMostDims; ++i) {
            const int d = lane_index() + i * kWarp;
            if (d < dims) out[i] = multiply_add(out[i], mine, from[2 + d] * theirs);
        }
        most = both;
    }
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kMostDims; ++i) {
        out[i] /= sum;
        const int d = lane_index() + i * kWarp;
        if (d < dims && exists && !a.rounded) all.out[at * dims + d] = out[i];
        if (d < dims) largest = larger(largest, sized(out[i]));
    }
    if (!a.rounded) return;
    if (a.is_super) {  // the heads of 256 dimensions share a scale
        largest = warp_max(largest);
        if (lane_index() == 0) shared.of_warp[warp_index()] = largest;
        block_sync();
        const int n = 256 / dims, first = warp_index() / n * n;
        for (int w = first; w < first + n; ++w) largest = larger(largest, shared.of_warp[w]);
    }
#pragma unroll
    for (int i = 0; i < kMostDims; ++i) {
        if (i * kWarp >= dims) break;
        const float most_here = a.is_super ? largest : warp_max(sized(out[i]));
        if (!exists) continue;
        write_rounded(a.rounded, a.scales, row, head * dims + i * kWarp + lane_index(),
                      all.n_head * dims, out[i], most_here);
    }
}

KERNEL(attention_merge, kAttentionThreads, MergeArgs) {
    SHARED MergeShared<kAttentionWarps> shared;
    const Step step = *a.attention.step;
    begin_after_others();
    merge_at(a, step, block_place(), shared);
}
