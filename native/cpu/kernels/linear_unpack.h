// Weight blocks of a group of rows, from the file's layout into registers whose lane r belongs to
// row r: four consecutive values of the row, one per byte. Part of linear_lanes.h.
//
// 16 or 32 bytes of every row are transposed as 4-byte words. Scales lie beside the values, so they
// come the same way: one by one they would cost more than the values.
#pragma once

#include <array>
#include <type_traits>

#include "linear_rows.h"

namespace native::cpu::KERNEL_ISA {

// Four vectors as a 4 x 4 matrix of words in every 128-bit part, transposed.
inline void transpose(IntLanes r0, IntLanes r1, IntLanes r2, IntLanes r3, IntLanes* words) {
    const IntLanes a = unpack_low32(r0, r1), b = unpack_high32(r0, r1);
    const IntLanes c = unpack_low32(r2, r3), d = unpack_high32(r2, r3);
    words[0] = unpack_low64(a, c);
    words[1] = unpack_high64(a, c);
    words[2] = unpack_low64(b, d);
    words[3] = unpack_high64(b, d);
}

// 16 bytes at `offset` of every row's block as four words. Words that nobody uses cost nothing.
template <class Block>
inline void gather16(const BlockRows<Block>& rows, int64_t offset, IntLanes* words) {
    const auto at = [&](int r) { return rows.at(r, offset); };
    transpose(load_rows(0, at), load_rows(1, at), load_rows(2, at), load_rows(3, at), words);
}

// 32 bytes as eight words.
template <class Block>
inline void gather32(const BlockRows<Block>& rows, int64_t offset, IntLanes* words) {
#if NATIVE_AVX512
    // Half the loads of two gather16, which is what bounds them.
    const auto at = [&](int r) { return rows.at(r, offset); };
    const auto wide = [&](int r) { return load_wide_rows(r, at); };
    IntLanes upper[4], lower[4];
    transpose(wide(0), wide(1), wide(2), wide(3), upper);
    transpose(wide(8), wide(9), wide(10), wide(11), lower);
    for (int i = 0; i < 4; ++i) {
        words[i] = even_parts(upper[i], lower[i]);
        words[i + 4] = odd_parts(upper[i], lower[i]);
    }
#else
    gather16(rows, offset, words);
    gather16(rows, offset + 16, words + 4);
#endif
}

// The byte `idx` of every lane, four times.
inline IntLanes repeat_byte(IntLanes lanes, int idx) {
    const auto pick = [&](int lane) { return 0x01010101 * (idx + 4 * lane); };
    return shuffle_bytes(lanes, repeat128(pick(0), pick(1), pick(2), pick(3)));
}

// ---- 32-element blocks: eight groups of unsigned values minus kOffset, or signed bytes ----

// kSums: how many products of four fit 16 bits, where the dot product goes through 16 bits; 0 for
// signed bytes.
template <class Block>
struct Q8Weights {
    static constexpr bool kHasMinimum = requires(Block block) { block.m; };
    static constexpr bool kHasFifthBits = requires(Block block) { block.qh; };
    static constexpr bool kHasCodebook = std::is_same_v<Block, BlockIQ4_NL>;
    static constexpr bool kIsSigned = sizeof(Block::qs) == kBlock || kHasCodebook;
    static constexpr int kSums = kIsSigned ? 0 : kHasFifthBits ? 4 : 8;
    static constexpr int kOffset = kIsSigned       ? kSignedOffset
                                   : kHasMinimum   ? 0
                                   : kHasFifthBits ? 16
                                                   : 8;

