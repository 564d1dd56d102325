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

// Writes n elements of a weight row, from a multiple of kSuperBlock on, as floats.
inline void widen(WeightType type, const uint8_t* weight, float* w, int64_t n) {
    if (type != WeightType::kF16) return dequantize_row(type, weight, w, n);
    const auto* halves = reinterpret_cast<const uint16_t*>(weight);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) store(w + i, load_half(halves + i));
    for (; i < n; ++i) w[i] = half_to_float(halves[i]);
}

constexpr int kFloatRows = 4;  // weight rows computed together: sums that wait for each other less

// lanes (kTimes, kFloatRows) += the products of x (kTimes, n_cols) and w, eight elements at a time.
template <int kTimes>
inline void add_products(const float (*w)[kSuperBlock], const float* x, int64_t n_cols, int64_t n,
                         f32x8* lanes) {
    f32x8 total[kTimes][kFloatRows];
    for (int t = 0; t < kTimes; ++t)
        for (int r = 0; r < kFloatRows; ++r) total[t][r] = lanes[t * kFloatRows + r];
    for (int64_t i = 0; i + 8 <= n; i += 8)
        for (int t = 0; t < kTimes; ++t)
            for (int r = 0; r < kFloatRows; ++r)
                total[t][r] = fma(load(w[r] + i), load(x + t * n_cols + i), total[t][r]);
    for (int t = 0; t < kTimes; ++t)
        for (int r = 0; r < kFloatRows; ++r) lanes[t * kFloatRows + r] = total[t][r];
}

// Float activations with weights of any type: eight lanes over K, then the fixed horizontal sum; a
// tail in order. Weights are widened in chunks, once for all rows of a tile.
inline void linear_float_rows(const LinearArgs& a, int64_t r0, int64_t n_out) {
    constexpr int kTile = 64;
    const int64_t element_bytes_x256 = a.row_bytes * kSuperBlock / a.n_cols;
    float w[kFloatRows][kSuperBlock] = {};
    f32x8 lanes[kTile * kFloatRows];
    for (int64_t t0 = 0; t0 < a.n_rows; t0 += kTile) {
        const int64_t n_rows = a.n_rows - t0 < kTile ? a.n_rows - t0 : kTile;
        for (int64_t i = 0; i < n_rows * kFloatRows; ++i) lanes[i] = splat(0);
        int64_t n = 0;  // elements of the present chunk
        for (int64_t c = 0; c < a.n_cols; c += n) {
            n = a.n_cols - c < kSuperBlock ? a.n_cols - c : kSuperBlock;
            const int64_t offset = c / kSuperBlock * element_bytes_x256;
            for (int64_t r = 0; r < n_out; ++r)
                widen(a.type, a.weight + (r0 + r) * a.row_bytes + offset, w[r], n);
            const float* x = a.x + t0 * a.n_cols + c;
            int64_t t = 0;
            for (; t + 2 <= n_rows; t += 2)
                add_products<2>(w, x + t * a.n_cols, a.n_cols, n, lanes + t * kFloatRows);
            if (t < n_rows)
                add_products<1>(w, x + t * a.n_cols, a.n_cols, n, lanes + t * kFloatRows);
        }
        for (int64_t t = t0; t < t0 + n_rows; ++t) {
            float acc[kFloatRows];
            for (int64_t r = 0; r < n_out; ++r) {
                acc[r] = sum(lanes[(t - t0) * kFloatRows + r]);
                for (int64_t i = n / 8 * 8; i < n; ++i)
                    acc[r] = fma(w[r][i], a.x[(t + 1) * a.n_cols - n + i], acc[r]);
            }
            write_group(a, acc, kFloatRows, t, 1, r0, n_out);
        }
    }
}

inline void linear_float(const LinearArgs& a, int64_t begin, int64_t end) {
    for (int64_t r0 = begin; r0 < end; r0 += kFloatRows)
        linear_float_rows(a, r0, end - r0 < kFloatRows ? end - r0 : kFloatRows);
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
        case WeightType::kIQ4_NL: return linear_q8<BlockIQ4_NL>(a, begin, end);
        case WeightType::kQ4_K: return linear_q8k<BlockQ4_K>(a, begin, end);
        case WeightType::kQ5_K: return linear_q8k<BlockQ5_K>(a, begin, end);
        case WeightType::kQ6_K: return linear_q8k<BlockQ6_K>(a, begin, end);
        case WeightType::kF32:
        case WeightType::kF16:
        case WeightType::kBF16: return;  // only with float activations; the plan sees to it
    }
}

}  // namespace native::cpu::KERNEL_ISA
