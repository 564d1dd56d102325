// f32x8 as the compiler's own vector of eight: one AVX2 register, or what the compiler makes of it.
// Part of simd.h.
#pragma once

#if NATIVE_AVX2
#include <immintrin.h>
#endif

namespace native::cpu::KERNEL_ISA {

typedef float f32x8 __attribute__((vector_size(32)));

inline f32x8 splat(float value) {
    return f32x8{} + value;
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

// Writes the lowest byte of every lane.
inline void store_low_bytes(int8_t* p, f32x8 v) {
    typedef int32_t i32x8 __attribute__((vector_size(32)));
    typedef int8_t i8x8 __attribute__((vector_size(8)));
    i32x8 bits;
    std::memcpy(&bits, &v, sizeof bits);
    const i8x8 low = __builtin_convertvector(bits, i8x8);
    std::memcpy(p, &low, sizeof low);
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

// Rounds to nearest even.
inline void store_half(uint16_t* p, f32x8 v) {
#if NATIVE_AVX2
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < 8; ++i) p[i] = float_to_half(v[i]);
#endif
}

}  // namespace native::cpu::KERNEL_ISA
