// What is chosen of each row of logits: the best of it, or the k best in order.
//
// The larger number comes first, among equals the one in the lower column, and NaN before all. A
// block looks at a chunk of a row's columns and keeps the best, another one merges a row's chunks.
#pragma once

#include "rows.h"
#include "step.h"

constexpr int kChunk = 4096, kTopThreads = kRowThreads, kTopWarps = kTopThreads / kWarp;
constexpr int kShare = kChunk / kTopThreads;  // of a thread
constexpr int kMostTop = kTopThreads / 4;
constexpr int kMostFound = kMostTop * kShare;

struct ChooseArgs {
    const Step* step;
    const float* x;  // (R, width)
    uint64* keys;    // (R, k, chunks) the best of each chunk in order, or 0
    float* sums;     // (R, chunks) of exp relative to the chunk's largest, for log-softmax
    int* ids;        // (R, k), the first -1 where the best is not finite
    float* values;   // (R, k) logits or, where asked for, their log-softmax
    int width, n_chunks, k, is_log_softmax;
    int is_told, pad;  // whether ids are the step's own, which the host is told
};

// ---- keys: a number and its column, larger for what comes first; none is 0 ----

DEV bool is_nan(float x) {
    return !(x == x);
}

DEV uint64 key_of(float x, int col) {
    const uint32 bits = x == 0 ? 0 : float_to_bits(x);  // there is one zero
    const uint32 rank = is_nan(x) ? ~0u : bits >> 31 ? ~bits : bits | 0x80000000u;
    return uint64(rank) << 32 | uint32(~col);
}

DEV float value_of(uint64 key) {
    const uint32 rank = uint32(key >> 32);
    return bits_to_float(rank >> 31 ? rank & 0x7fffffffu : ~rank);
}

DEV int col_of(uint64 key) {
    return int(~uint32(key));
}

// The column of a row's best, -1 where that is not finite.
DEV int best_col_of(uint64 key) {
    const float value = value_of(key);
    return value < 3.0e38f && value > -3.0e38f ? col_of(key) : -1;
}

DEV void write_id(const ChooseArgs& a, int64 i, int id) {
    a.ids[i] = id;
    if (a.is_told) a.step->told[i] = id;
}

DEV uint64 larger_key(uint64 a, uint64 b) {
    return a > b ? a : b;
}

// The largest key of 2, 4, .. `n_lanes` neighbouring lanes.
DEV uint64 lanes_best(uint64 key, int n_lanes) {
    for (int mask = 1; mask < n_lanes; mask <<= 1) {
        const uint32 low = uint32(shuffle_xor(int(uint32(key)), mask));
        const uint32 high = uint32(shuffle_xor(int(uint32(key >> 32)), mask));
        key = larger_key(key, uint64(high) << 32 | low);
    }
    return key;
}

// A thread's numbers of the block's chunk: every 256th from its own on.
DEV void load_chunk(const float* x, int width, uint64 (&keys)[kShare]) {
    const int first = block_x() * kChunk + thread_index();
    float values[kShare];
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
        const int col = first + i * kTopThreads;
        values[i] = col < width ? x[col] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
        const int col = first + i * kTopThreads;
        keys[i] = col < width ? key_of(values[i], col) : 0;
    }
}

DEV uint64 best_of(const uint64 (&keys)[kShare]) {
    uint64 best = keys[0];
#pragma unroll
    for (int i = 1; i < kShare; ++i) best = larger_key(best, keys[i]);
    return best;
}

// ---- the best ----

struct BestShared {
    uint64 of_warp[kTopWarps];
};

DEV uint64 block_best(BestShared& shared, uint64 key) {
    key = lanes_best(key, kWarp);
    if (lane_index() == 0) shared.of_warp[warp_index()] = key;
    block_sync();
    for (int w = 0; w < kTopWarps; ++w) key = larger_key(key, shared.of_warp[w]);
    return key;
}

KERNEL(argmax_chunks, kTopThreads, ChooseArgs) {
    SHARED BestShared shared;
    begin_after_others();
    const int64 row = block_y();
    if (row >= a.step->n_out_rows) return;
    uint64 keys[kShare];
    load_chunk(a.x + row * a.width, a.width, keys);
    const uint64 best = block_best(shared, best_of(keys));
    if (thread_index() == 0) a.keys[row * a.n_chunks + block_x()] = best;
}

KERNEL(argmax, kTopThreads, ChooseArgs) {
    SHARED BestShared shared;
    begin_after_others();
    const int64 row = block_y();
    if (row >= a.step->n_out_rows) return;
    uint64 best = 0;
    for (int i = thread_index(); i < a.n_chunks; i += kTopThreads)
        best = larger_key(best, a.keys[row * a.n_chunks + i]);
    best = block_best(shared, best);
    if (thread_index() == 0) write_id(a, row, best_col_of(best));
}

// ---- the k best ----
//
// Groups of lanes show their best: the k-th of these is a bound that at least k keys reach and, as
// there are four groups for each of k, seldom many more. They are written down, and each counts
// those before it.

