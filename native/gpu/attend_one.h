// A single row's queries, key and value, made by the blocks that attend with them: a launch less.
//
// The blocks of a cluster have a KV head. Each multiplies a share of the weights that its queries,
// key and value come from and shows the results to all; then each four warps attend to splits.
// What there was of the last split has come to shared memory by then, and the new key and value
// join it there. The numbers are those of linear_one.h and attention.h to the bit.
#pragma once

#include "linear_one.h"

#if defined(HAS_CLUSTERS)

// Two blocks fit on a multiprocessor, so that one is there before what runs before it ends.
constexpr int kAttendThreads = 256, kAttendWarps = kAttendThreads / kWarp;
constexpr int kAttendParts = kAttendWarps / kPartWarps;

// A block's share of its KV head's tiles: those of the queries come first, then the key's, then the
// value's, each a part of its own.
template <int kDims>
struct HeadTiles {
    static constexpr int kOfHead = kDims / kTileRows;
    const LinearArgs& a;
    int kv_head, first, n;

    DEV_MEMBER OneTile at(int t) const {
        const int n_query = a.attention.group * kOfHead, i = first + t;
        if (i < n_query) return {&a.parts[0], kv_head * n_query + i};
        const int part = i < n_query + kOfHead ? 1 : 2;
        return {&a.parts[part], (kv_head - part + 1) * kOfHead + i - n_query};
    }
};

template <int kDims>
DEV HeadTiles<kDims> head_tiles(const LinearArgs& a, int kv_head, int rank) {
    const int n_all = (a.attention.group + 2) * HeadTiles<kDims>::kOfHead;
    const int first = rank * a.tiles_of_block, n_left = n_all - first;
    const int n = n_left < a.tiles_of_block ? n_left : a.tiles_of_block;
    return {a, kv_head, first, n > 0 ? n : 0};
}

// As linear_shape.py counts it. All of it is the launch's, for others write to it.
template <int kDims>
struct AttendShared {
    static constexpr int kHeadHalves = kDimHalves * kDims;  // of a block of the cache
    OneShared one;
    Mailbox* box;
    float* q;       // (heads of the group, kDims)
    float* news;    // where the last split is: the key and the value (2, kDims)
    uint16* cache;  // and the head's part of the split's blocks
    PartShared* parts;
};

template <int kDims>
DEV AttendShared<kDims> attend_shared(const LinearArgs& a) {
    AttendShared<kDims> shared;
    shared.one = one_shared(a, kFewSlices);
    uint8* at = shared.one.tiles + a.tiles_of_block * a.staged_bytes;
    shared.box = reinterpret_cast<Mailbox*>(at);
    at += 16;
    shared.q = reinterpret_cast<float*>(at);
    at += a.attention.group * kDims * 4;
    shared.news = reinterpret_cast<float*>(at);
    at += 2 * kDims * 4;
    shared.cache = reinterpret_cast<uint16*>(at);
    at += kSplitBlocks * AttendShared<kDims>::kHeadHalves * 2;
    shared.parts = reinterpret_cast<PartShared*>(at);
    return shared;
}

// Begins to copy the blocks of the split from `first` on.
template <int kDims>
DEV void copy_split(const AttentionArgs& a, const Step& s, int kv_head_index, int first,
                    uint16* to) {
    constexpr int kHalves = AttendShared<kDims>::kHeadHalves;
    const FromCache<kDims> from = from_cache<kDims>(a, s, kv_head_index, first, 0);
#pragma unroll
    for (int block = 0; block < kSplitBlocks; ++block)
#pragma unroll 1
        for (int i = 8 * thread_index(); i < kHalves; i += 8 * kAttendThreads)
            copy_ahead(to + block * kHalves + i, from.head(block) + i);
    end_of_group();
}

// Where a result goes: a query to all blocks that attend, a key or value to the cache and to the
// block that has the last split.
template <int kDims>
DEV void show_result(const LinearArgs& a, const Step& s, const OneResult& r, float value,
                     int cache_block, int kv_head_index, const AttendShared<kDims>& shared) {
    const int last = s.n_past / kSplitKeys, n_ranks = n_blocks_x();
    if (r.part->target == kQuery) {
        float* q = shared.q + r.column.n - kv_head_index * a.attention.group * kDims;
#pragma unroll 1
        for (int rank = 0; rank < n_ranks && rank <= last; ++rank) post(q, value, shared.box, rank);
        return;
    }
    const bool is_key = r.part->target == kKey;
    float* news = shared.news + (is_key ? 0 : kDims) + r.column.n % kDims;
    post(news, value, shared.box, last % n_ranks);
    const CachePlace to = cache_place(a, s, *r.part, 0, r.column.n);
    kv_head(a.turning.kv, cache_block, to.head)[to.at] = float_to_half(value);
}

