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

// KERNEL_PORTABLE: plain C++ even where the compiler's default processor offers more, as Apple's
// does.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(KERNEL_PORTABLE)
#define NATIVE_AVX2 1
#else
#define NATIVE_AVX2 0
#endif
#if NATIVE_AVX2 && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#define NATIVE_AVX512 1
#else
#define NATIVE_AVX512 0
#endif
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && !defined(KERNEL_PORTABLE)
#define NATIVE_NEON 1
#else
#define NATIVE_NEON 0
#endif

#if NATIVE_NEON
#include "simd_neon.h"
#else
#include "simd_vector.h"
#endif

namespace native::cpu::KERNEL_ISA {

inline float fma(float a, float b, float c) {
#if NATIVE_AVX2 || NATIVE_NEON
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

inline f32x8 max(f32x8 a, f32x8 b) {
    return select_less(b, a, a, b);
}

// e^x, relative error below 2e-7 for results in the normal range, 0 below -87.3, x clamped at 88.7.
// x = n ln2 + r with |r| <= ln2/2 and a degree-6 polynomial for e^r (Cody-Waite reduction).
template <class Lanes>
inline Lanes exp(Lanes x) {
    const auto all = [](float value) { return Lanes{} + value; };
    const Lanes highest = all(88.7f), lowest = all(-87.3f);
    const Lanes capped = select_less(x, highest, x, highest);
    x = select_less(capped, lowest, lowest, capped);
    const Lanes magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const Lanes n = fma(x, all(1.44269504088896341f), magic) - magic;
    Lanes r = fma(n, all(-0.693359375f), x);
    r = fma(n, all(2.12194440e-4f), r);
    Lanes p = all(1.9875691500e-4f);
    p = fma(p, r, all(1.3981999507e-3f));
    p = fma(p, r, all(8.3334519073e-3f));
    p = fma(p, r, all(4.1665795894e-2f));
    p = fma(p, r, all(1.6666665459e-1f));
    p = fma(p, r, all(5.0000001201e-1f));
    p = fma(p, r * r, r) + 1.0f;
    return select_less(capped, lowest, all(0.0f), p * power_of_two(n));
}

}  // namespace native::cpu::KERNEL_ISA
