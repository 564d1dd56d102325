// Quantized linear with vector registers: kLanes weight rows at a time, straight from the file's
// layout.
//
// The packed bytes of the rows are transposed as 4-byte groups, so that lane r of every register
// belongs to row r. One group of every row meets one broadcast group of an activation row; nothing
// is summed across lanes. Unpacking is paid once for all activation rows.
// Written in the names of lanes_avx2.h, lanes_avx512.h and lanes_neon.h.
#pragma once

#include "../kernels.h"
#if NATIVE_AVX512
#include "lanes_avx512.h"
#elif NATIVE_AVX2
#include "lanes_avx2.h"
#else
#include "lanes_neon.h"
#endif

namespace native::cpu::KERNEL_ISA {

constexpr int kRowTile = 64;  // activation rows per pass; their accumulators stay in L1
static_assert(kRowGroup % kLanes == 0, "threads share out whole groups of rows");

// Gathers 16 bytes at `offset` of block `b` of all rows as four groups.
template <class Block>
inline void gather16(const Block* const* rows, int64_t b, size_t offset, IntLanes* g) {
    const auto at = [&](int r) { return reinterpret_cast<const uint8_t*>(rows[r] + b) + offset; };
    const IntLanes r0 = load_rows(0, at), r1 = load_rows(1, at);
    const IntLanes r2 = load_rows(2, at), r3 = load_rows(3, at);
    const IntLanes a = unpack_low32(r0, r1), b0 = unpack_high32(r0, r1);
    const IntLanes c = unpack_low32(r2, r3), d = unpack_high32(r2, r3);
    g[0] = unpack_low64(a, c);
    g[1] = unpack_high64(a, c);
    g[2] = unpack_low64(b0, d);
    g[3] = unpack_high64(b0, d);
}

template <class Block>
inline void gather32_bytes(const Block* const* rows, int64_t b, size_t offset, IntLanes* g) {
    gather16(rows, b, offset, g);
    gather16(rows, b, offset + 16, g + 4);
}

template <class Field, class Block>
inline Field field_of(const Block* row, int64_t b, size_t offset) {
    Field value;
    std::memcpy(&value, reinterpret_cast<const uint8_t*>(row + b) + offset, sizeof value);
    return value;
}

template <class Block>
inline IntLanes gather_word(const Block* const* rows, int64_t b, size_t offset) {
    return gather32([&](int r) { return field_of<int32_t>(rows[r], b, offset); });
}

template <class Block>
inline FloatLanes gather_half(const Block* const* rows, int64_t b, size_t offset) {
    return gather_halves([&](int r) { return field_of<int16_t>(rows[r], b, offset); });
}

// Pointers to the rows of a group; rows past the end repeat the last one.
template <class Block>
inline void group_rows(const LinearArgs& a, int64_t r0, const Block** rows) {
    for (int64_t r = 0; r < kLanes; ++r) {
        const int64_t at = r0 + r < a.n_out ? r0 + r : a.n_out - 1;
        rows[r] = reinterpret_cast<const Block*>(a.weight + at * a.row_bytes);
    }
}

// Fetches block b's share of the next row group, which lies behind the present one in the file. So
// many short streams are more than the hardware prefetcher follows.
template <class Block>
inline void prefetch_next_group(const LinearArgs& a, int64_t r0, int64_t b) {
    const uint8_t* next = a.weight + (r0 + kLanes) * a.row_bytes;
    const int64_t begin = b * kLanes * int64_t(sizeof(Block));
    for (int64_t i = begin; i < begin + kLanes * int64_t(sizeof(Block)); i += 64)
        __builtin_prefetch(next + i);
}

// ---- 32-element blocks: eight groups of unsigned values, minus kOffset ----

template <class Block>
inline void unpack_nibbles(const Block* const* rows, int64_t b, IntLanes* w) {
    const IntLanes low = splat8(15);
    IntLanes packed[4];
    gather16(rows, b, offsetof(Block, qs), packed);
    for (int g = 0; g < 4; ++g) {
        w[g] = bit_and(packed[g], low);
        w[g + 4] = bit_and(shift_right16(packed[g], 4), low);
    }
}

// Sets bit 4 of byte j of group g where bit 4g + j of the row's qh is set.
template <class Block>
inline void add_fifth_bits(const Block* const* rows, int64_t b, IntLanes* w) {
    const IntLanes qh = gather_word(rows, b, offsetof(Block, qh));
    const IntLanes even = splat32(0x08040201), odd = splat32(int(0x80402010));
    const IntLanes bit4 = splat8(16);
    for (int byte = 0; byte < 4; ++byte) {
        const auto pick = [&](int lane) { return 0x01010101 * (byte + 4 * lane); };
        const IntLanes bits = shuffle_bytes(qh, repeat128(pick(0), pick(1), pick(2), pick(3)));
        w[2 * byte] = bit_or(w[2 * byte], where_set(bits, even, bit4));
        w[2 * byte + 1] = bit_or(w[2 * byte + 1], where_set(bits, odd, bit4));
    }
}

// kSums: how many products of four fit 16 bits, where the dot product goes through 16 bits.
template <class Block>
struct Q8Weights;

template <>
struct Q8Weights<BlockQ4_0> {
    static constexpr int kOffset = 8;
    static void unpack(const BlockQ4_0* const* rows, int64_t b, IntLanes* w) {
        unpack_nibbles(rows, b, w);
    }
    static IntLanes dot(const IntLanes* w, const int8_t* x) { return dot_groups<8, 8>(w, x); }
};
template <>
struct Q8Weights<BlockQ4_1> {
    static constexpr int kOffset = 0;
    static void unpack(const BlockQ4_1* const* rows, int64_t b, IntLanes* w) {
        unpack_nibbles(rows, b, w);
    }
    static IntLanes dot(const IntLanes* w, const int8_t* x) { return dot_groups<8, 8>(w, x); }
};
template <>
struct Q8Weights<BlockQ5_0> {
    static constexpr int kOffset = 16;
    static void unpack(const BlockQ5_0* const* rows, int64_t b, IntLanes* w) {
        unpack_nibbles(rows, b, w);
        add_fifth_bits(rows, b, w);
    }
    static IntLanes dot(const IntLanes* w, const int8_t* x) { return dot_groups<8, 4>(w, x); }
};
template <>
struct Q8Weights<BlockQ5_1> {
    static constexpr int kOffset = 0;
    static void unpack(const BlockQ5_1* const* rows, int64_t b, IntLanes* w) {
        unpack_nibbles(rows, b, w);
        add_fifth_bits(rows, b, w);
    }
    static IntLanes dot(const IntLanes* w, const int8_t* x) { return dot_groups<8, 4>(w, x); }
};
template <>
struct Q8Weights<BlockQ8_0> {
    static constexpr int kOffset = kSignedOffset;
    static void unpack(const BlockQ8_0* const* rows, int64_t b, IntLanes* w) {
        gather32_bytes(rows, b, offsetof(BlockQ8_0, qs), w);
        for (int g = 0; g < 8; ++g) w[g] = as_operand(w[g]);
    }
    static IntLanes dot(const IntLanes* w, const int8_t* x) { return dot_signed(w, x); }
};

template <class Block>
inline void linear_q8(const LinearArgs& a, int64_t begin, int64_t end) {
    using Weights = Q8Weights<Block>;
    constexpr bool kHasMinimum = requires(Block block) { block.m; };
    alignas(64) float acc[kRowTile * kLanes];
    const auto* sums = static_cast<const int32_t*>(a.activations.sum);
    for (int64_t r0 = begin; r0 < end; r0 += kLanes) {
        const Block* rows[kLanes];
        group_rows(a, r0, rows);
        for (int64_t t0 = 0; t0 < a.n_rows; t0 += kRowTile) {
            const int64_t n_rows = a.n_rows - t0 < kRowTile ? a.n_rows - t0 : kRowTile;
            std::memset(acc, 0, size_t(n_rows) * kLanes * sizeof(float));
            for (int64_t b = 0; b < a.n_cols / kBlock; ++b) {
                if (t0 == 0) prefetch_next_group<Block>(a, r0, b);
                IntLanes w[8];
                Weights::unpack(rows, b, w);
                const FloatLanes d = gather_half(rows, b, offsetof(Block, d));
                FloatLanes m = splat_lanes(0);
                if constexpr (kHasMinimum) m = gather_half(rows, b, offsetof(Block, m));
                for (int64_t t = 0; t < n_rows; ++t) {
                    const int64_t slot = b * a.n_rows + t0 + t;
                    IntLanes isum = Weights::dot(w, a.activations.q + slot * kBlock);
                    if constexpr (Weights::kOffset != 0)
                        isum = sub32(isum, splat32(Weights::kOffset * sums[slot]));
                    const FloatLanes scale = splat_lanes(a.activations.scale[slot]);
                    FloatLanes y = load_lanes(acc + t * kLanes);
                    y = fma_lanes(to_float(isum), multiply(d, scale), y);
                    if constexpr (kHasMinimum)
                        y = fma_lanes(splat_lanes(float(sums[slot])), multiply(m, scale), y);
                    store_lanes(acc + t * kLanes, y);
                }
            }
            write_group(a, acc, kLanes, t0, n_rows, r0, end - r0 < kLanes ? end - r0 : kLanes);
        }
    }
}

// ---- 256-element super-blocks ----

// Values in groups of four elements, a scale per 16 elements, and minima as pairs of i16 that meet
// the activation sums of 16 elements each.
struct SuperBlock {
    IntLanes w[64];
    ScaleLanes scale[16];
    IntLanes minimum[8];
};

// Bytes (low, high) of every lane as the low bytes of its two 16-bit halves, or as the high ones.
inline IntLanes spread_bytes(IntLanes lanes, int low, int high, bool is_high_byte) {
    const int zero = 0x80;
    const int pattern = is_high_byte ? zero | low << 8 | zero << 16 | high << 24
                                     : low | zero << 8 | high << 16 | zero << 24;
    const int next = is_high_byte ? 0x04000400 : 0x00040004;
    return shuffle_bytes(
        lanes, repeat128(pattern, pattern + next, pattern + 2 * next, pattern + 3 * next));
}

// The eight 6-bit scales and minima of every row; unpack_scale_min (quants.h) four at a time.
template <class Block>
inline void unpack_scales_min(const Block* const* rows, int64_t b, SuperBlock* out) {
    const auto field = [&](size_t i) {
        return gather_word(rows, b, offsetof(Block, scales) + 4 * i);
    };
    const IntLanes d0 = field(0), d1 = field(1), d2 = field(2);
    const IntLanes low6 = splat8(0x3f), low4 = splat8(0x0f), top2 = splat8(0x30);
    const auto top = [&](IntLanes d) { return bit_and(shift_right16(d, 2), top2); };
    const IntLanes scale[2] = {bit_and(d0, low6), bit_or(bit_and(d2, low4), top(d0))};
    const IntLanes minimum[2] = {bit_and(d1, low6),
                                 bit_or(bit_and(shift_right16(d2, 4), low4), top(d1))};
    for (int s = 0; s < 8; ++s) {
        out->scale[2 * s] = out->scale[2 * s + 1] =
            scale_of_pairs(spread_bytes(scale[s / 4], s % 4, s % 4, false));
        out->minimum[s] = spread_bytes(minimum[s / 4], s % 4, s % 4, false);
    }
}

template <class Block>
inline void unpack_k_nibbles(const Block* const* rows, int64_t b, IntLanes* w) {
    const IntLanes low = splat8(15);
    for (int pair = 0; pair < 4; ++pair) {
        IntLanes packed[8];
        gather32_bytes(rows, b, offsetof(Block, qs) + 32 * size_t(pair), packed);
        for (int g = 0; g < 8; ++g) {
            w[16 * pair + g] = bit_and(packed[g], low);
            w[16 * pair + 8 + g] = bit_and(shift_right16(packed[g], 4), low);
        }
    }
}

template <class Block>
struct Q8KWeights;

template <>
struct Q8KWeights<BlockQ4_K> {
    static constexpr int kSums = 8;
    static void unpack(const BlockQ4_K* const* rows, int64_t b, SuperBlock* out) {
        unpack_k_nibbles(rows, b, out->w);
        unpack_scales_min(rows, b, out);
    }
};

template <>
struct Q8KWeights<BlockQ5_K> {
    static constexpr int kSums = 4;
    static void unpack(const BlockQ5_K* const* rows, int64_t b, SuperBlock* out) {
        unpack_k_nibbles(rows, b, out->w);
        unpack_scales_min(rows, b, out);
        IntLanes high[8];
        gather32_bytes(rows, b, offsetof(BlockQ5_K, qh), high);
        const IntLanes bit0 = splat8(1);
        for (int s = 0; s < 8; ++s)
            for (int g = 0; g < 8; ++g) {
                const IntLanes bit = bit_and(shift_right16(high[g], s), bit0);
                out->w[8 * s + g] = bit_or(out->w[8 * s + g], shift_left16(bit, 4));
            }
    }
};

template <>
struct Q8KWeights<BlockQ6_K> {
    static constexpr int kSums = 2;
    static void unpack(const BlockQ6_K* const* rows, int64_t b, SuperBlock* out) {
        const IntLanes low = splat8(15), two = splat8(3);
        for (int half = 0; half < 2; ++half) {
            IntLanes ql[16], qh[8];
            gather32_bytes(rows, b, offsetof(BlockQ6_K, ql) + 64 * size_t(half), ql);
            gather32_bytes(rows, b, offsetof(BlockQ6_K, ql) + 64 * size_t(half) + 32, ql + 8);
            gather32_bytes(rows, b, offsetof(BlockQ6_K, qh) + 32 * size_t(half), qh);
            for (int quarter = 0; quarter < 4; ++quarter)
                for (int g = 0; g < 8; ++g) {
                    const IntLanes packed = ql[8 * (quarter % 2) + g];
                    const IntLanes nibble =
                        bit_and(quarter < 2 ? packed : shift_right16(packed, 4), low);
                    const IntLanes high = bit_and(shift_right16(qh[g], 2 * quarter), two);
                    out->w[32 * half + 8 * quarter + g] = bit_or(nibble, shift_left16(high, 4));
                }
        }
        IntLanes scales[4];  // four signed scales per row each
        gather16(rows, b, offsetof(BlockQ6_K, scales), scales);
        for (int s = 0; s < 16; ++s)
            out->scale[s] = scale_of_pairs(
                shift_right_signed16(spread_bytes(scales[s / 4], s % 4, s % 4, true), 8));
        // In the high byte a scale counts 256-fold; the offset of the values is 32.
        for (int s = 0; s < 8; ++s)
            out->minimum[s] = shift_right_signed16(
                spread_bytes(scales[s / 2], 2 * (s % 2), 2 * (s % 2) + 1, true), 3);
    }
};

inline IntLanes minimum_dot(const SuperBlock& block, const int16_t* sums) {
    IntLanes total = zero_lanes();
    for (int s = 0; s < 8; ++s)
        total = add32(total, multiply_add_pairs16(block.minimum[s], broadcast_group(sums + 2 * s)));
    return total;
}

template <class Block>
inline void linear_q8k(const LinearArgs& a, int64_t begin, int64_t end) {
    using Weights = Q8KWeights<Block>;
    // Without a minimum of its own, a type's minima stand for its offset and share its scale.
    constexpr bool kHasMinimum = requires(Block block) { block.dmin; };
    alignas(64) float acc[kRowTile * kLanes];
    const auto* sums = static_cast<const int16_t*>(a.activations.sum);
    SuperBlock block;
    for (int64_t r0 = begin; r0 < end; r0 += kLanes) {
        const Block* rows[kLanes];
        group_rows(a, r0, rows);
        for (int64_t t0 = 0; t0 < a.n_rows; t0 += kRowTile) {
            const int64_t n_rows = a.n_rows - t0 < kRowTile ? a.n_rows - t0 : kRowTile;
            std::memset(acc, 0, size_t(n_rows) * kLanes * sizeof(float));
            for (int64_t b = 0; b < a.n_cols / kSuperBlock; ++b) {
                if (t0 == 0) prefetch_next_group<Block>(a, r0, b);
                Weights::unpack(rows, b, &block);
                const FloatLanes d = gather_half(rows, b, offsetof(Block, d));
                FloatLanes dmin = splat_lanes(0);
                if constexpr (kHasMinimum) dmin = gather_half(rows, b, offsetof(Block, dmin));
                for (int64_t t = 0; t < n_rows; ++t) {
                    const int64_t slot = b * a.n_rows + t0 + t;
                    const int8_t* x = a.activations.q + slot * kSuperBlock;
                    IntLanes isum = dot_scaled<Weights::kSums>(block.w, block.scale, x);
                    const IntLanes msum = minimum_dot(block, sums + slot * 16);
                    if constexpr (!kHasMinimum) isum = sub32(isum, msum);
                    const FloatLanes scale = splat_lanes(a.activations.scale[slot]);
                    FloatLanes y = load_lanes(acc + t * kLanes);
                    y = fma_lanes(to_float(isum), multiply(d, scale), y);
                    if constexpr (kHasMinimum)
                        y = fma_lanes(to_float(msum),
                                      multiply(dmin, splat_lanes(-a.activations.scale[slot])), y);
                    store_lanes(acc + t * kLanes, y);
                }
            }
            write_group(a, acc, kLanes, t0, n_rows, r0, end - r0 < kLanes ? end - r0 : kLanes);
        }
    }
}

}  // namespace native::cpu::KERNEL_ISA
