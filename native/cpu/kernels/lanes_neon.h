// The register of four rows: NEON with the dot product extension, which sums four signed bytes
// exactly.
#pragma once

#include "simd.h"

namespace native::cpu::KERNEL_ISA {

using IntLanes = int32x4_t;
using FloatLanes = float32x4_t;
constexpr int kLanes = 4;  // weight rows computed together, one 32-bit lane each

// The same register, seen as narrower lanes.
inline uint8x16_t as_bytes(IntLanes a) {
    return vreinterpretq_u8_s32(a);
}
inline int16x8_t as_pairs(IntLanes a) {
    return vreinterpretq_s16_s32(a);
}

inline IntLanes zero_lanes() {
    return vdupq_n_s32(0);
}
inline IntLanes splat8(int value) {
    return vreinterpretq_s32_s8(vdupq_n_s8(int8_t(value)));
}
inline IntLanes splat32(int value) {
    return vdupq_n_s32(value);
}
inline FloatLanes splat_lanes(float value) {
    return vdupq_n_f32(value);
}

inline IntLanes bit_and(IntLanes a, IntLanes b) {
    return vandq_s32(a, b);
}
inline IntLanes bit_or(IntLanes a, IntLanes b) {
    return vorrq_s32(a, b);
}
inline IntLanes shift_right16(IntLanes a, int n_bits) {
    return vreinterpretq_s32_u16(vreinterpretq_u16_s32(a) >> vdupq_n_u16(uint16_t(n_bits)));
}
inline IntLanes shift_left16(IntLanes a, int n_bits) {
    return vreinterpretq_s32_u16(vreinterpretq_u16_s32(a) << vdupq_n_u16(uint16_t(n_bits)));
}
inline IntLanes shift_right_signed16(IntLanes a, int n_bits) {
    return vreinterpretq_s32_s16(as_pairs(a) >> vdupq_n_s16(int16_t(n_bits)));
}
inline IntLanes shuffle_bytes(IntLanes a, IntLanes pick) {
    return vreinterpretq_s32_u8(vqtbl1q_u8(as_bytes(a), as_bytes(pick)));
}

// `value` in every byte of which a bit of `mask` (one bit per byte) is set.
inline IntLanes where_set(IntLanes bits, IntLanes mask, IntLanes value) {
    return vandq_s32(vreinterpretq_s32_u8(vtstq_u8(as_bytes(bits), as_bytes(mask))), value);
}

inline IntLanes add32(IntLanes a, IntLanes b) {
    return vaddq_s32(a, b);
}
inline IntLanes sub32(IntLanes a, IntLanes b) {
    return vsubq_s32(a, b);
}
inline IntLanes multiply_add_pairs16(IntLanes a, IntLanes b) {
    const int16x8_t x = as_pairs(a), y = as_pairs(b);
    return vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
}

inline FloatLanes to_float(IntLanes a) {
    return vcvtq_f32_s32(a);
}
inline FloatLanes multiply(FloatLanes a, FloatLanes b) {
    return vmulq_f32(a, b);
}
inline FloatLanes fma_lanes(FloatLanes a, FloatLanes b, FloatLanes c) {
    return vfmaq_f32(c, a, b);
}
inline FloatLanes load_lanes(const float* p) {
    return vld1q_f32(p);
}
inline void store_lanes(float* p, FloatLanes v) {
    vst1q_f32(p, v);
}

// Four 32-bit values.
inline IntLanes repeat128(int a, int b, int c, int d) {
    return IntLanes{a, b, c, d};
}

// 16 bytes of row i: at(row) points to them.
template <class At>
inline IntLanes load_rows(int i, At&& at) {
    return vreinterpretq_s32_u8(vld1q_u8(at(i)));
}

// As the x86 instructions of the same name.
inline IntLanes unpack_low32(IntLanes a, IntLanes b) {
    return vzip1q_s32(a, b);
}
inline IntLanes unpack_high32(IntLanes a, IntLanes b) {
    return vzip2q_s32(a, b);
}
inline IntLanes unpack_low64(IntLanes a, IntLanes b) {
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
inline IntLanes unpack_high64(IntLanes a, IntLanes b) {
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

// One value per row.
template <class At>
inline IntLanes gather32(At&& at) {
    return IntLanes{at(0), at(1), at(2), at(3)};
}
template <class At>
inline FloatLanes gather_halves(At&& at) {
    return vcvt_f32_f16(vreinterpret_f16_s16(int16x4_t{at(0), at(1), at(2), at(3)}));
}

inline IntLanes broadcast_group(const void* p) {
    int32_t group;
    std::memcpy(&group, p, sizeof group);
    return vdupq_n_s32(group);
}

// Sum over kGroups groups (a multiple of four) of w * x, both signed. One load serves four groups,
// and two chains hide the instruction's latency.
template <int kGroups, int kSums>
inline IntLanes dot_groups(const IntLanes* w, const int8_t* x) {
    const auto weights = [&](int g) { return vreinterpretq_s8_s32(w[g]); };
    IntLanes even = zero_lanes(), odd = zero_lanes();
    for (int g = 0; g < kGroups; g += 4) {
        const int8x16_t groups = vld1q_s8(x + 4 * g);
        even = vdotq_laneq_s32(even, weights(g), groups, 0);
        odd = vdotq_laneq_s32(odd, weights(g + 1), groups, 1);
        even = vdotq_laneq_s32(even, weights(g + 2), groups, 2);
        odd = vdotq_laneq_s32(odd, weights(g + 3), groups, 3);
    }
    return add32(even, odd);
}

// Sum over a super-block of scale * w * x; a scale is an i32, one per four groups.
using ScaleLanes = IntLanes;
inline ScaleLanes scale_of_pairs(IntLanes pairs) {
    return vshrq_n_s32(pairs, 16);
}

template <int kSums>
inline IntLanes dot_scaled(const IntLanes* w, const ScaleLanes* scale, const int8_t* x) {
    constexpr int kGroups = kSums < 4 ? 4 : kSums;  // groups that share a scale
    IntLanes total = zero_lanes();
    for (int g = 0; g < 64; g += kGroups)
        total = vmlaq_s32(total, dot_groups<kGroups, kSums>(w + g, x + 4 * g), scale[g / 4]);
    return total;
}

// Q8_0 weights are signed, as every operand here.
constexpr int kSignedOffset = 0;
inline IntLanes as_operand(IntLanes signed_weights) {
    return signed_weights;
}
inline IntLanes dot_signed(const IntLanes* w, const int8_t* x) {
    return dot_groups<8, 8>(w, x);
}

}  // namespace native::cpu::KERNEL_ISA
