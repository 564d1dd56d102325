// Weight types as they lie in a GGUF file: block layouts, sizes and a portable dequantizer.
//
// Block layouts follow the GGUF format (ggml's quantization types). Adding a type: a block struct,
// a row in `traits`, a case in `dequantize_row`, and unpackers in kernels/linear_unpack.h and
// kernels/linear_portable.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace native::cpu {

// Numbers are GGUF's own type ids.
enum class WeightType : int32_t {
    kF32 = 0,
    kF16 = 1,
    kQ4_0 = 2,
    kQ4_1 = 3,
    kQ5_0 = 6,
    kQ5_1 = 7,
    kQ8_0 = 8,
    kQ4_K = 12,
    kQ5_K = 13,
    kQ6_K = 14,
    kIQ4_NL = 20,
    kBF16 = 30,
};

constexpr int kBlock = 32;        // elements of a plain quant block
constexpr int kSuperBlock = 256;  // elements of a K-quant super-block

// The values that IQ4_NL's nibbles stand for.
constexpr int8_t kCodebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

struct BlockQ4_0 {
    uint16_t d;      // scale, f16
    uint8_t qs[16];  // element i in the low nibble of byte i, element i+16 in the high one
};
struct BlockQ4_1 {
    uint16_t d, m;  // scale and minimum, f16
    uint8_t qs[16];
};
struct BlockQ5_0 {
    uint16_t d;
    uint8_t qh[4];  // fifth bits, little-endian bit i for element i
    uint8_t qs[16];
};
struct BlockQ5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};
struct BlockQ8_0 {
    uint16_t d;
    int8_t qs[32];
};
struct BlockIQ4_NL {
    uint16_t d;
    uint8_t qs[16];  // as Q4_0's, but nibbles index kCodebook
};
struct BlockQ4_K {
    uint16_t d, dmin;    // f16 scales of the 6-bit scales and minima
    uint8_t scales[12];  // eight 6-bit scales and eight 6-bit minima
    uint8_t qs[128];     // 64 elements per 32 bytes: low nibbles first, then high nibbles
};
struct BlockQ5_K {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];  // bit s of byte i is the fifth bit of element 32*s + i
    uint8_t qs[128];
};
struct BlockQ6_K {
    uint8_t ql[128];    // low four bits
    uint8_t qh[64];     // high two bits
    int8_t scales[16];  // one per 16 elements
    uint16_t d;
};
static_assert(sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

// How a type's activations are prepared: not at all, per 32 elements, or per 256 elements.
enum class ActivationFormat : int32_t { kF32, kQ8, kQ8K };

struct WeightTraits {
    const char* name;
    int block_elements;
    int block_bytes;
    ActivationFormat activation;
};

// Traits of `type`; throws Error for a number that is no native type.
const WeightTraits& traits(WeightType type);

// Bytes of one row of `n_cols` elements; throws Error unless n_cols is a multiple of the block.
int64_t row_bytes(WeightType type, int64_t n_cols);

// Writes one dequantized row: out (n_cols) f32.
void dequantize_row(WeightType type, const void* row, float* out, int64_t n_cols);

float half_to_float(uint16_t half);
uint16_t float_to_half(float value);  // rounds to nearest even

// Static, so that no translation unit can hand its instruction set to another.
// The 6-bit scale and minimum of sub-block `i` (0..7) of Q4_K and Q5_K.
static inline void unpack_scale_min(const uint8_t* scales, int i, int* scale, int* minimum) {
    if (i < 4) {
        *scale = scales[i] & 63;
        *minimum = scales[i + 4] & 63;
    } else {
        *scale = (scales[i + 4] & 15) | ((scales[i - 4] >> 6) << 4);
        *minimum = (scales[i + 4] >> 4) | ((scales[i] >> 6) << 4);
    }
}

}  // namespace native::cpu
