#include "quants.h"

#include <cstring>

#include "error.h"

namespace native::cpu {

namespace {

struct TypeRow {
    WeightType type;
    WeightTraits traits;
};

constexpr TypeRow kTypes[] = {
    {WeightType::kF32, {"F32", 1, 4, ActivationFormat::kF32}},
    {WeightType::kF16, {"F16", 1, 2, ActivationFormat::kF32}},
    {WeightType::kBF16, {"BF16", 1, 2, ActivationFormat::kF32}},
    {WeightType::kQ4_0, {"Q4_0", kBlock, sizeof(BlockQ4_0), ActivationFormat::kQ8}},
    {WeightType::kQ4_1, {"Q4_1", kBlock, sizeof(BlockQ4_1), ActivationFormat::kQ8}},
    {WeightType::kQ5_0, {"Q5_0", kBlock, sizeof(BlockQ5_0), ActivationFormat::kQ8}},
    {WeightType::kQ5_1, {"Q5_1", kBlock, sizeof(BlockQ5_1), ActivationFormat::kQ8}},
    {WeightType::kQ8_0, {"Q8_0", kBlock, sizeof(BlockQ8_0), ActivationFormat::kQ8}},
    {WeightType::kIQ4_NL, {"IQ4_NL", kBlock, sizeof(BlockIQ4_NL), ActivationFormat::kQ8}},
    {WeightType::kQ4_K, {"Q4_K", kSuperBlock, sizeof(BlockQ4_K), ActivationFormat::kQ8K}},
    {WeightType::kQ5_K, {"Q5_K", kSuperBlock, sizeof(BlockQ5_K), ActivationFormat::kQ8K}},
    {WeightType::kQ6_K, {"Q6_K", kSuperBlock, sizeof(BlockQ6_K), ActivationFormat::kQ8K}},
};

float bf16_to_float(uint16_t value) {
    const uint32_t bits = uint32_t(value) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

void dequantize(const BlockQ4_0& b, float* out) {
    const float d = half_to_float(b.d);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * float((b.qs[i] & 15) - 8);
        out[i + 16] = d * float((b.qs[i] >> 4) - 8);
    }
}

void dequantize(const BlockQ4_1& b, float* out) {
    const float d = half_to_float(b.d), m = half_to_float(b.m);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * float(b.qs[i] & 15) + m;
        out[i + 16] = d * float(b.qs[i] >> 4) + m;
    }
}

int fifth_bit(const uint8_t* qh, int i) {
    return ((qh[i / 8] >> (i % 8)) & 1) << 4;
}

void dequantize(const BlockQ5_0& b, float* out) {
    const float d = half_to_float(b.d);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * float(((b.qs[i] & 15) | fifth_bit(b.qh, i)) - 16);
        out[i + 16] = d * float(((b.qs[i] >> 4) | fifth_bit(b.qh, i + 16)) - 16);
    }
}

void dequantize(const BlockQ5_1& b, float* out) {
    const float d = half_to_float(b.d), m = half_to_float(b.m);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * float((b.qs[i] & 15) | fifth_bit(b.qh, i)) + m;
        out[i + 16] = d * float((b.qs[i] >> 4) | fifth_bit(b.qh, i + 16)) + m;
    }
}

void dequantize(const BlockQ8_0& b, float* out) {
    const float d = half_to_float(b.d);
    for (int i = 0; i < 32; ++i) out[i] = d * float(b.qs[i]);
}

void dequantize(const BlockIQ4_NL& b, float* out) {
    const float d = half_to_float(b.d);
    for (int i = 0; i < 16; ++i) {
        out[i] = d * float(kCodebook[b.qs[i] & 15]);
        out[i + 16] = d * float(kCodebook[b.qs[i] >> 4]);
    }
}

void dequantize(const BlockQ4_K& b, float* out) {
    const float d = half_to_float(b.d), dmin = half_to_float(b.dmin);
    for (int s = 0; s < 8; ++s) {
        int scale, minimum;
        unpack_scale_min(b.scales, s, &scale, &minimum);
        for (int i = 0; i < 32; ++i) {
            const int q = (b.qs[32 * (s / 2) + i] >> (s % 2 ? 4 : 0)) & 15;
            out[32 * s + i] = d * float(scale) * float(q) - dmin * float(minimum);
        }
    }
}

void dequantize(const BlockQ5_K& b, float* out) {
    const float d = half_to_float(b.d), dmin = half_to_float(b.dmin);
    for (int s = 0; s < 8; ++s) {
        int scale, minimum;
        unpack_scale_min(b.scales, s, &scale, &minimum);
        for (int i = 0; i < 32; ++i) {
            const int low = (b.qs[32 * (s / 2) + i] >> (s % 2 ? 4 : 0)) & 15;
            const int q = low | (((b.qh[i] >> s) & 1) << 4);
            out[32 * s + i] = d * float(scale) * float(q) - dmin * float(minimum);
        }
    }
}

