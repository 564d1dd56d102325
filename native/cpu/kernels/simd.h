// Eight f32 lanes on every instruction set. Included inside a kernel namespace's translation unit.
//
// Lane structure is part of the arithmetic contract: eight partial sums, reduced in one fixed
// order.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../quants.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define NATIVE_AVX2 1
#include <immintrin.h>
#else
#define NATIVE_AVX2 0
#endif
#if NATIVE_AVX2 && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#define NATIVE_AVX512 1
#else
#define NATIVE_AVX512 0
#endif

namespace native::cpu::KERNEL_ISA {

typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));

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

inline float fma(float a, float b, float c) {
#if NATIVE_AVX2
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

inline f32x8 max(f32x8 a, f32x8 b) {
    return a > b ? a : b;
}

inline f32x8 to_float(i32x8 v) {
    return __builtin_convertvector(v, f32x8);
}

// ((0+4)+(2+6)) + ((1+5)+(3+7)): the order every horizontal sum uses.
inline float sum(f32x8 v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

inline float max_lane(f32x8 v) {
    float best = v[0];
    for (int i = 1; i < 8; ++i) best = v[i] > best ? v[i] : best;
    return best;
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

inline float half(uint16_t h) {
#if NATIVE_AVX2
    return _cvtsh_ss(h);
#else
    return half_to_float(h);
#endif
}

// e^x, relative error below 2e-7 for results in the normal range, 0 below -87.3, x clamped at 88.7.
// x = n ln2 + r with |r| <= ln2/2 and a degree-6 polynomial for e^r (Cody-Waite reduction).
inline f32x8 exp(f32x8 x) {
    x = x < splat(88.7f) ? x : splat(88.7f);
    const auto is_tiny = x < splat(-87.3f);
    x = is_tiny ? splat(-87.3f) : x;
    const f32x8 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const f32x8 n = fma(x, splat(1.44269504088896341f), magic) - magic;
    f32x8 r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    f32x8 p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r) + 1.0f;
    const i32x8 exponent = (__builtin_convertvector(n, i32x8) + 127) << 23;
    f32x8 scale;
    std::memcpy(&scale, &exponent, sizeof scale);
    const f32x8 result = p * scale;
    return is_tiny ? splat(0.0f) : result;
}

}  // namespace native::cpu::KERNEL_ISA
