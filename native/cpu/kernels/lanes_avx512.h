// The register of sixteen rows: AVX-512 with VNNI, whose dot product sums four bytes exactly.
#pragma once

#include "simd.h"

namespace native::cpu::KERNEL_ISA {

using IntLanes = __m512i;
using FloatLanes = __m512;
constexpr int kLanes = 16;  // weight rows computed together, one 32-bit lane each

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

// `value` in every byte of which a bit of `mask` (one bit per byte) is set.
inline IntLanes where_set(IntLanes bits, IntLanes mask, IntLanes value) {
    return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(bits, mask), value);
}

inline IntLanes add32(IntLanes a, IntLanes b) {
    return _mm512_add_epi32(a, b);
}
inline IntLanes sub32(IntLanes a, IntLanes b) {
    return _mm512_sub_epi32(a, b);
}
inline IntLanes multiply_add_pairs16(IntLanes a, IntLanes b) {
    return _mm512_madd_epi16(a, b);
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

// The same four 32-bit values in every 128-bit part.
inline IntLanes repeat128(int a, int b, int c, int d) {
    return _mm512_broadcast_i32x4(_mm_setr_epi32(a, b, c, d));
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

// One value per row. Built in registers: a wide load of narrow stores would stall.
template <class At>
inline IntLanes gather32(At&& at) {
    return _mm512_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9),
                             at(10), at(11), at(12), at(13), at(14), at(15));
}
template <class At>
inline FloatLanes gather_halves(At&& at) {
    return _mm512_cvtph_ps(_mm256_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7),
                                             at(8), at(9), at(10), at(11), at(12), at(13), at(14),
                                             at(15)));
}

inline IntLanes broadcast_group(const void* p) {
    int32_t group;
    std::memcpy(&group, p, sizeof group);
    return _mm512_set1_epi32(group);
}

// Sum over kGroups groups of w (unsigned) * x (signed). Two chains hide the instruction's latency.
template <int kGroups, int kSums>
inline IntLanes dot_groups(const IntLanes* w, const int8_t* x) {
    IntLanes even = zero_lanes(), odd = zero_lanes();
    for (int g = 0; g < kGroups; g += 2) {
        even = _mm512_dpbusd_epi32(even, w[g], broadcast_group(x + 4 * g));
        odd = _mm512_dpbusd_epi32(odd, w[g + 1], broadcast_group(x + 4 * (g + 1)));
    }
    return add32(even, odd);
}

// Sum over a super-block of scale * w * x; a scale is an i32, one per four groups.
using ScaleLanes = IntLanes;
inline ScaleLanes scale_of_pairs(IntLanes pairs) {
    return _mm512_srai_epi32(pairs, 16);
}

template <int kSums>
inline IntLanes dot_scaled(const IntLanes* w, const ScaleLanes* scale, const int8_t* x) {
    constexpr int kGroups = kSums < 4 ? 4 : kSums;  // groups that share a scale
    IntLanes total = zero_lanes();
    for (int g = 0; g < 64; g += kGroups)
        total = add32(
            total, _mm512_mullo_epi32(dot_groups<kGroups, kSums>(w + g, x + 4 * g), scale[g / 4]));
    return total;
}

// Q8_0 weights are signed: they are moved up by 128 and the activations' sum is taken off again.
constexpr int kSignedOffset = 128;
inline IntLanes as_operand(IntLanes signed_weights) {
    return _mm512_xor_si512(signed_weights, splat8(128));
}
inline IntLanes dot_signed(const IntLanes* w, const int8_t* x) {
    return dot_groups<8, 8>(w, x);
}

}  // namespace native::cpu::KERNEL_ISA