struct TopShared {
    RowShared sums;
    uint64 of_group[kTopThreads], first, bound;
    int n_of_warp[kTopWarps];
    uint64 found[kMostFound];
};

// `first` becomes the block's best key, `bound` what the k best reach.
DEV void find_bound(TopShared& shared, const uint64 (&keys)[kShare], int k) {
    int n_lanes = 1;
    while (n_lanes < kWarp && 8 * n_lanes * k <= kTopThreads) n_lanes *= 2;
    const uint64 best = lanes_best(best_of(keys), n_lanes);
    if (thread_index() == 0) shared.bound = 1;  // where there are fewer than k
    if (lane_index() % n_lanes == 0) shared.of_group[thread_index() / n_lanes] = best;
    block_sync();
    int n_before = 0;
    for (int i = 0; i < kTopThreads / n_lanes; ++i) n_before += shared.of_group[i] > best;
    if (n_before == 0) shared.first = best;
    if (n_before == k - 1 && best != 0) shared.bound = best;
    block_sync();
}

// Writes down the keys that reach the bound, in any order; returns how many there are.
DEV int find_keys(TopShared& shared, const uint64 (&keys)[kShare]) {
    const uint64 bound = shared.bound;
    int n = 0;
#pragma unroll
    for (int i = 0; i < kShare; ++i) n += keys[i] >= bound;
    int end = n;  // of this lane's, among its warp's
    for (int step = 1; step < kWarp; step *= 2) {
        const int before = shuffle(end, lane_index() < step ? lane_index() : lane_index() - step);
        if (lane_index() >= step) end += before;
    }
    if (lane_index() == kWarp - 1) shared.n_of_warp[warp_index()] = end;
    block_sync();
    int at = end - n, n_found = 0;
    for (int w = 0; w < kTopWarps; ++w) {
        if (w < warp_index()) at += shared.n_of_warp[w];
        n_found += shared.n_of_warp[w];
    }
#pragma unroll
    for (int i = 0; i < kShare; ++i)
        if (keys[i] >= bound) shared.found[at++] = keys[i];
    block_sync();
    return n_found;
}

// take(rank, key) gets each of the block's k best, or 0 where there are fewer; after find_bound.
template <class Take>
DEV void take_best(TopShared& shared, const uint64 (&keys)[kShare], int k, const Take& take) {
    const int n_found = find_keys(shared, keys);
    for (int i = thread_index(); i < n_found; i += kTopThreads) {
        const uint64 key = shared.found[i];
        int rank = 0;
        for (int j = 0; j < n_found; ++j) rank += shared.found[j] > key;
        if (rank < k) take(rank, key);
    }
    for (int rank = n_found + thread_index(); rank < k; rank += kTopThreads) take(rank, 0);
}

// What weights are relative to: the largest number, as far as it is one.
DEV float base_of(uint64 best) {
    return larger(value_of(best), -3.4e38f);
}

KERNEL(top_k_chunks, kTopThreads, ChooseArgs) {
    SHARED TopShared shared;
    begin_after_others();
    const int64 row = block_y();
    if (row >= a.step->n_out_rows) return;
    uint64 keys[kShare];
    load_chunk(a.x + row * a.width, a.width, keys);
    find_bound(shared, keys, a.k);
    if (a.is_log_softmax) {
        const float base = base_of(shared.first);
        float sum = 0;
#pragma unroll
        for (int i = 0; i < kShare; ++i)
            if (keys[i] != 0) sum += exp_of(value_of(keys[i]) - base);
        sum = block_sum(shared.sums, sum);
        if (thread_index() == 0) a.sums[row * a.n_chunks + block_x()] = sum;
    }
    take_best(shared, keys, a.k, [&](int rank, uint64 key) {
        a.keys[(row * a.k + rank) * a.n_chunks + block_x()] = key;
    });
}

KERNEL(top_k, kTopThreads, ChooseArgs) {
    SHARED TopShared shared;
    begin_after_others();
    const int64 row = block_y();
    if (row >= a.step->n_out_rows) return;
    const uint64* of_chunks = a.keys + row * a.k * a.n_chunks;
    uint64 keys[kShare];
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
        const int at = i * kTopThreads + thread_index();
        keys[i] = at < a.k * a.n_chunks ? of_chunks[at] : 0;
    }
    find_bound(shared, keys, a.k);
    float base = 0, log_sum = 0;
    if (a.is_log_softmax) {
        base = base_of(shared.first);
        float sum = 0;
        for (int i = thread_index(); i < a.n_chunks; i += kTopThreads)
            sum += a.sums[row * a.n_chunks + i] * exp_of(base_of(of_chunks[i]) - base);
        log_sum = log_of(block_sum(shared.sums, sum));
    }
    take_best(shared, keys, a.k, [&](int rank, uint64 key) {
        write_id(a, row * a.k + rank, rank == 0 ? best_col_of(key) : col_of(key));
        a.values[row * a.k + rank] = value_of(key) - base - log_sum;
    });
}