// Puts the new key and value where they belong in the last split.
template <int kDims>
DEV void take_news(const KvPlace& kv, int n_past, const AttendShared<kDims>& shared) {
    const int offset = n_past % kKvBlock, block = n_past % kSplitKeys / kKvBlock;
    uint16* cache = shared.cache + block * AttendShared<kDims>::kHeadHalves;
    const int i = thread_index(), dim = i % kDims;
    if (i < 2 * kDims)
        cache[i < kDims ? key_at(kv, offset, dim) : value_at(kv, offset, dim)] =
            float_to_half(shared.news[i]);
    block_sync();
}

template <int kDims>
DEV void attend_one(const LinearArgs& a) {
    const AttentionArgs& attention = a.attention;
    const Step step = *a.step;
    const int kv_head_index = block_y(), rank = block_x(), n_ranks = n_blocks_x();
    const AttendShared<kDims> shared = attend_shared<kDims>(a);
    const HeadTiles<kDims> tiles = head_tiles<kDims>(a, kv_head_index, rank);
    begin_tiles<kAttendThreads>(a, tiles, shared.one);
    const int last = step.n_past / kSplitKeys;
    const bool has_last = last % n_ranks == rank;
    const int n_posted = (rank <= last ? attention.group : 0) + (has_last ? 2 : 0);
    mailbox_open(shared.box, n_posted * kDims * 4);
    if (has_last)
        copy_split<kDims>(attention, step, kv_head_index, last * kSplitKeys, shared.cache);
    // The first splits, one for every four warps; those that follow are begun when these are done.
    const int part = warp_index() / kPartWarps, mine = rank + n_ranks * part;
    PartWords<kDims> words;
    FromCache<kDims> from = {};
    if (mine < last) {
        from =
            from_cache<kDims>(attention, step, kv_head_index, mine * kSplitKeys, step.n_past + 1);
        words.load(from);
    }
    const OneResult result = one_result(a, tiles);
    const Extras extras = constants_of(a, step, *result.part, result.column, 0, result.is_there);
    const int cache_block = cache_block_of(step, *result.part, 0);
    const int format = first_format<kFewSlices>(tiles);
    const RoundedRows<1> row{shared.one.numbers, shared.one.scales, a.n_blocks};
    round_one<kAttendWarps, 1>(a.rounding, row, shared.one.squares, [] {});
    groups_left<0>();
    block_sync();
    multiply_tiles<kFewSlices, kAttendWarps>(a, tiles, shared.one, format);
    block_sync();
    mailboxes_opened();
    if (warp_index() * 2 < tiles.n) {
        const float sum = sum_of_slices<kFewSlices>(shared.one, result.tile);
        const float value = finished(a, *result.part, result.column, sum, extras);
        if (result.is_there)
            show_result<kDims>(a, step, result, value, cache_block, kv_head_index, shared);
    }
    mailbox_wait(shared.box);
    if (has_last) take_news<kDims>(attention.kv, step.n_past, shared);
    const Queries queries = queries_of(attention, step);
    const float* of_rows = shared.q - kv_head_index * attention.group * kDims;
    Asked<kDims> asked;
    ask(attention, step, queries, of_rows, kv_head_index, 0, asked);
    const int n_at_once = n_ranks * kAttendParts;
#pragma unroll 1
    for (int begun = 0; begun <= last; begun += n_at_once) {
        const int split = begun + mine, first = split * kSplitKeys;
        if (begun > 0) block_sync();  // others still read what this split's weights replace
        if (split > last) {           // others of the block meet twice
            block_sync();
            block_sync();
            continue;
        }
        if (begun > 0 || split == last) {
            from = from_cache<kDims>(attention, step, kv_head_index, first, step.n_past + 1);
#pragma unroll
            for (int block = 0; block < kSplitBlocks; ++block)
                if (split == last)
                    from.heads[block] = shared.cache + block * AttendShared<kDims>::kHeadHalves;
            words.load(from);
        }
        constexpr int kStride = kPartFloats<kDims>;
        const RowPlaces to =
            places_of(attention, queries, kv_head_index, 0, attention.partial + split * kStride,
                      int64(attention.n_splits) * kStride);
        run_part(attention, asked, from, words, first, to, shared.parts[part]);
    }
}

CLUSTER_KERNEL(attend_one_32, kAttendThreads, LinearArgs) {
    attend_one<32>(a);
}
CLUSTER_KERNEL(attend_one_64, kAttendThreads, LinearArgs) {
    attend_one<64>(a);
}
#endif