void dequantize(const BlockQ6_K& b, float* out) {
    const float d = half_to_float(b.d);
    for (int e = 0; e < kSuperBlock; ++e) {
        const int half = e / 128, quarter = (e / 32) % 4, i = e % 32;
        const uint8_t low = b.ql[64 * half + 32 * (quarter % 2) + i];
        const int nibble = quarter < 2 ? low & 15 : low >> 4;
        const int high = (b.qh[32 * half + i] >> (2 * quarter)) & 3;
        out[e] = d * float(b.scales[e / 16]) * float((nibble | (high << 4)) - 32);
    }
}

template <class Block>
void dequantize_blocks(const void* row, float* out, int64_t n_cols, int block_elements) {
    const auto* blocks = static_cast<const Block*>(row);
    for (int64_t b = 0; b < n_cols / block_elements; ++b)
        dequantize(blocks[b], out + b * block_elements);
}

}  // namespace

const WeightTraits& traits(WeightType type) {
    for (const TypeRow& row : kTypes)
        if (row.type == type) return row.traits;
    throw Error("weight", "type " + std::to_string(int(type)) + " is not a native weight type");
}

int64_t row_bytes(WeightType type, int64_t n_cols) {
    const WeightTraits& t = traits(type);
    require(n_cols > 0 && n_cols % t.block_elements == 0, t.name,
            "row of " + std::to_string(n_cols) + " elements, expected a positive multiple of " +
                std::to_string(t.block_elements));
    return n_cols / t.block_elements * t.block_bytes;
}

void dequantize_row(WeightType type, const void* row, float* out, int64_t n_cols) {
    switch (type) {
        case WeightType::kF32: std::memcpy(out, row, size_t(n_cols) * sizeof(float)); return;
        case WeightType::kF16:
            for (int64_t i = 0; i < n_cols; ++i)
                out[i] = half_to_float(static_cast<const uint16_t*>(row)[i]);
            return;
        case WeightType::kBF16:
            for (int64_t i = 0; i < n_cols; ++i)
                out[i] = bf16_to_float(static_cast<const uint16_t*>(row)[i]);
            return;
        case WeightType::kQ4_0: return dequantize_blocks<BlockQ4_0>(row, out, n_cols, kBlock);
        case WeightType::kQ4_1: return dequantize_blocks<BlockQ4_1>(row, out, n_cols, kBlock);
        case WeightType::kQ5_0: return dequantize_blocks<BlockQ5_0>(row, out, n_cols, kBlock);
        case WeightType::kQ5_1: return dequantize_blocks<BlockQ5_1>(row, out, n_cols, kBlock);
        case WeightType::kQ8_0: return dequantize_blocks<BlockQ8_0>(row, out, n_cols, kBlock);
        case WeightType::kIQ4_NL: return dequantize_blocks<BlockIQ4_NL>(row, out, n_cols, kBlock);
        case WeightType::kQ4_K: return dequantize_blocks<BlockQ4_K>(row, out, n_cols, kSuperBlock);
        case WeightType::kQ5_K: return dequantize_blocks<BlockQ5_K>(row, out, n_cols, kSuperBlock);
        case WeightType::kQ6_K: return dequantize_blocks<BlockQ6_K>(row, out, n_cols, kSuperBlock);
    }
    traits(type);
}

float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 31, mantissa = half & 1023;
    uint32_t bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | (mantissa << 13);
    } else if (exponent != 0) {
        bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else {
        const float value = float(mantissa) * 0x1p-24f;
        std::memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    }
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

uint16_t float_to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = uint16_t((bits >> 16) & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;   // NaN
    if (magnitude >= 0x477ff000) return sign | 0x7c00;  // rounds past the largest half
    if (magnitude < 0x38800000) {                       // subnormal or zero
        float absolute;
        std::memcpy(&absolute, &magnitude, sizeof absolute);
        const float shifted = absolute + 0.5f;  // the addition rounds at 2^-24, ties to even
        uint32_t rounded;
        std::memcpy(&rounded, &shifted, sizeof rounded);
        return uint16_t(sign | (rounded - 0x3f000000));
    }
    const uint32_t rebased = magnitude - 0x38000000;
    return uint16_t(sign | ((rebased + 0xfff + ((rebased >> 13) & 1)) >> 13));
}

}  // namespace native::cpu
