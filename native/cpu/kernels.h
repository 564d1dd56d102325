// The table of numeric kernels, one filled in per instruction set; chosen once at run time.
//
// Every kernel's arithmetic per output element is fixed: it does not depend on how many rows are
// computed together, on the thread that runs it, or on the tree a row sits in (DESIGN.md 2.3).
#pragma once

#include <cstdint>

#include "quants.h"

namespace native::cpu {

constexpr int kKvBlock = 32;   // positions in a KV block, and keys in an attention tile
constexpr int kRowGroup = 16;  // threads share out weight rows in multiples of this

// Quantized activations of T rows, block-major: all rows of block 0, then all rows of block 1, ...
// kQ8:  q (K/32, T, 32) i8, scale (K/32, T) f32, sum (K/32, T) i32 (sum of q over the block)
// kQ8K: q (K/256, T, 256) i8, scale (K/256, T) f32, sum (K/256, T, 16) i16 (per 16 elements)
struct Activations {
    int8_t* q;
    float* scale;
    void* sum;
    int64_t n_rows;  // T, the stride between blocks
};

struct LinearArgs {
    WeightType type;
    const uint8_t* weight;  // rows of row_bytes bytes
    int64_t row_bytes;
    int64_t n_cols;           // K
    int64_t n_out;            // rows of the weight
    const float* x;           // (T, K) float activations, or null
    Activations activations;  // quantized ones in the weight type's format, when x is null
    const float* bias;        // (n_out) or null
    const float* residual;    // (T, n_out) or null, added last
    float* out;               // (T, n_out)
    int64_t n_rows;           // T
};

// How a KV cache holds numbers: halves, or bytes with a scale (half) for each group of 32 of a
// head's numbers, after Q8_0. Either is exact as a float.
enum class KvType { kF16, kQ8_0 };
constexpr int64_t kKvGroup = 32;
constexpr int64_t kMostHeadDim = 1024;

constexpr int64_t kv_groups(int64_t head_dim) {
    return (head_dim + kKvGroup - 1) / kKvGroup;
}

// One KV head's keys and values of 32 positions as the cache holds them; keys lie along the lanes.
// kF16:  k (D, 32) f16, v (32, D) f16
// kQ8_0: k (D, 32) i8 then scales (G, 32) f16, v (32, D) i8 then scales (32, G) f16.
//        Keys are rotated first (`rotate_groups`), so that no single dimension takes all the range
//        of its group; queries are too, which leaves their products as they were (after QuaRot).
struct KvTile {
    KvType type;
    const uint8_t *k, *v;
};

// The same as floats: k (D, 32), v (32, D).
struct FloatTile {
    float *k, *v;
    int64_t head_dim;  // D
};

// One query: it sees the keys at logical positions [begin, end).
struct TileQuery {
    const float* q;  // (D)
    float* out;      // (D) running weighted sum of values
    int64_t begin, end;
    float max, sum;  // running maximum of its scores, and sum of their exponentials
};

struct Kernels {
    const char* isa;
    // y (E) = x * rsqrt(mean(x^2) + eps) * weight
    void (*rms_norm)(const float* x, const float* weight, float eps, float* y, int64_t n);
    // Rotates `n_heads` heads of D in place; cos, sin (n_rot/2). neox pairs (i, i+n_rot/2), else
    // (2i, 2i+1).
    void (*rope)(float* x, const float* cos, const float* sin, int64_t n_heads, int64_t head_dim,
                 int64_t n_rot, bool is_neox);
    // y = silu(gate) * up, elementwise
    void (*silu_mul)(const float* gate, const float* up, float* y, int64_t n);
    // Quantizes row `row` of x (K) into the block-major activations.
    void (*quantize_q8)(const float* x, int64_t n_cols, const Activations& out, int64_t row);
    void (*quantize_q8k)(const float* x, int64_t n_cols, const Activations& out, int64_t row);
    // Computes output columns [begin, end), begin a multiple of kRowGroup, for all T rows.
    void (*linear)(const LinearArgs& args, int64_t begin, int64_t end);
    void (*expand_tile)(const KvTile& tile, const FloatTile& out);
    // One online-softmax step of every query over the tile of positions [first, first + 32), of
    // which each must see one at least; scores are multiplied by `scale`.
    void (*attend_tile)(TileQuery* queries, int64_t n_queries, const FloatTile& tile, int64_t first,
                        float scale);
    // The same over a tile of the cache, which it may expand into `scratch`.
    void (*attend_kv_tile)(TileQuery* queries, int64_t n_queries, const KvTile& tile,
                           const FloatTile& scratch, int64_t first, float scale);
    // out (D) *= 1/sum
    void (*finish_attention)(float* out, float sum, int64_t head_dim);
    void (*to_half)(const float* x, uint16_t* y, int64_t n);
    // y = H x * scale for every whole group of 32 of a head's numbers, H the Walsh-Hadamard matrix,
    // H H = 32; the rest is copied.
    void (*rotate_groups)(const float* x, int64_t n, float scale, float* y);
    // One head's key or value (n, a multiple of 8) -> q (n), scales (n / 32, rounded up) as kQ8_0.
    void (*quantize_kv)(const float* x, int64_t n, int8_t* q, uint16_t* scales);
    // The index of the largest element, the lowest index among equals; NaN is passed over. -1 when
    // the largest is not finite.
    int64_t (*argmax)(const float* x, int64_t n);
    // The k largest elements of x (n >= k), the lowest index first among equals, and the logarithms
    // of their shares in softmax(x). ids[0] is -1 when the largest is not finite.
    void (*top_k)(const float* x, int64_t n, int64_t k, int32_t* ids, float* log_probs);
};

// The best kernels this CPU can run; `isa` "portable" forces the reference ones (for tests).
// Throws Error for an unknown or unavailable name; nullptr means the best.
const Kernels& kernels(const char* isa = nullptr);

}  // namespace native::cpu
