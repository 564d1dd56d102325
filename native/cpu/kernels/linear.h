// out (T, n_out) = x (T, K) * weight (n_out, K)^T + bias + residual, for every weight type.
//
// Arithmetic, the same on every path: within a block the products of small integers are summed
// exactly; blocks are added in order as acc = fma(float(isum), d_weight * d_activation, acc), for
// types with minima followed by acc = fma(float(sum of activations), m_weight * d_activation, acc).
// So a result depends on nothing but its own row of x and its own row of the weight.
#pragma once

#include "../kernels.h"
#include "simd.h"

namespace native::cpu::KERNEL_ISA {

// Adds bias and residual to one group's accumulators acc (T, stride), writes columns [r0, r0 + n).
inline void write_group(const LinearArgs& a, const float* acc, int64_t stride, int64_t t0,
                        int64_t n_rows, int64_t r0, int64_t n) {
    for (int64_t t = 0; t < n_rows; ++t) {
        const int64_t at = (t0 + t) * a.n_out + r0;
        for (int64_t r = 0; r < n; ++r) {
            float value = acc[t * stride + r];
            if (a.bias) value += a.bias[r0 + r];
            if (a.residual) value += a.residual[at + r];
            a.out[at + r] = value;
        }
    }
}

// Float activations with weights of any type: eight lanes over K, then the fixed horizontal sum; a
// tail in order. Weights are dequantized in chunks, once for all rows of a tile.
inline void linear_float(const LinearArgs& a, int64_t begin, int64_t end) {
    constexpr int kTile = 64;
    const int64_t element_bytes_x256 = a.row_bytes * kSuperBlock / a.n_cols;
    float w[kSuperBlock];
    f32x8 lanes[kTile];
    for (int64_t r = begin; r < end; ++r)
        for (int64_t t0 = 0; t0 < a.n_rows; t0 += kTile) {
            const int64_t n_rows = a.n_rows - t0 < kTile ? a.n_rows - t0 : kTile;
            for (int64_t t = 0; t < n_rows; ++t) lanes[t] = splat(0);
            int64_t n = 0;  // elements of the present chunk
            for (int64_t c = 0; c < a.n_cols; c += n) {
                n = a.n_cols - c < kSuperBlock ? a.n_cols - c : kSuperBlock;
                const int64_t chunk_idx = c / kSuperBlock;
                dequantize_row(a.type, a.weight + r * a.row_bytes + chunk_idx * element_bytes_x256,
                               w, n);
                for (int64_t t = 0; t < n_rows; ++t) {
                    const float* x = a.x + (t0 + t) * a.n_cols + c;
                    for (int64_t i = 0; i + 8 <= n; i += 8)
                        lanes[t] = fma(load(w + i), load(x + i), lanes[t]);
                }
            }
            for (int64_t t = 0; t < n_rows; ++t) {
                float acc = sum(lanes[t]);
                for (int64_t i = n / 8 * 8; i < n; ++i)
                    acc = fma(w[i], a.x[(t0 + t) * a.n_cols + a.n_cols - n + i], acc);
                write_group(a, &acc, 1, t0 + t, 1, r, 1);
            }
        }
}

}  // namespace native::cpu::KERNEL_ISA

#if NATIVE_AVX2 || NATIVE_NEON
#include "linear_lanes.h"
#else
#include "linear_portable.h"
#endif

namespace native::cpu::KERNEL_ISA {

inline void linear(const LinearArgs& a, int64_t begin, int64_t end) {
    if (a.x != nullptr) return linear_float(a, begin, end);
    switch (a.type) {
        case WeightType::kQ4_0: return linear_q8<BlockQ4_0>(a, begin, end);
        case WeightType::kQ4_1: return linear_q8<BlockQ4_1>(a, begin, end);
        case WeightType::kQ5_0: return linear_q8<BlockQ5_0>(a, begin, end);
        case WeightType::kQ5_1: return linear_q8<BlockQ5_1>(a, begin, end);
        case WeightType::kQ8_0: return linear_q8<BlockQ8_0>(a, begin, end);
        case WeightType::kQ4_K: return linear_q8k<BlockQ4_K>(a, begin, end);
        case WeightType::kQ5_K: return linear_q8k<BlockQ5_K>(a, begin, end);
        case WeightType::kQ6_K: return linear_q8k<BlockQ6_K>(a, begin, end);
        case WeightType::kF32:
        case WeightType::kF16:
        case WeightType::kBF16: return;  // only with float activations; the plan sees to it
    }
}

}  // namespace native::cpu::KERNEL_ISA
