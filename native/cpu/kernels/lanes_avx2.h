// The register of eight rows: AVX2's names for what linear_lanes.h is written in.
#pragma once

#include "simd.h"

namespace native::cpu::KERNEL_ISA {

using IntLanes = __m256i;
using FloatLanes = __m256;
constexpr int kLanes = 8;  // weight rows computed together, one 32-bit lane each

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

// `value` in every byte of which all bits of `mask` are set.
inline IntLanes where_set(IntLanes bits, IntLanes mask, IntLanes value) {
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bits, mask), mask), value);
}

inline IntLanes add32(IntLanes a, IntLanes b) {
    return _mm256_add_epi32(a, b);
}
inline IntLanes sub32(IntLanes a, IntLanes b) {
    return _mm256_sub_epi32(a, b);
}
inline IntLanes multiply_add_pairs16(IntLanes a, IntLanes b) {
    return _mm256_madd_epi16(a, b);
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

// One value per row. Built in registers: a wide load of narrow stores would stall.
template <class At>
inline IntLanes gather32(At&& at) {
    return _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
}
template <class At>
inline FloatLanes gather_halves(At&& at) {
    return _mm256_cvtph_ps(_mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)));
}

inline IntLanes broadcast_group(const void* p) {
    int32_t group;
    std::memcpy(&group, p, sizeof group);
    return _mm256_set1_epi32(group);
}

// Sum over kGroups groups of w (unsigned) * x (signed). kSums maddubs results fit 16 bits.
template <int kGroups, int kSums>
inline IntLanes dot_groups(const IntLanes* w, const int8_t* x) {
    const IntLanes ones = _mm256_set1_epi16(1);
    IntLanes total = zero_lanes();
    for (int g = 0; g < kGroups; g += kSums) {
        IntLanes sums = _mm256_maddubs_epi16(w[g], broadcast_group(x + 4 * g));
        for (int i = 1; i < kSums; ++i)
            sums = _mm256_add_epi16(
                sums, _mm256_maddubs_epi16(w[g + i], broadcast_group(x + 4 * (g + i))));
        total = add32(total, _mm256_madd_epi16(sums, ones));
    }
    return total;
}

// Sum over a super-block of scale * w * x; a scale is a pair of equal i16, one per four groups.
using ScaleLanes = IntLanes;
inline ScaleLanes scale_of_pairs(IntLanes pairs) {
    return pairs;
}

template <int kSums>
inline IntLanes dot_scaled(const IntLanes* w, const ScaleLanes* scale, const int8_t* x) {
    IntLanes total = zero_lanes();
    for (int g = 0; g < 64; g += kSums) {
        IntLanes sums = _mm256_maddubs_epi16(w[g], broadcast_group(x + 4 * g));
        for (int i = 1; i < kSums; ++i)
            sums = _mm256_add_epi16(
                sums, _mm256_maddubs_epi16(w[g + i], broadcast_group(x + 4 * (g + i))));
        total = add32(total, _mm256_madd_epi16(sums, scale[g / 4]));
    }
    return total;
}

// Q8_0 weights are signed: |w| * (x with w's sign), for want of a signed product.
constexpr int kSignedOffset = 0;
inline IntLanes as_operand(IntLanes signed_weights) {
    return signed_weights;
}
inline IntLanes dot_signed(const IntLanes* w, const int8_t* x) {
    const IntLanes ones = _mm256_set1_epi16(1);
    IntLanes total = zero_lanes();
    for (int g = 0; g < 8; ++g) {
        const IntLanes signed_x = _mm256_sign_epi8(broadcast_group(x + 4 * g), w[g]);
        const IntLanes sums = _mm256_maddubs_epi16(_mm256_abs_epi8(w[g]), signed_x);
        total = add32(total, _mm256_madd_epi16(sums, ones));
    }
    return total;
}

}  // namespace native::cpu::KERNEL_ISA
