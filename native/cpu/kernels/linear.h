// out (T, n_out) = x (T, K) * weight (n_out, K)^T + bias + residual, for every weight type.
//
// Arithmetic, the same on every path: within a block the products of small integers are summed
// exactly; blocks are added in order as acc = fma(float(isum), d_weight * d_activation, acc), for types
// with minima followed by acc = fma(float(sum of activations), m_weight * d_activation, acc).
// So a result depends on nothing but its own row of x and its own row of the weight.
#pragma once

#include "../kernels.h"
#include "simd.h"

namespace native::cpu::KERNEL_ISA {

// Adds bias and residual to one group's accumulators acc (T, 8) and writes columns [r0, r0 + n).
inline void write_group(const LinearArgs& a, const float* acc, int64_t t0, int64_t n_rows,
                        int64_t r0, int64_t n) {
    for (int64_t t = 0; t < n_rows; ++t) {
        const int64_t at = (t0 + t) * a.n_out + r0;
        for (int64_t r = 0; r < n; ++r) {
            float value = acc[t * kRowGroup + r];
            if (a.bias) value += a.bias[r0 + r];
            if (a.residual) value += a.residual[at + r];
            a.out[at + r] = value;
        }
    }
}

inline f32x8 load_as_float(WeightType type, const uint8_t* row, int64_t i) {
    if (type == WeightType::kF32) return load(reinterpret_cast<const float*>(row) + i);
    if (type == WeightType::kF16) return load_half(reinterpret_cast<const uint16_t*>(row) + i);
    f32x8 v;
    dequantize_row(type, row + 2 * i, reinterpret_cast<float*>(&v), 8);
    return v;
}

// Float weights: eight lanes over K, then the fixed horizontal sum; a tail in order.
inline void linear_float(const LinearArgs& a, int64_t begin, int64_t end) {
    const int64_t whole = a.n_cols / 8 * 8;
    for (int64_t r = begin; r < end; ++r) {
        const uint8_t* row = a.weight + r * a.row_bytes;
        for (int64_t t = 0; t < a.n_rows; ++t) {
            const float* x = a.x + t * a.n_cols;
            f32x8 lanes = splat(0);
            for (int64_t i = 0; i < whole; i += 8)
                lanes = fma(load_as_float(a.type, row, i), load(x + i), lanes);
            float value = sum(lanes);
            for (int64_t i = whole; i < a.n_cols; ++i) {
                float w;
                dequantize_row(a.type, row + i * (a.row_bytes / a.n_cols), &w, 1);
                value = fma(w, x[i], value);
            }
            if (a.bias) value += a.bias[r];
            if (a.residual) value += a.residual[t * a.n_out + r];
            a.out[t * a.n_out + r] = value;
        }
    }
}

}  // namespace native::cpu::KERNEL_ISA

#if NATIVE_AVX2
#include "linear_avx2.h"
#else
#include "linear_portable.h"
#endif

namespace native::cpu::KERNEL_ISA {

inline void linear(const LinearArgs& a, int64_t begin, int64_t end) {
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
        case WeightType::kBF16: return linear_float(a, begin, end);
    }
}

}  // namespace native::cpu::KERNEL_ISA
