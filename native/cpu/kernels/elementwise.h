// Norms, rotary embedding, activation functions, activation quantization, argmax, top k.
#pragma once

#include <algorithm>

#include "../kernels.h"
#include "simd.h"

namespace native::cpu::KERNEL_ISA {

inline void rms_norm(const float* x, const float* weight, float eps, float* y, int64_t n) {
    f32x8 squares = splat(0);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) squares = fma(load(x + i), load(x + i), squares);
    float total = sum(squares);
    for (; i < n; ++i) total = fma(x[i], x[i], total);
    const float scale = 1.0f / std::sqrt(total / float(n) + eps);
    for (i = 0; i + 8 <= n; i += 8) store(y + i, load(x + i) * scale * load(weight + i));
    for (; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

inline void rope(float* x, const float* cos, const float* sin, int64_t n_heads, int64_t head_dim,
                 int64_t n_rot, bool is_neox) {
    const int64_t n_pairs = n_rot / 2;
    const int64_t step = is_neox ? 1 : 2, partner = is_neox ? n_pairs : 1;
    for (int64_t h = 0; h < n_heads; ++h, x += head_dim) {
        int64_t i = 0;
        for (; i + 8 <= n_pairs; i += 8) {
            const f32x8 c = load(cos + i), s = load(sin + i);
            Pairs p = is_neox ? Pairs{load(x + i), load(x + i + n_pairs)} : load_pairs(x + 2 * i);
            p = {fma(p.first, c, -(p.second * s)), fma(p.first, s, p.second * c)};
            if (is_neox) {
                store(x + i, p.first);
                store(x + i + n_pairs, p.second);
            } else {
                store_pairs(x + 2 * i, p);
            }
        }
        for (; i < n_pairs; ++i) {
            const float a = x[i * step], b = x[i * step + partner];
            x[i * step] = fma(a, cos[i], -(b * sin[i]));
            x[i * step + partner] = fma(a, sin[i], b * cos[i]);
        }
    }
}

inline void silu_mul(const float* gate, const float* up, float* y, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const f32x8 g = load(gate + i);
        store(y + i, g / (1.0f + exp(-g)) * load(up + i));
    }
    for (; i < n; ++i) {
        const f32x8 g = splat(gate[i]);
        y[i] = (g / (1.0f + exp(-g)))[0] * up[i];
    }
}

// Quantizes n values, a whole block, and returns its scale; `sums` gets the sum of every 16 of
// them. One that holds NaN or infinity gets scale NaN, so that the fault stays visible; one too
// small for the inverse of its scale to be finite becomes zeros.
template <int n>
inline float quantize_block(const float* x, int8_t* q, int32_t (&sums)[n / 16]) {
    const float largest = largest_magnitude(x, n);
    if (!(largest < __builtin_inff())) {
        std::fill_n(q, n, int8_t(0));
        std::fill_n(sums, n / 16, 0);
        return std::bit_cast<float>(0x7fc00000u);
    }
    const float inverse = largest >= 0x1p-120f ? 127.0f / largest : 0.0f;
    for (int i = 0; i < n / 16; ++i) sums[i] = round_16(x + 16 * i, inverse, q + 16 * i);
    return largest / 127.0f;
}

inline void quantize_q8(const float* x, int64_t n_cols, const Activations& out, int64_t row) {
    int32_t sums[kBlock / 16];
    for (int64_t b = 0; b < n_cols / kBlock; ++b) {
        const int64_t slot = b * out.n_rows + row;
        out.scale[slot] = quantize_block<kBlock>(x + b * kBlock, out.q + slot * kBlock, sums);
        static_cast<int32_t*>(out.sum)[slot] = sums[0] + sums[1];
    }
}

inline void quantize_q8k(const float* x, int64_t n_cols, const Activations& out, int64_t row) {
    int32_t sums[kSuperBlock / 16];
    for (int64_t b = 0; b < n_cols / kSuperBlock; ++b) {
        const int64_t slot = b * out.n_rows + row;
        out.scale[slot] =
            quantize_block<kSuperBlock>(x + b * kSuperBlock, out.q + slot * kSuperBlock, sums);
        std::copy_n(sums, 16, static_cast<int16_t*>(out.sum) + slot * 16);
    }
}

inline float max_of(const float* x, int64_t n) {
    // Four chains of comparisons at once: one would wait for each of its results.
    f32x8 best[4];
    for (f32x8& lanes : best) lanes = splat(-__builtin_inff());
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int j = 0; j < 4; ++j) best[j] = max(load(x + i + 8 * j), best[j]);
    for (; i + 8 <= n; i += 8) best[0] = max(load(x + i), best[0]);
    float largest = max_lane(max(max(best[0], best[1]), max(best[2], best[3])));
    for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

inline int64_t argmax(const float* x, int64_t n) {
    const float largest = max_of(x, n);
    if (!(largest < __builtin_inff() && largest > -__builtin_inff())) return -1;
    int64_t i = 0;
    while (x[i] != largest) ++i;
    return i;
}

// ln(sum(e^(x - largest)))
inline float log_sum_exp(const float* x, int64_t n, float largest) {
    f32x8 totals = splat(0);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) totals += exp(load(x + i) - largest);
    float total = sum(totals);
    for (; i < n; ++i) total += exp(splat(x[i] - largest))[0];
    return std::log(total);
}

inline void top_k(const float* x, int64_t n, int64_t k, int32_t* ids, float* log_probs) {
    constexpr int64_t kStride = 64;  // most stretches hold no candidate and are passed at a glance
    std::fill_n(ids, k, -1);
    std::fill_n(log_probs, k, -__builtin_inff());
    for (int64_t first = 0; first < n; first += kStride) {
        const int64_t end = first + kStride < n ? first + kStride : n;
        if (!(max_of(x + first, end - first) > log_probs[k - 1])) continue;
        for (int64_t i = first; i < end; ++i) {
            int64_t rank = k;
            while (rank > 0 && x[i] > log_probs[rank - 1]) --rank;
            if (rank == k) continue;
            for (int64_t r = k - 1; r > rank; --r) {
                ids[r] = ids[r - 1];
                log_probs[r] = log_probs[r - 1];
            }
            ids[rank] = int32_t(i);
            log_probs[rank] = x[i];
        }
    }
    const float largest = log_probs[0];
    if (!(largest < __builtin_inff() && largest > -__builtin_inff())) ids[0] = -1;
    const float total = log_sum_exp(x, n, largest);
    for (int64_t r = 0; r < k; ++r) log_probs[r] = log_probs[r] - largest - total;
}

inline void to_half(const float* x, uint16_t* y, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) store_half(y + i, load(x + i));
    for (; i < n; ++i) y[i] = float_to_half(x[i]);
}

}  // namespace native::cpu::KERNEL_ISA
