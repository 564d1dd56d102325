// Sixteen f32 lanes: one AVX-512 register, or two halves of eight elsewhere. The same arithmetic.
#pragma once

#include "simd.h"

namespace native::cpu::KERNEL_ISA {

#if NATIVE_AVX512

inline f32x16 splat16(float value) {
    return _mm512_set1_ps(value);
}
inline f32x16 load16(const float* p) {
    f32x16 v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline f32x16 load16(const uint16_t* halves) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
}
inline f32x16 load16(const int8_t* bytes) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))));
}
inline void store16(float* p, f32x16 v) {
    std::memcpy(p, &v, sizeof v);
}
inline f32x8 low_half(f32x16 v) {
    return _mm512_castps512_ps256(v);
}
inline f32x8 high_half(f32x16 v) {
    return _mm512_extractf32x8_ps(v, 1);
}

// Queries that share an attention tile, and registers that hold their output in the making.
constexpr int kQueryBatch = 8, kOutputRegisters = 16;

#else

struct f32x16 {
    f32x8 low, high;

    friend f32x16 operator+(f32x16 a, f32x16 b) { return {a.low + b.low, a.high + b.high}; }
    friend f32x16 operator-(f32x16 a, f32x16 b) { return {a.low - b.low, a.high - b.high}; }
    friend f32x16 operator*(f32x16 a, f32x16 b) { return {a.low * b.low, a.high * b.high}; }
};

inline f32x16 splat16(float value) {
    return {splat(value), splat(value)};
}
inline f32x16 load16(const float* p) {
    return {load(p), load(p + 8)};
}
inline f32x16 load16(const uint16_t* halves) {
    return {load_half(halves), load_half(halves + 8)};
}
inline f32x16 load16(const int8_t* bytes) {
    return {load_bytes(bytes), load_bytes(bytes + 8)};
}
inline void store16(float* p, f32x16 v) {
    store(p, v.low);
    store(p + 8, v.high);
}
inline f32x8 low_half(f32x16 v) {
    return v.low;
}
inline f32x8 high_half(f32x16 v) {
    return v.high;
}
inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
    return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)};
}
inline f32x16 exp(f32x16 x) {
    return {exp(x.low), exp(x.high)};
}

constexpr int kQueryBatch = 2, kOutputRegisters = 4;

#endif

inline float sum(f32x16 v) {
    return sum(low_half(v) + high_half(v));
}
inline float max_lane(f32x16 v) {
    return max_lane(max(low_half(v), high_half(v)));
}
inline f32x16 max(f32x16 a, f32x16 b) {
#if NATIVE_AVX512
    return select_less(b, a, a, b);
#else
    return {max(a.low, b.low), max(a.high, b.high)};
#endif
}

}  // namespace native::cpu::KERNEL_ISA
