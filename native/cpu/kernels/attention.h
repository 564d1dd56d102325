// Attention over one tile of 32 logical positions: scaled dot products, online softmax, weighted
// sum.
//
// A query's result depends only on its own visible keys in logical order: tiles start at multiples
// of 32 logical positions whatever the step, so prefill, decode and every tree branch agree bit for
// bit.
#pragma once

#include "../kernels.h"
#include "simd.h"

namespace native::cpu::KERNEL_ISA {

inline void expand_tile(const KvTile& tile, int64_t head_dim, float* k, float* v) {
    for (int64_t i = 0; i < head_dim * kKvBlock; i += 8) {
        store(k + i, load_half(tile.k + i));
        store(v + i, load_half(tile.v + i));
    }
}

// out (D) = out * correction + sum over j of p[j] * v[j], keys in order.
template <int kVectors>
inline void accumulate_values(const float* p, const float* v, int64_t head_dim, int64_t n_valid,
                              float correction, float* out) {
    f32x8 acc[kVectors];
    for (int c = 0; c < kVectors; ++c) acc[c] = load(out + 8 * c) * correction;
    for (int64_t j = 0; j < n_valid; ++j) {
        const f32x8 weight = splat(p[j]);
        const float* row = v + j * head_dim;
        for (int c = 0; c < kVectors; ++c) acc[c] = fma(weight, load(row + 8 * c), acc[c]);
    }
    for (int c = 0; c < kVectors; ++c) store(out + 8 * c, acc[c]);
}

inline void attend_tile(const float* q, const float* k, const float* v, int64_t head_dim,
                        float scale, int64_t n_valid, float* max_score, float* sum_score,
                        float* out) {
    f32x8 score[4] = {};
    for (int64_t d = 0; d < head_dim; ++d) {
        const f32x8 weight = splat(q[d]);
        for (int c = 0; c < 4; ++c)
            score[c] = fma(weight, load(k + d * kKvBlock + 8 * c), score[c]);
    }
    float p[kKvBlock];
    for (int c = 0; c < 4; ++c) store(p + 8 * c, score[c] * scale);
    for (int64_t j = n_valid; j < kKvBlock; ++j) p[j] = -__builtin_inff();
    for (int c = 0; c < 4; ++c) score[c] = load(p + 8 * c);

    const float tile_max = max_lane(max(max(score[0], score[1]), max(score[2], score[3])));
    const float new_max = tile_max > *max_score ? tile_max : *max_score;
    const float correction = exp(splat(*max_score - new_max))[0];
    for (int c = 0; c < 4; ++c) score[c] = exp(score[c] - new_max);
    for (int c = 0; c < 4; ++c) store(p + 8 * c, score[c]);
    const float total = sum((score[0] + score[1]) + (score[2] + score[3]));
    *sum_score = fma(*sum_score, correction, total);
    *max_score = new_max;

    int64_t d = 0;
    for (; d + 64 <= head_dim; d += 64)
        accumulate_values<8>(p, v + d, head_dim, n_valid, correction, out + d);
    for (; d + 32 <= head_dim; d += 32)
        accumulate_values<4>(p, v + d, head_dim, n_valid, correction, out + d);
    for (; d < head_dim; d += 8)
        accumulate_values<1>(p, v + d, head_dim, n_valid, correction, out + d);
}

inline void finish_attention(float* out, float total, int64_t head_dim) {
    const float inverse = 1.0f / total;
    for (int64_t d = 0; d < head_dim; ++d) out[d] *= inverse;
}

}  // namespace native::cpu::KERNEL_ISA
