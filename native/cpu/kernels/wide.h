// Sixteen f32 lanes: one AVX-512 register, or two halves of eight elsewhere. The same arithmetic.
#pragma once

#include "simd.h"

namespace native::cpu::KERNEL_ISA {

#if NATIVE_AVX512

typedef float f32x16 __attribute__((vector_size(64)));

inline f32x16 splat16(float value) {
    return f32x16{} + value;
}
inline f32x16 load16(const float* p) {
    f32x16 v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store16(float* p, f32x16 v) {
    std::memcpy(p, &v, sizeof v);
}
inline f32x16 fma16(f32x16 a, f32x16 b, f32x16 c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline f32x16 multiply16(f32x16 a, f32x16 b) {
    return a * b;
}

// Queries that share an attention tile, and sixteens of their output kept in registers at a time.
constexpr int kQueryBatch = 4, kOutputBatch = 4;

#else

struct f32x16 {
    f32x8 low, high;
};

inline f32x16 splat16(float value) {
    return {splat(value), splat(value)};
}
inline f32x16 load16(const float* p) {
    return {load(p), load(p + 8)};
}
inline void store16(float* p, f32x16 v) {
    store(p, v.low);
    store(p + 8, v.high);
}
inline f32x16 fma16(f32x16 a, f32x16 b, f32x16 c) {
    return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)};
}
inline f32x16 multiply16(f32x16 a, f32x16 b) {
    return {a.low * b.low, a.high * b.high};
}

constexpr int kQueryBatch = 2, kOutputBatch = 2;

#endif

}  // namespace native::cpu::KERNEL_ISA
