// f32x8 as two NEON registers, with the operators that the compiler's own vectors have. A vector
// type of 32 bytes would live in memory here. Part of simd.h.
#pragma once

#include <arm_neon.h>

namespace native::cpu::KERNEL_ISA {

struct f32x8 {
    float32x4_t low, high;

    f32x8() = default;
    f32x8(float32x4_t low_lanes, float32x4_t high_lanes) : low(low_lanes), high(high_lanes) {}
    // Implicit: a number mixes with a vector as the same number in every lane.
    f32x8(float value) : low(vdupq_n_f32(value)), high(low) {}

    float operator[](int i) const { return i < 4 ? low[i] : high[i - 4]; }

    friend f32x8 operator+(f32x8 a, f32x8 b) {
        return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
    }
    friend f32x8 operator-(f32x8 a, f32x8 b) {
        return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)};
    }
    friend f32x8 operator*(f32x8 a, f32x8 b) {
        return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
    }
    friend f32x8 operator/(f32x8 a, f32x8 b) {
        return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)};
    }
    friend f32x8 operator-(f32x8 a) { return {vnegq_f32(a.low), vnegq_f32(a.high)}; }
    friend f32x8& operator+=(f32x8& a, f32x8 b) { return a = a + b; }
};

inline f32x8 splat(float value) {
    return value;
}

inline f32x8 load(const float* p) {
    return {vld1q_f32(p), vld1q_f32(p + 4)};
}

inline void store(float* p, f32x8 v) {
    vst1q_f32(p, v.low);
    vst1q_f32(p + 4, v.high);
}

inline f32x8 fma(f32x8 a, f32x8 b, f32x8 c) {
    return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}

// In every lane: a < b ? yes : no.
inline f32x8 select_less(f32x8 a, f32x8 b, f32x8 yes, f32x8 no) {
    return {vbslq_f32(vcltq_f32(a.low, b.low), yes.low, no.low),
            vbslq_f32(vcltq_f32(a.high, b.high), yes.high, no.high)};
}

// 2^n for integers n in -126..127.
inline f32x8 power_of_two(f32x8 n) {
    const auto power = [](float32x4_t exponent) {
        const int32x4_t biased = vaddq_s32(vcvtq_s32_f32(exponent), vdupq_n_s32(127));
        return vreinterpretq_f32_s32(vshlq_n_s32(biased, 23));
    };
    return {power(n.low), power(n.high)};
}

// ((0+4)+(2+6)) + ((1+5)+(3+7)): the order every horizontal sum uses.
inline float sum(f32x8 v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

inline float max_lane(f32x8 v) {
    return vmaxvq_f32(vmaxq_f32(v.low, v.high));
}

// The largest magnitude of x (n, a multiple of 8); not finite if one of them is not.
inline float largest_magnitude(const float* x, int64_t n) {
    // Magnitudes compare as their bits do, and NaN is above infinity.
    uint32x4_t best = vdupq_n_u32(0);
    for (int64_t i = 0; i < n; i += 4)
        best = vmaxq_u32(best, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    return std::bit_cast<float>(vmaxvq_u32(best));
}

// Quantizes 16 values to round(x * inverse), ties to even, and returns their sum.
inline int32_t round_16(const float* x, float inverse, int8_t* q) {
    const auto rounded = [&](int i) {
        const float32x4_t scaled = vmulq_n_f32(vld1q_f32(x + i), inverse);
        return vmovn_s32(vcvtnq_s32_f32(scaled));
    };
    const int16x8_t low = vcombine_s16(rounded(0), rounded(4));
    const int16x8_t high = vcombine_s16(rounded(8), rounded(12));
    vst1q_s8(q, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    return vaddlvq_s16(vaddq_s16(low, high));
}

// Eight pairs: their first members, and their second ones.
struct Pairs {
    f32x8 first, second;
};

// Pairs that lie side by side: first, second, first, second, ...
inline Pairs load_pairs(const float* p) {
    const float32x4x2_t low = vld2q_f32(p), high = vld2q_f32(p + 8);
    return {{low.val[0], high.val[0]}, {low.val[1], high.val[1]}};
}

inline void store_pairs(float* p, Pairs v) {
    vst2q_f32(p, {{v.first.low, v.second.low}});
    vst2q_f32(p + 8, {{v.first.high, v.second.high}});
}

inline f32x8 load_half(const uint16_t* p) {
    const float16x8_t v = vreinterpretq_f16_u16(vld1q_u16(p));
    return {vcvt_f32_f16(vget_low_f16(v)), vcvt_high_f32_f16(v)};
}

// The integers as floats.
inline f32x8 load_bytes(const int8_t* p) {
    const int16x8_t v = vmovl_s8(vld1_s8(p));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(v))), vcvtq_f32_s32(vmovl_high_s16(v))};
}

// Rounds to nearest even.
inline void store_half(uint16_t* p, f32x8 v) {
    const float16x8_t halves = vcvt_high_f16_f32(vcvt_f16_f32(v.low), v.high);
    vst1q_u16(p, vreinterpretq_u16_f16(halves));
}

}  // namespace native::cpu::KERNEL_ISA
