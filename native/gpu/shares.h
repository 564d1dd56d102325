// What the queries of a text's end attend to among stored keys (SPEC C.3): each key's share, the
// mean over rows and heads of the softmax over all keys.
//
// Scores are not kept, they are more than the keys: they are computed once for what each query's
// softmax is relative to, by runs of 32 keys that are merged in order, and again for the shares.
#pragma once

#include "split.h"

// A query is a row and a head, (T, H); keys lie (K, N, D), the heads that share some one by one.
struct SharesArgs {
    const float* q;      // (T, H, D)
    const uint16* keys;  // (K, N, D)
    float* parts;        // (T, H, runs, 2) the largest score of a run, the sum of its weights
    float* totals;       // (T, H, 2) the largest of all, what weights are divided by
    float* out;          // (N)
    int n_rows, n_head, n_kv, n_keys;
    float scale;
    int pad;
};

constexpr int kSharesThreads = 128, kSharesQueries = 16;  // whose queries are shared at once

template <int kDims>
struct SharesShared {
    float q[kSharesQueries][kDims];
};

DEV int n_runs(const SharesArgs& a) {
    return (a.n_keys + kWarp - 1) / kWarp;
}

// Which query is the i-th of those that share a KV head.
DEV int64 shares_query(const SharesArgs& a, int kv_head_index, int i) {
    const int group = a.n_head / a.n_kv;
    return int64(i / group) * a.n_head + kv_head_index * group + i % group;
}

// A thread's key of a KV head, and the scores of the queries with it.
template <int kDims, class Take>
DEV void score_key(const SharesArgs& a, int kv_head_index, int key, SharesShared<kDims>& shared,
                   const Take& take) {
    float k[kDims] = {};
    if (key < a.n_keys) {
        const uint32* from = reinterpret_cast<const uint32*>(
            a.keys + (int64(kv_head_index) * a.n_keys + key) * kDims);
#pragma unroll
        for (int i = 0; i < kDims / 2; ++i) {
            const uint32 two = from[i];
            k[2 * i] = half_to_float(uint16(two & 0xffff));
            k[2 * i + 1] = half_to_float(uint16(two >> 16));
        }
    }
    const int n_queries = a.n_rows * (a.n_head / a.n_kv);
    const float scale = a.scale * kLog2E;
#pragma unroll 1
    for (int first = 0; first < n_queries; first += kSharesQueries) {
        const int n = n_queries - first < kSharesQueries ? n_queries - first : kSharesQueries;
        block_sync();
        for (int i = thread_index(); i < n * kDims; i += kSharesThreads) {
            const int64 query = shares_query(a, kv_head_index, first + i / kDims);
            shared.q[i / kDims][i % kDims] = a.q[query * kDims + i % kDims] * scale;
        }
        block_sync();
#pragma unroll 1
        for (int i = 0; i < n; ++i) {
            float score = 0;
#pragma unroll
            for (int d = 0; d < kDims; ++d) score = multiply_add(shared.q[i][d], k[d], score);
            take(shares_query(a, kv_head_index, first + i), score);
        }
    }
}

template <int kDims>
DEV void shares_parts(const SharesArgs& a) {
    SHARED SharesShared<kDims> shared;
    begin_after_others();
    const int key = block_x() * kSharesThreads + thread_index(), run = key / kWarp;
    score_key<kDims>(a, block_y(), key, shared, [&](int64 query, float score) {
        const float seen = key < a.n_keys ? score : kNone, most = warp_max(seen);
        const float sum = warp_sum(exp2_of(seen - most));
        if (lane_index() > 0 || run >= n_runs(a)) return;
        float* to = a.parts + (query * n_runs(a) + run) * 2;
        to[0] = most;
        to[1] = sum;
    });
}

// Merges a query's runs: a warp for each query, a lane for every 32nd run.
KERNEL(shares_totals, kRowThreads, SharesArgs) {
    begin_after_others();
    const int query = block_x() * (kRowThreads / kWarp) + warp_index();
    if (query >= a.n_rows * a.n_head) return;
    const float* parts = a.parts + int64(query) * n_runs(a) * 2;
    float most = kNone, sum = 0;
    for (int run = lane_index(); run < n_runs(a); run += kWarp) {
        const Factors factors = factors_of(most, parts[2 * run]);
        sum = sum * factors.mine + parts[2 * run + 1] * factors.theirs;
        most = factors.most;
    }
    const float most_of_all = warp_max(most);
    sum = warp_sum(sum * exp2_of(most - most_of_all));
    if (lane_index() > 0) return;
    a.totals[2 * query] = most_of_all;
    a.totals[2 * query + 1] = sum * float(a.n_rows * a.n_head);
}

template <int kDims>
DEV void shares(const SharesArgs& a) {
    SHARED SharesShared<kDims> shared;
    begin_after_others();
    const int key = block_x() * kSharesThreads + thread_index();
    float share = 0;
#pragma unroll 1
    for (int head = 0; head < a.n_kv; ++head)
        score_key<kDims>(a, head, key, shared, [&](int64 query, float score) {
            const float* total = a.totals + 2 * query;
            share += exp2_of(score - total[0]) / total[1];
        });
    if (key < a.n_keys) a.out[key] = share;
}

KERNEL(shares_parts_32, kSharesThreads, SharesArgs) {
    shares_parts<32>(a);
}
KERNEL(shares_parts_64, kSharesThreads, SharesArgs) {
    shares_parts<64>(a);
}
KERNEL(shares_parts_128, kSharesThreads, SharesArgs) {
    shares_parts<128>(a);
}
KERNEL(shares_32, kSharesThreads, SharesArgs) {
    shares<32>(a);
}
KERNEL(shares_64, kSharesThreads, SharesArgs) {
    shares<64>(a);
}
KERNEL(shares_128, kSharesThreads, SharesArgs) {
    shares<128>(a);
}
