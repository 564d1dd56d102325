// The register of four rows: NEON with the dot product extension, which sums four signed bytes
// exactly.
#pragma once

#include "simd.h"

namespace native::cpu::KERNEL_ISA {

using IntLanes = int32x4_t;
using FloatLanes = float32x4_t;
constexpr int kLanes = 4;     // weight rows of a group, one 32-bit lane each
constexpr int kMostSets = 2;  // groups computed together: 16 of 32 registers hold their weights

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
// (a & mask_a) | (b & mask_b) for masks that share no bit.
inline IntLanes merge(IntLanes a, IntLanes mask_a, IntLanes b, IntLanes mask_b) {
    return bit_or(bit_and(a, mask_a), bit_and(b, mask_b));
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

// Adds `value` to every byte of `a` of which a bit of `mask` (one bit per byte) is set in `bits`.
inline IntLanes add_where_set(IntLanes a, IntLanes bits, IntLanes mask, int value) {
    const uint8x16_t is_set = vtstq_u8(as_bytes(bits), as_bytes(mask));
    const uint8x16_t added = vandq_u8(is_set, vdupq_n_u8(uint8_t(value)));
    return vreinterpretq_s32_u8(vaddq_u8(as_bytes(a), added));
}

inline IntLanes add32(IntLanes a, IntLanes b) {
    return vaddq_s32(a, b);
}
inline IntLanes sub32(IntLanes a, IntLanes b) {
    return vsubq_s32(a, b);
}
// total + the sum of the two products of 16-bit pairs.
inline IntLanes add_pair_products(IntLanes total, IntLanes a, IntLanes b) {
    const int16x8_t x = as_pairs(a), y = as_pairs(b);
    return vaddq_s32(total,
                     vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
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
inline IntLanes load_lanes(const int32_t* p) {
    return vld1q_s32(p);
}
inline void store_lanes(int32_t* p, IntLanes v) {
    vst1q_s32(p, v);
}
// The f16 in the lower (upper) half of every lane.
inline FloatLanes low_halves(IntLanes a) {
    return vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(a)));
}
inline FloatLanes high_halves(IntLanes a) {
    return vcvt_f32_f16(vreinterpret_f16_s16(vshrn_n_s32(a, 16)));
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

inline IntLanes broadcast_group(const void* p) {
    int32_t group;
    std::memcpy(&group, p, sizeof group);
    return vdupq_n_s32(group);
}

// total[i] += kCount groups of w[i], from `first` on, * x, both signed. One load serves four
// groups.
template <int kSums, int kCount, int kSets>
inline void add_dot(const IntLanes (&w)[kSets][8], int first, const int8_t* x,
                    IntLanes (&total)[kSets]) {
    for (int g = 0; g < kCount; g += 4) {
        const int8x16_t groups = vld1q_s8(x + 4 * g);
        for (int i = 0; i < kSets; ++i) {
            const auto weights = [&](int j) { return vreinterpretq_s8_s32(w[i][first + g + j]); };
            total[i] = vdotq_laneq_s32(total[i], weights(0), groups, 0);
            total[i] = vdotq_laneq_s32(total[i], weights(1), groups, 1);
            total[i] = vdotq_laneq_s32(total[i], weights(2), groups, 2);
            total[i] = vdotq_laneq_s32(total[i], weights(3), groups, 3);
        }
    }
}

// The same, times a scale: an i32.
using ScaleLanes = IntLanes;
inline ScaleLanes scale_of_pairs(IntLanes pairs) {
    return vshrq_n_s32(pairs, 16);
}

template <int kSums, int kCount, int kSets>
inline void add_scaled_dot(const IntLanes (&w)[kSets][8], int first, const int8_t* x,
                           const ScaleLanes (&scale)[kSets], IntLanes (&total)[kSets]) {
    IntLanes dots[kSets];
    for (int i = 0; i < kSets; ++i) dots[i] = zero_lanes();
    add_dot<kSums, kCount>(w, first, x, dots);
    for (int i = 0; i < kSets; ++i) total[i] = vmlaq_s32(total[i], dots[i], scale[i]);
}

constexpr int kSignedOffset = 0;
inline IntLanes as_operand(IntLanes signed_weights) {
    return signed_weights;
}

}  // namespace native::cpu::KERNEL_ISA
