// The register of eight rows: AVX2's names for what linear_lanes.h is written in.
#pragma once

#include "simd.h"

namespace native::cpu::KERNEL_ISA {

using IntLanes = __m256i;
using FloatLanes = __m256;
constexpr int kLanes = 8;     // weight rows of a group, one 32-bit lane each
constexpr int kMostSets = 1;  // groups computed together: 8 of 16 registers hold their weights

inline IntLanes zero_lanes() {
    return _mm256_setzero_si256();
}
inline IntLanes splat8(int value) {
    return _mm256_set1_epi8(char(value));
}
inline IntLanes splat32(int value) {
    return _mm256_set1_epi32(value);
}
inline FloatLanes splat_lanes(float value) {
    return _mm256_set1_ps(value);
}

inline IntLanes bit_and(IntLanes a, IntLanes b) {
    return _mm256_and_si256(a, b);
}
inline IntLanes bit_or(IntLanes a, IntLanes b) {
    return _mm256_or_si256(a, b);
}
// (a & mask_a) | (b & mask_b) for masks that share no bit.
inline IntLanes merge(IntLanes a, IntLanes mask_a, IntLanes b, IntLanes mask_b) {
    return bit_or(bit_and(a, mask_a), bit_and(b, mask_b));
}
inline IntLanes shift_right16(IntLanes a, int n_bits) {
    return _mm256_srli_epi16(a, n_bits);
}
inline IntLanes shift_left16(IntLanes a, int n_bits) {
    return _mm256_slli_epi16(a, n_bits);
}
inline IntLanes shift_right_signed16(IntLanes a, int n_bits) {
    return _mm256_srai_epi16(a, n_bits);
}
inline IntLanes shuffle_bytes(IntLanes a, IntLanes pick) {
    return _mm256_shuffle_epi8(a, pick);
}

// Adds `value` to every byte of `a` of which the bits of `mask` are set in `bits`.
inline IntLanes add_where_set(IntLanes a, IntLanes bits, IntLanes mask, int value) {
    const IntLanes is_set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, mask), mask);
    return _mm256_add_epi8(a, _mm256_and_si256(is_set, splat8(value)));
}

inline IntLanes add32(IntLanes a, IntLanes b) {
    return _mm256_add_epi32(a, b);
}
inline IntLanes sub32(IntLanes a, IntLanes b) {
    return _mm256_sub_epi32(a, b);
}
// total + the sum of the two products of 16-bit pairs.
inline IntLanes add_pair_products(IntLanes total, IntLanes a, IntLanes b) {
    return add32(total, _mm256_madd_epi16(a, b));
}

inline FloatLanes to_float(IntLanes a) {
    return _mm256_cvtepi32_ps(a);
}
inline FloatLanes multiply(FloatLanes a, FloatLanes b) {
    return _mm256_mul_ps(a, b);
}
inline FloatLanes fma_lanes(FloatLanes a, FloatLanes b, FloatLanes c) {
    return _mm256_fmadd_ps(a, b, c);
}
inline FloatLanes load_lanes(const float* p) {
    return _mm256_load_ps(p);
}
inline void store_lanes(float* p, FloatLanes v) {
    _mm256_store_ps(p, v);
}
inline IntLanes load_lanes(const int32_t* p) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
inline void store_lanes(int32_t* p, IntLanes v) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), v);
}
// The f16 in the lower (upper) half of every lane.
inline FloatLanes low_halves(IntLanes a) {
    const IntLanes low = _mm256_blend_epi16(a, zero_lanes(), 0xaa);
    const IntLanes packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 8);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}
inline FloatLanes high_halves(IntLanes a) {
    return low_halves(_mm256_srli_epi32(a, 16));
}

// The same four 32-bit values in every 128-bit part.
inline IntLanes repeat128(int a, int b, int c, int d) {
    return _mm256_setr_epi32(a, b, c, d, a, b, c, d);
}

// 16 bytes of rows i and i+4: at(row) points to them.
template <class At>
inline IntLanes load_rows(int i, At&& at) {
    const auto load = [&](int r) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at(r)));
    };
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(i + 4), 1);
}

// Within 128-bit parts, as the instructions of the same name.
inline IntLanes unpack_low32(IntLanes a, IntLanes b) {
    return _mm256_unpacklo_epi32(a, b);
}
inline IntLanes unpack_high32(IntLanes a, IntLanes b) {
    return _mm256_unpackhi_epi32(a, b);
}
inline IntLanes unpack_low64(IntLanes a, IntLanes b) {
    return _mm256_unpacklo_epi64(a, b);
}
inline IntLanes unpack_high64(IntLanes a, IntLanes b) {
    return _mm256_unpackhi_epi64(a, b);
}

inline IntLanes broadcast_group(const void* p) {
    int32_t group;
    std::memcpy(&group, p, sizeof group);
    return _mm256_set1_epi32(group);
}

// Four products of w and x in pairs: unsigned by signed, or, for want of an instruction for signed
// ones, |w| * (x with w's sign).
template <bool kIsSigned>
inline IntLanes pair_products(IntLanes w, IntLanes x) {
    if constexpr (kIsSigned)
        return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    else
        return _mm256_maddubs_epi16(w, x);
}

// total[i] += kCount groups of w[i], from `first` on, * x, times a scale: a pair of equal i16.
// kSums pairs of products fit 16 bits; 0 stands for signed weights, of which one does.
using ScaleLanes = IntLanes;
inline ScaleLanes scale_of_pairs(IntLanes pairs) {
    return pairs;
}

template <int kSums, int kCount, int kSets>
inline void add_scaled_dot(const IntLanes (&w)[kSets][8], int first, const int8_t* x,
                           const ScaleLanes (&scale)[kSets], IntLanes (&total)[kSets]) {
    constexpr int kStep = kSums == 0 ? 1 : kSums;
    const auto products = [&](int i, int g) {
        return pair_products<kSums == 0>(w[i][first + g], broadcast_group(x + 4 * g));
    };
    for (int i = 0; i < kSets; ++i) {
        IntLanes dot = zero_lanes();
        for (int g = 0; g < kCount; g += kStep) {
            IntLanes sums = products(i, g);
            for (int j = 1; j < kStep; ++j) sums = _mm256_add_epi16(sums, products(i, g + j));
            const IntLanes part = _mm256_madd_epi16(sums, scale[i]);
            dot = g == 0 ? part : add32(dot, part);
        }
        total[i] = add32(dot, total[i]);
    }
}

template <int kSums, int kCount, int kSets>
inline void add_dot(const IntLanes (&w)[kSets][8], int first, const int8_t* x,
                    IntLanes (&total)[kSets]) {
    ScaleLanes ones[kSets];
    for (int i = 0; i < kSets; ++i) ones[i] = _mm256_set1_epi16(1);
    add_scaled_dot<kSums, kCount>(w, first, x, ones, total);
}

constexpr int kSignedOffset = 0;
inline IntLanes as_operand(IntLanes signed_weights) {
    return signed_weights;
}

}  // namespace native::cpu::KERNEL_ISA
