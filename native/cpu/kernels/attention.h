// Attention over one tile of 32 logical positions: scaled dot products, online softmax, weighted
// sum.
//
// A query's result depends only on its own visible keys in logical order: tiles start at multiples
// of 32 logical positions whatever the step, so prefill, decode and every tree branch agree bit for
// bit. Cached numbers are exact as floats, so it does not matter when they become some.
#pragma once

#include "kv_tile.h"

namespace native::cpu::KERNEL_ISA {

// Which of the tile's keys a query sees.
struct Visible {
    int begin, end;
    Visible(const TileQuery& query, int64_t first)
        : begin(query.begin > first ? int(query.begin - first) : 0),
          end(query.end < first + kKvBlock ? int(query.end - first) : kKvBlock) {}
    bool is_all() const { return begin == 0 && end == kKvBlock; }
};

// Scores of one tile become weights in p (32) and update the query's running maximum and sum;
// returns what the output so far must be multiplied with.
inline float online_softmax(TileQuery& query, Visible visible, float scale, float* p) {
    f32x16 low = load16(p) * splat16(scale), high = load16(p + 16) * splat16(scale);
    if (!visible.is_all()) {
        store16(p, low);
        store16(p + 16, high);
        for (int j = 0; j < visible.begin; ++j) p[j] = -__builtin_inff();
        for (int j = visible.end; j < kKvBlock; ++j) p[j] = -__builtin_inff();
        low = load16(p);
        high = load16(p + 16);
    }
    const float tile_max = max_lane(max(low, high));
    float correction = 1.0f;  // what exp returns for a maximum that stays
    if (tile_max > query.max) {
        correction = exp(splat(query.max - tile_max))[0];
        query.max = tile_max;
    }
    low = exp(low - splat16(query.max));
    high = exp(high - splat16(query.max));
    store16(p, low);
    store16(p + 16, high);
    query.sum = fma(query.sum, correction, sum(low + high));
    return correction;
}

// p (N, 32) = q . k of every query, dimensions in order.
template <int N, class Tile>
inline void score_tile(const TileQuery* queries, const Tile& tile, float (*p)[kKvBlock]) {
    f32x16 score[N][2];
    for (int n = 0; n < N; ++n) score[n][0] = score[n][1] = splat16(0);
    for (int64_t d = 0; d < tile.head_dim; ++d) {
        const f32x16 low = load16(tile.k + d * kKvBlock), high = load16(tile.k + d * kKvBlock + 16);
        for (int n = 0; n < N; ++n) {
            const f32x16 weight = splat16(queries[n].q[d]);
            score[n][0] = fma(weight, low, score[n][0]);
            score[n][1] = fma(weight, high, score[n][1]);
        }
    }
    for (int n = 0; n < N; ++n) {
        store16(p[n], score[n][0]);
        store16(p[n] + 16, score[n][1]);
    }
}

// The weights of one tile for N queries, and what their outputs so far are multiplied with.
template <int N>
struct TileWeights {
    float p[N][kKvBlock];
    float correction[N];
    int end[N];               // keys seen, counted from the tile's first
    int n_common = kKvBlock;  // the least of them
};

// kWides sixteens of every query's output, from dimension d: out = out * correction + p . v, keys
// in order.
template <int N, int kWides, class Tile>
inline void add_values(TileQuery* queries, const Tile& tile, int64_t d,
                       const TileWeights<N>& weights) {
    f32x16 acc[N][kWides];
    for (int n = 0; n < N; ++n)
        for (int c = 0; c < kWides; ++c)
            acc[n][c] = load16(queries[n].out + d + 16 * c) * splat16(weights.correction[n]);
    const auto* v = tile.v + d;
    for (int j = 0; j < weights.n_common; ++j)
        for (int c = 0; c < kWides; ++c) {
            const f32x16 value = load16(v + j * tile.head_dim + 16 * c);
            for (int n = 0; n < N; ++n) acc[n][c] = fma(splat16(weights.p[n][j]), value, acc[n][c]);
        }
    for (int n = 0; n < N; ++n) {
        for (int j = weights.n_common; j < weights.end[n]; ++j)
            for (int c = 0; c < kWides; ++c)
                acc[n][c] = fma(splat16(weights.p[n][j]), load16(v + j * tile.head_dim + 16 * c),
                                acc[n][c]);
        for (int c = 0; c < kWides; ++c) store16(queries[n].out + d + 16 * c, acc[n][c]);
    }
}

// The last eight dimensions of a head whose size is no multiple of sixteen.
template <int N, class Tile>
inline void add_last_values(TileQuery* queries, const Tile& tile, int64_t d,
                            const TileWeights<N>& weights) {
    for (int n = 0; n < N; ++n) {
        f32x8 acc = load(queries[n].out + d) * weights.correction[n];
        for (int j = 0; j < weights.end[n]; ++j)
            acc = fma(splat(weights.p[n][j]), load8(tile.v + j * tile.head_dim + d), acc);
        store(queries[n].out + d, acc);
    }
}

template <int N, class Tile>
inline void attend_queries(TileQuery* queries, const Tile& tile, int64_t first, float scale) {
    TileWeights<N> weights;
    score_tile<N>(queries, tile, weights.p);
    for (int n = 0; n < N; ++n) {
        const Visible visible(queries[n], first);
        weights.correction[n] = online_softmax(queries[n], visible, scale, weights.p[n]);
        weights.end[n] = visible.end;
        weights.n_common = visible.end < weights.n_common ? visible.end : weights.n_common;
    }
    constexpr int kMostWides = kOutputRegisters / N, kWides = kMostWides < 4 ? kMostWides : 4;
    int64_t d = 0;
    for (; d + 16 * kWides <= tile.head_dim; d += 16 * kWides)
        add_values<N, kWides>(queries, tile, d, weights);
    if constexpr (kWides > 1)
        for (; d + 16 <= tile.head_dim; d += 16) add_values<N, 1>(queries, tile, d, weights);
    if (d < tile.head_dim) add_last_values<N>(queries, tile, d, weights);
}

// The last queries, fewer than a batch.
template <int N, class Tile>
inline void attend_rest(TileQuery* queries, int64_t n_queries, const Tile& tile, int64_t first,
                        float scale) {
    if constexpr (N > 0) {
        if (n_queries == N)
            attend_queries<N>(queries, tile, first, scale);
        else
            attend_rest<N - 1>(queries, n_queries, tile, first, scale);
    }
}

template <class Tile>
inline void attend(TileQuery* queries, int64_t n_queries, const Tile& tile, int64_t first,
                   float scale) {
    int64_t n = 0;
    for (; n + kQueryBatch <= n_queries; n += kQueryBatch)
        attend_queries<kQueryBatch>(queries + n, tile, first, scale);
    attend_rest<kQueryBatch - 1>(queries + n, n_queries - n, tile, first, scale);
}

inline void attend_tile(TileQuery* queries, int64_t n_queries, const FloatTile& tile, int64_t first,
                        float scale) {
    attend(queries, n_queries, tile, first, scale);
}

inline void attend_kv_tile(TileQuery* queries, int64_t n_queries, const KvTile& tile,
                           const FloatTile& scratch, int64_t first, float scale) {
    if (tile.type == KvType::kF16 && n_queries <= kQueryBatch) {
        // Each number is used by one batch: expanding it first would only cost stores and loads.
        const HalfTile halves(tile, scratch.head_dim);
        return attend(queries, n_queries, halves, first, scale);
    }
    expand_tile(tile, scratch);
    attend(queries, n_queries, scratch, first, scale);
}

inline void finish_attention(float* out, float total, int64_t head_dim) {
    const float inverse = 1.0f / total;
    for (int64_t d = 0; d < head_dim; ++d) out[d] *= inverse;
}

}  // namespace native::cpu::KERNEL_ISA