    // The block's values w (8), scale and minimum (if it has one). The last 32 bytes of a block
    // hold all of it, and may begin before it; Q8_0 needs its first ones besides.
    static void unpack(const BlockRows<Block>& rows, IntLanes* w, FloatLanes* d, FloatLanes* m) {
        constexpr int64_t kTail = int64_t(sizeof(Block)) - 32;
        IntLanes tail[8];
        gather32(rows, kTail, tail);
        if constexpr (kTail >= 0) {
            IntLanes head[8];
            gather32(rows, 0, head);
            *d = low_halves(head[0]);
            for (int g = 0; g < 8; ++g) w[g] = as_operand(tail[g]);
        } else {
            const auto word = [&](size_t offset) { return tail[(int64_t(offset) - kTail) / 4]; };
            *d = kTail % 4 == 0 ? low_halves(word(0)) : high_halves(word(0));
            if constexpr (kHasMinimum) *m = high_halves(word(0));
            split_nibbles(tail + 4, w);
            if constexpr (kHasFifthBits) add_fifth_bits(word(offsetof(Block, qh)), w);
            if constexpr (kHasCodebook)
                for (int g = 0; g < 8; ++g) w[g] = shuffle_bytes(as_operand(codebook()), w[g]);
        }
    }

    static IntLanes codebook() {
        const auto words = std::bit_cast<std::array<int, 4>>(kCodebook);
        return repeat128(words[0], words[1], words[2], words[3]);
    }

    static void split_nibbles(const IntLanes* packed, IntLanes* w) {
        const IntLanes low = splat8(15);
        for (int g = 0; g < 4; ++g) {
            w[g] = bit_and(packed[g], low);
            w[g + 4] = bit_and(shift_right16(packed[g], 4), low);
        }
    }

