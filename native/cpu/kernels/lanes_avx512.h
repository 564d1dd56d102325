// The register of sixteen rows: AVX-512 with VNNI, whose dot product sums four bytes exactly.
#pragma once

#include "simd.h"

namespace native::cpu::KERNEL_ISA {

using IntLanes = __m512i;
using FloatLanes = __m512;
constexpr int kLanes = 16;    // weight rows of a group, one 32-bit lane each
constexpr int kMostSets = 2;  // groups computed together: 16 of 32 registers hold their weights

inline IntLanes zero_lanes() {
    return _mm512_setzero_si512();
}
inline IntLanes splat8(int value) {
    return _mm512_set1_epi8(char(value));
}
inline IntLanes splat32(int value) {
    return _mm512_set1_epi32(value);
}
inline FloatLanes splat_lanes(float value) {
    return _mm512_set1_ps(value);
}

inline IntLanes bit_and(IntLanes a, IntLanes b) {
    return _mm512_and_si512(a, b);
}
inline IntLanes bit_or(IntLanes a, IntLanes b) {
    return _mm512_or_si512(a, b);
}
// (a & mask_a) | (b & mask_b) for masks that share no bit.
inline IntLanes merge(IntLanes a, IntLanes mask_a, IntLanes b, IntLanes mask_b) {
    const IntLanes selected = _mm512_ternarylogic_epi32(mask_a, a, b, 0xca);
    return _mm512_and_si512(selected, _mm512_or_si512(mask_a, mask_b));
}
inline IntLanes shift_right16(IntLanes a, int n_bits) {
    return _mm512_srli_epi16(a, unsigned(n_bits));
}
inline IntLanes shift_left16(IntLanes a, int n_bits) {
    return _mm512_slli_epi16(a, unsigned(n_bits));
}
inline IntLanes shift_right_signed16(IntLanes a, int n_bits) {
    return _mm512_srai_epi16(a, unsigned(n_bits));
}
inline IntLanes shuffle_bytes(IntLanes a, IntLanes pick) {
    return _mm512_shuffle_epi8(a, pick);
}

// Adds `value` to every byte of `a` of which a bit of `mask` (one bit per byte) is set in `bits`.
inline IntLanes add_where_set(IntLanes a, IntLanes bits, IntLanes mask, int value) {
    return _mm512_mask_add_epi8(a, _mm512_test_epi8_mask(bits, mask), a, splat8(value));
}

inline IntLanes add32(IntLanes a, IntLanes b) {
    return _mm512_add_epi32(a, b);
}
inline IntLanes sub32(IntLanes a, IntLanes b) {
    return _mm512_sub_epi32(a, b);
}
// total + the sum of the two products of 16-bit pairs.
inline IntLanes add_pair_products(IntLanes total, IntLanes a, IntLanes b) {
    return _mm512_dpwssd_epi32(total, a, b);
}

inline FloatLanes to_float(IntLanes a) {
    return _mm512_cvtepi32_ps(a);
}
inline FloatLanes multiply(FloatLanes a, FloatLanes b) {
    return _mm512_mul_ps(a, b);
}
inline FloatLanes fma_lanes(FloatLanes a, FloatLanes b, FloatLanes c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline FloatLanes load_lanes(const float* p) {
    return _mm512_load_ps(p);
}
inline void store_lanes(float* p, FloatLanes v) {
    _mm512_store_ps(p, v);
}
inline IntLanes load_lanes(const int32_t* p) {
    return _mm512_load_si512(p);
}
inline void store_lanes(int32_t* p, IntLanes v) {
    _mm512_store_si512(p, v);
}
// The f16 in the lower (upper) half of every lane.
inline FloatLanes low_halves(IntLanes a) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a));
}
inline FloatLanes high_halves(IntLanes a) {
    return low_halves(_mm512_srli_epi32(a, 16));
}

