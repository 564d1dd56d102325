// Attention over one tile of 32 logical positions: scaled dot products, online softmax, weighted
// sum.
//
// A query's result depends only on its own visible keys in logical order: tiles start at multiples
// of 32 logical positions whatever the step, so prefill, decode and every tree branch agree bit for
// bit.
#pragma once

#include "../kernels.h"
#include "wide.h"

namespace native::cpu::KERNEL_ISA {

inline void expand_tile(const KvTile& tile, int64_t head_dim, float* k, float* v) {
    for (int64_t i = 0; i < head_dim * kKvBlock; i += 8) {
        store(k + i, load_half(tile.k + i));
        store(v + i, load_half(tile.v + i));
    }
}

// Scores of one tile become weights in p (32) and update the query's running maximum and sum;
// returns what the output so far must be multiplied with.
inline float online_softmax(const TileQuery& query, float scale, float* p) {
    f32x8 score[4];
    for (int c = 0; c < 4; ++c) store(p + 8 * c, load(p + 8 * c) * scale);
    for (int64_t j = 0; j < query.n_skip; ++j) p[j] = -__builtin_inff();
    for (int64_t j = query.n_valid; j < kKvBlock; ++j) p[j] = -__builtin_inff();
    for (int c = 0; c < 4; ++c) score[c] = load(p + 8 * c);
    const float tile_max = max_lane(max(max(score[0], score[1]), max(score[2], score[3])));
    const float new_max = tile_max > *query.max ? tile_max : *query.max;
    const float correction = exp(splat(*query.max - new_max))[0];
    for (int c = 0; c < 4; ++c) score[c] = exp(score[c] - new_max);
    for (int c = 0; c < 4; ++c) store(p + 8 * c, score[c]);
    const float total = sum((score[0] + score[1]) + (score[2] + score[3]));
    *query.sum = fma(*query.sum, correction, total);
    *query.max = new_max;
    return correction;
}

// p (N, 32) = q . k of every query, dimensions in order.
template <int N>
inline void score_tile(const TileQuery* queries, const float* k, int64_t head_dim,
                       float (*p)[kKvBlock]) {
    f32x16 score[N][2];
    for (int n = 0; n < N; ++n) score[n][0] = score[n][1] = splat16(0);
    for (int64_t d = 0; d < head_dim; ++d) {
        const f32x16 low = load16(k + d * kKvBlock), high = load16(k + d * kKvBlock + 16);
        for (int n = 0; n < N; ++n) {
            const f32x16 weight = splat16(queries[n].q[d]);
            score[n][0] = fma16(weight, low, score[n][0]);
            score[n][1] = fma16(weight, high, score[n][1]);
        }
    }
    for (int n = 0; n < N; ++n) {
        store16(p[n], score[n][0]);
        store16(p[n] + 16, score[n][1]);
    }
}

// kWides sixteens of every query's output, from dimension d: out = out * correction + p . v, keys
// in order.
template <int N, int kWides>
inline void add_values(const TileQuery* queries, const float* v, int64_t head_dim, int64_t d,
                       const float (*p)[kKvBlock], const float* correction) {
    f32x16 acc[N][kWides];
    int64_t n_common = kKvBlock;
    for (int n = 0; n < N; ++n) {
        n_common = queries[n].n_valid < n_common ? queries[n].n_valid : n_common;
        for (int c = 0; c < kWides; ++c)
            acc[n][c] = multiply16(load16(queries[n].out + d + 16 * c), splat16(correction[n]));
    }
    for (int64_t j = 0; j < n_common; ++j)
        for (int c = 0; c < kWides; ++c) {
            const f32x16 value = load16(v + j * head_dim + d + 16 * c);
            for (int n = 0; n < N; ++n) acc[n][c] = fma16(splat16(p[n][j]), value, acc[n][c]);
        }
    for (int n = 0; n < N; ++n) {
        for (int64_t j = n_common; j < queries[n].n_valid; ++j)
            for (int c = 0; c < kWides; ++c)
                acc[n][c] =
                    fma16(splat16(p[n][j]), load16(v + j * head_dim + d + 16 * c), acc[n][c]);
        for (int c = 0; c < kWides; ++c) store16(queries[n].out + d + 16 * c, acc[n][c]);
    }
}

// The last eight dimensions of a head whose size is no multiple of sixteen.
inline void add_last_values(const TileQuery& query, const float* v, int64_t head_dim, int64_t d,
                            const float* p, float correction) {
    f32x8 acc = load(query.out + d) * correction;
    for (int64_t j = 0; j < query.n_valid; ++j)
        acc = fma(splat(p[j]), load(v + j * head_dim + d), acc);
    store(query.out + d, acc);
}

template <int N>
inline void attend_queries(const TileQuery* queries, const float* k, const float* v,
                           int64_t head_dim, float scale) {
    float p[N][kKvBlock], correction[N];
    score_tile<N>(queries, k, head_dim, p);
    for (int n = 0; n < N; ++n) correction[n] = online_softmax(queries[n], scale, p[n]);
    int64_t d = 0;
    for (; d + 16 * kOutputBatch <= head_dim; d += 16 * kOutputBatch)
        add_values<N, kOutputBatch>(queries, v, head_dim, d, p, correction);
    for (; d + 16 <= head_dim; d += 16) add_values<N, 1>(queries, v, head_dim, d, p, correction);
    if (d < head_dim)
        for (int n = 0; n < N; ++n)
            add_last_values(queries[n], v, head_dim, d, p[n], correction[n]);
}

inline void attend_tile(const TileQuery* queries, int64_t n_queries, const float* k, const float* v,
                        int64_t head_dim, float scale) {
    int64_t n = 0;
    for (; n + kQueryBatch <= n_queries; n += kQueryBatch)
        attend_queries<kQueryBatch>(queries + n, k, v, head_dim, scale);
    for (; n < n_queries; ++n) attend_queries<1>(queries + n, k, v, head_dim, scale);
}

inline void finish_attention(float* out, float total, int64_t head_dim) {
    const float inverse = 1.0f / total;
    for (int64_t d = 0; d < head_dim; ++d) out[d] *= inverse;
}

}  // namespace native::cpu::KERNEL_ISA