    // Sets bit 4 of byte j of group g where bit 4g + j of the row's qh is set.
    static void add_fifth_bits(IntLanes qh, IntLanes* w) {
        const IntLanes even = splat32(0x08040201), odd = splat32(int(0x80402010));
        for (int byte = 0; byte < 4; ++byte) {
            const IntLanes bits = repeat_byte(qh, byte);
            w[2 * byte] = add_where_set(w[2 * byte], bits, even, 16);
            w[2 * byte + 1] = add_where_set(w[2 * byte + 1], bits, odd, 16);
        }
    }
};

// ---- 256-element super-blocks of eight sub-blocks of 32 ----

// Per super-block: a scale per sub-block (Q6_K: two), minima as pairs of i16 that meet the
// activation sums of 16 elements each, and the bytes with the values' upper bits.
struct SuperHead {
    ScaleLanes scale[16];
    IntLanes minimum[8];
    IntLanes high[16];
    FloatLanes d, dmin;
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

// Q4_K and Q5_K: scales, minima and packed sub-scales are the block's first 16 bytes.
// unpack_scale_min (quants.h) four at a time.
template <class Block>
inline void unpack_scales_min(const BlockRows<Block>& rows, SuperHead* head) {
    static_assert(offsetof(Block, dmin) == 2 && offsetof(Block, scales) == 4);
    IntLanes words[4];
    gather16(rows, 0, words);
    head->d = low_halves(words[0]);
    head->dmin = high_halves(words[0]);
    const IntLanes low6 = splat8(0x3f), low4 = splat8(0x0f), top2 = splat8(0x30);
    const auto top = [&](IntLanes word) { return bit_and(shift_right16(word, 2), top2); };
    const IntLanes scale[2] = {bit_and(words[1], low6),
                               bit_or(bit_and(words[3], low4), top(words[1]))};
    const IntLanes minimum[2] = {bit_and(words[2], low6),
                                 bit_or(bit_and(shift_right16(words[3], 4), low4), top(words[2]))};
    for (int s = 0; s < 8; ++s) {
        head->scale[s] = scale_of_pairs(spread_bytes(scale[s / 4], s % 4, s % 4, false));
        head->minimum[s] = spread_bytes(minimum[s / 4], s % 4, s % 4, false);
    }
}

// How the values of a super-block lie: a pair of sub-blocks shares 32 bytes, the first in the low
// nibbles, the second in the high ones. Pair p is the sub-blocks sub_block(p, 0) and (p, 1);
// `unpack` makes one of the two from the bytes. kSums is as for Q8Weights; kGroupsOfScale groups
// share a scale.
template <class Block>
struct Q8KWeights;

inline IntLanes nibbles(IntLanes packed, int i) {
    return bit_and(i == 0 ? packed : shift_right16(packed, 4), splat8(15));
}

template <>
struct Q8KWeights<BlockQ4_K> {
    static constexpr int kSums = 8, kGroupsOfScale = 8;
    static constexpr int64_t kPairs = offsetof(BlockQ4_K, qs);
    static constexpr int sub_block(int pair, int i) { return 2 * pair + i; }
    static void unpack_head(const BlockRows<BlockQ4_K>& rows, SuperHead* head) {
        unpack_scales_min(rows, head);
    }
    static void unpack(const IntLanes* packed, const SuperHead&, int, int i, IntLanes* w) {
        for (int g = 0; g < 8; ++g) w[g] = nibbles(packed[g], i);
    }
};

template <>
struct Q8KWeights<BlockQ5_K> {
    static constexpr int kSums = 4, kGroupsOfScale = 8;
    static constexpr int64_t kPairs = offsetof(BlockQ5_K, qs);
    static constexpr int sub_block(int pair, int i) { return 2 * pair + i; }
    static void unpack_head(const BlockRows<BlockQ5_K>& rows, SuperHead* head) {
        unpack_scales_min(rows, head);
        gather32(rows, offsetof(BlockQ5_K, qh), head->high);
    }
    static void unpack(const IntLanes* packed, const SuperHead& head, int pair, int i,
                       IntLanes* w) {
        const IntLanes mask = splat8(1 << (2 * pair + i));
        for (int g = 0; g < 8; ++g)
            w[g] = add_where_set(nibbles(packed[g], i), head.high[g], mask, 16);
    }
};

template <>
struct Q8KWeights<BlockQ6_K> {
    static constexpr int kSums = 2, kGroupsOfScale = 4;
    static constexpr int64_t kPairs = offsetof(BlockQ6_K, ql);
    static constexpr int sub_block(int pair, int i) { return 4 * (pair / 2) + pair % 2 + 2 * i; }
    static void unpack_head(const BlockRows<BlockQ6_K>& rows, SuperHead* head) {
        IntLanes scales[4], tail[4];  // four signed scales per row each
        gather16(rows, offsetof(BlockQ6_K, scales), scales);
        gather16(rows, sizeof(BlockQ6_K) - 16, tail);
        head->d = high_halves(tail[3]);
        for (int s = 0; s < 16; ++s)
            head->scale[s] = scale_of_pairs(
                shift_right_signed16(spread_bytes(scales[s / 4], s % 4, s % 4, true), 8));
        // In the high byte a scale counts 256-fold; the offset of the values is 32.
        for (int s = 0; s < 8; ++s)
            head->minimum[s] = shift_right_signed16(
                spread_bytes(scales[s / 2], 2 * (s % 2), 2 * (s % 2) + 1, true), 3);
        gather32(rows, offsetof(BlockQ6_K, qh), head->high);
        gather32(rows, offsetof(BlockQ6_K, qh) + 32, head->high + 8);
    }
    static void unpack(const IntLanes* packed, const SuperHead& head, int pair, int i,
                       IntLanes* w) {
        const IntLanes low = splat8(15), upper = splat8(0x30);
        const int first_bit = 2 * (pair % 2) + 4 * i;  // of the two upper bits in the byte of qh
        for (int g = 0; g < 8; ++g) {
            const IntLanes bytes = head.high[8 * (pair / 2) + g];
            const IntLanes high = first_bit < 4 ? shift_left16(bytes, 4 - first_bit)
                                                : shift_right16(bytes, first_bit - 4);
            w[g] = merge(i == 0 ? packed[g] : shift_right16(packed[g], 4), low, high, upper);
        }
    }
};

}  // namespace native::cpu::KERNEL_ISA