// The same four 32-bit values in every 128-bit part.
inline IntLanes repeat128(int a, int b, int c, int d) {
    return _mm512_setr_epi32(a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d);
}

// 16 bytes of rows i, i+4, i+8 and i+12: at(row) points to them.
template <class At>
inline IntLanes load_rows(int i, At&& at) {
    const auto load = [&](int r) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at(r)));
    };
    IntLanes v = _mm512_castsi128_si512(load(i));
    v = _mm512_inserti32x4(v, load(i + 4), 1);
    v = _mm512_inserti32x4(v, load(i + 8), 2);
    return _mm512_inserti32x4(v, load(i + 12), 3);
}

// 32 bytes of rows i and i+4.
template <class At>
inline IntLanes load_wide_rows(int i, At&& at) {
    const auto load = [&](int r) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at(r)));
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(load(i)), load(i + 4), 1);
}
// Even (odd) 128-bit parts of a, then those of b.
inline IntLanes even_parts(IntLanes a, IntLanes b) {
    return _mm512_shuffle_i32x4(a, b, 0x88);
}
inline IntLanes odd_parts(IntLanes a, IntLanes b) {
    return _mm512_shuffle_i32x4(a, b, 0xdd);
}

// Within 128-bit parts, as the instructions of the same name.
inline IntLanes unpack_low32(IntLanes a, IntLanes b) {
    return _mm512_unpacklo_epi32(a, b);
}
inline IntLanes unpack_high32(IntLanes a, IntLanes b) {
    return _mm512_unpackhi_epi32(a, b);
}
inline IntLanes unpack_low64(IntLanes a, IntLanes b) {
    return _mm512_unpacklo_epi64(a, b);
}
inline IntLanes unpack_high64(IntLanes a, IntLanes b) {
    return _mm512_unpackhi_epi64(a, b);
}

inline IntLanes broadcast_group(const void* p) {
    int32_t group;
    std::memcpy(&group, p, sizeof group);
    return _mm512_set1_epi32(group);
}

// total[i] += kCount groups of w[i], from `first` on (unsigned) * x (signed).
template <int kSums, int kCount, int kSets>
inline void add_dot(const IntLanes (&w)[kSets][8], int first, const int8_t* x,
                    IntLanes (&total)[kSets]) {
    IntLanes odd[kSets];
    for (int i = 0; i < kSets; ++i) odd[i] = zero_lanes();
    for (int g = 0; g < kCount; g += 2) {
        const IntLanes group = broadcast_group(x + 4 * g), next = broadcast_group(x + 4 * g + 4);
        for (int i = 0; i < kSets; ++i) {
            total[i] = _mm512_dpbusd_epi32(total[i], w[i][first + g], group);
            odd[i] = _mm512_dpbusd_epi32(odd[i], w[i][first + g + 1], next);
        }
    }
    for (int i = 0; i < kSets; ++i) total[i] = add32(total[i], odd[i]);
}

// The same, times a scale: an i32.
using ScaleLanes = IntLanes;
inline ScaleLanes scale_of_pairs(IntLanes pairs) {
    return _mm512_srai_epi32(pairs, 16);
}

template <int kSums, int kCount, int kSets>
inline void add_scaled_dot(const IntLanes (&w)[kSets][8], int first, const int8_t* x,
                           const ScaleLanes (&scale)[kSets], IntLanes (&total)[kSets]) {
    IntLanes dots[kSets];
    for (int i = 0; i < kSets; ++i) dots[i] = zero_lanes();
    add_dot<kSums, kCount>(w, first, x, dots);
    for (int i = 0; i < kSets; ++i)
        total[i] = add32(total[i], _mm512_mullo_epi32(dots[i], scale[i]));
}

// Signed weights are moved up by 128 and the activations' sum is taken off again.
constexpr int kSignedOffset = 128;
inline IntLanes as_operand(IntLanes signed_weights) {
    return _mm512_xor_si512(signed_weights, splat8(128));
}

}  // namespace native::cpu::KERNEL_ISA
