// f32x8 as the compiler's own vector of eight: one AVX2 register, or what the compiler makes of it.
// Part of simd.h.
#pragma once

#if NATIVE_AVX2
#include <immintrin.h>
#endif

namespace native::cpu::KERNEL_ISA {

typedef float f32x8 __attribute__((vector_size(32)));

inline f32x8 splat(float value) {
    return f32x8{value, value, value, value, value, value, value, value};
}

inline f32x8 load(const float* p) {
    f32x8 v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, f32x8 v) {
    std::memcpy(p, &v, sizeof v);
}

inline f32x8 fma(f32x8 a, f32x8 b, f32x8 c) {
#if NATIVE_AVX2
    return _mm256_fmadd_ps(a, b, c);
#else
    return a * b + c;
#endif
}

// In every lane: a < b ? yes : no.
inline f32x8 select_less(f32x8 a, f32x8 b, f32x8 yes, f32x8 no) {
    return a < b ? yes : no;
}

// 2^n for integers n in -126..127.
inline f32x8 power_of_two(f32x8 n) {
    typedef int32_t i32x8 __attribute__((vector_size(32)));
    const i32x8 bits = (__builtin_convertvector(n, i32x8) + 127) << 23;
    f32x8 power;
    std::memcpy(&power, &bits, sizeof power);
    return power;
}

// ((0+4)+(2+6)) + ((1+5)+(3+7)): the order every horizontal sum uses.
inline float sum(f32x8 v) {
#if NATIVE_AVX2
    const __m128 halves = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
    return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)));
#else
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
#endif
}

inline float max_lane(f32x8 v) {
#if NATIVE_AVX2
    const __m128 halves = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pairs = _mm_max_ps(halves, _mm_movehl_ps(halves, halves));
    return _mm_cvtss_f32(_mm_max_ss(pairs, _mm_movehdup_ps(pairs)));
#else
    float best = v[0];
    for (int i = 1; i < 8; ++i) best = v[i] > best ? v[i] : best;
    return best;
#endif
}

// The largest magnitude of x (n, a multiple of 8); not finite if one of them is not.
inline float largest_magnitude(const float* x, int64_t n) {
    // Magnitudes compare as their bits do, and NaN is above infinity.
#if NATIVE_AVX2
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i best = _mm256_setzero_si256();
    for (int64_t i = 0; i < n; i += 8) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
        best = _mm256_max_epi32(best, _mm256_and_si256(bits, magnitude));
    }
    __m128i lanes = _mm_max_epi32(_mm256_castsi256_si128(best), _mm256_extracti128_si256(best, 1));
    lanes = _mm_max_epi32(lanes, _mm_shuffle_epi32(lanes, 0x4e));
    lanes = _mm_max_epi32(lanes, _mm_shuffle_epi32(lanes, 0xb1));
    return std::bit_cast<float>(_mm_cvtsi128_si32(lanes));
#else
    uint32_t best = 0;
    for (int64_t i = 0; i < n; ++i) {
        const uint32_t bits = std::bit_cast<uint32_t>(x[i]) & 0x7fffffff;
        best = bits > best ? bits : best;
    }
    return std::bit_cast<float>(best);
#endif
}

// Quantizes 16 values to round(x * inverse), ties to even, and returns their sum.
inline int32_t round_16(const float* x, float inverse, int8_t* q) {
#if NATIVE_AVX2
    const __m256i low = _mm256_cvtps_epi32(load(x) * inverse);
    const __m256i high = _mm256_cvtps_epi32(load(x + 8) * inverse);
    const __m256i pairs = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q), bytes);
    const __m256i sums = _mm256_add_epi32(low, high);
    __m128i lanes = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    lanes = _mm_add_epi32(lanes, _mm_shuffle_epi32(lanes, 0x4e));
    lanes = _mm_add_epi32(lanes, _mm_shuffle_epi32(lanes, 0xb1));
    return _mm_cvtsi128_si32(lanes);
#else
    int32_t total = 0;
    for (int i = 0; i < 16; ++i) {
        // Adding 1.5 * 2^23 rounds to an integer, which the sum's low bits then are.
        q[i] = int8_t(std::bit_cast<uint32_t>(x[i] * inverse + 12582912.0f));
        total += q[i];
    }
    return total;
#endif
}

// Eight pairs: their first members, and their second ones.
struct Pairs {
    f32x8 first, second;
};

// Pairs that lie side by side: first, second, first, second, ...
inline Pairs load_pairs(const float* p) {
    const f32x8 low = load(p), high = load(p + 8);
    return {__builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14),
            __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15)};
}

inline void store_pairs(float* p, Pairs v) {
    store(p, __builtin_shufflevector(v.first, v.second, 0, 8, 1, 9, 2, 10, 3, 11));
    store(p + 8, __builtin_shufflevector(v.first, v.second, 4, 12, 5, 13, 6, 14, 7, 15));
}

inline f32x8 load_half(const uint16_t* p) {
#if NATIVE_AVX2
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
    f32x8 v;
    for (int i = 0; i < 8; ++i) v[i] = half_to_float(p[i]);
    return v;
#endif
}

// The integers as floats.
inline f32x8 load_bytes(const int8_t* p) {
#if NATIVE_AVX2
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    typedef int8_t i8x8 __attribute__((vector_size(8)));
    i8x8 v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, f32x8);
#endif
}

// Rounds to nearest even.
inline void store_half(uint16_t* p, f32x8 v) {
#if NATIVE_AVX2
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < 8; ++i) p[i] = float_to_half(v[i]);
#endif
}

#if NATIVE_AVX512

typedef float f32x16 __attribute__((vector_size(64)));

inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return _mm512_fmadd_ps(a, b, c);
}

inline f32x16 select_less(f32x16 a, f32x16 b, f32x16 yes, f32x16 no) {
    return a < b ? yes : no;
}

inline f32x16 power_of_two(f32x16 n) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127)), 23));
}

#endif

}  // namespace native::cpu::KERNEL_ISA
