// Quantized linear with AVX2: eight weight rows at a time, straight from the file's layout.
//
// The packed bytes of eight rows are transposed as 4-byte groups, so that lane r of every register
// belongs to row r. One group of every row meets one broadcast group of an activation row in a
// single maddubs; nothing is summed across lanes. Unpacking is paid once for all activation rows.
#pragma once

#include "../kernels.h"
#include "simd.h"

namespace native::cpu::KERNEL_ISA {

constexpr int kRowTile = 64;  // activation rows per pass; their accumulators stay in L1

inline __m256i load_bytes(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline __m256i load_halves(const void* low, const void* high) {
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(low))),
        _mm_loadu_si128(static_cast<const __m128i*>(high)), 1);
}

inline __m256i broadcast_group(const void* p) {
    int32_t group;
    std::memcpy(&group, p, sizeof group);
    return _mm256_set1_epi32(group);
}

// Transposes four 4-byte groups of eight rows, given as (row i | row i+4): g[i] has group i of all
// rows.
inline void transpose4(__m256i r04, __m256i r15, __m256i r26, __m256i r37, __m256i* g) {
    const __m256i a = _mm256_unpacklo_epi32(r04, r15), b = _mm256_unpackhi_epi32(r04, r15);
    const __m256i c = _mm256_unpacklo_epi32(r26, r37), d = _mm256_unpackhi_epi32(r26, r37);
    g[0] = _mm256_unpacklo_epi64(a, c);
    g[1] = _mm256_unpackhi_epi64(a, c);
    g[2] = _mm256_unpacklo_epi64(b, d);
    g[3] = _mm256_unpackhi_epi64(b, d);
}

// Gathers 16 bytes at `offset` of block `b` of eight rows as four groups.
template <class Block>
inline void gather16(const Block* const* rows, int64_t b, size_t offset, __m256i* g) {
    const auto at = [&](int r) { return reinterpret_cast<const uint8_t*>(rows[r] + b) + offset; };
    transpose4(load_halves(at(0), at(4)), load_halves(at(1), at(5)), load_halves(at(2), at(6)),
               load_halves(at(3), at(7)), g);
}

template <class Block>
inline void gather32(const Block* const* rows, int64_t b, size_t offset, __m256i* g) {
    gather16(rows, b, offset, g);
    gather16(rows, b, offset + 16, g + 4);
}

// One 2- or 4-byte field of eight rows. Built in registers: a wide load of narrow stores would
// stall.
template <class Field, class Block>
inline __m256i gather_field(const Block* const* rows, int64_t b, size_t offset) {
    const auto at = [&](int r) {
        Field value;
        std::memcpy(&value, reinterpret_cast<const uint8_t*>(rows[r] + b) + offset, sizeof value);
        return int32_t(value);
    };
    return _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
}

template <class Block>
inline __m256 gather_half(const Block* const* rows, int64_t b, size_t offset) {
    const auto at = [&](int r) {
        int16_t value;
        std::memcpy(&value, reinterpret_cast<const uint8_t*>(rows[r] + b) + offset, sizeof value);
        return value;
    };
    return _mm256_cvtph_ps(_mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)));
}

// ---- 32-element blocks: eight groups of unsigned values, minus kOffset ----

template <class Block>
struct Q8Weights;

template <class Block>
inline void unpack_nibbles(const Block* const* rows, int64_t b, __m256i* w) {
    const __m256i low = _mm256_set1_epi8(15);
    __m256i packed[4];
    gather16(rows, b, offsetof(Block, qs), packed);
    for (int g = 0; g < 4; ++g) {
        w[g] = _mm256_and_si256(packed[g], low);
        w[g + 4] = _mm256_and_si256(_mm256_srli_epi16(packed[g], 4), low);
    }
}

// Sets bit 4 of byte j of group g where bit 4g + j of the row's qh is set.
template <class Block>
inline void add_fifth_bits(const Block* const* rows, int64_t b, __m256i* w) {
    const __m256i qh = gather_field<uint32_t>(rows, b, offsetof(Block, qh));
    const __m256i even = _mm256_set1_epi32(0x08040201), odd = _mm256_set1_epi32(int(0x80402010));
    const __m256i bit4 = _mm256_set1_epi8(16);
    for (int byte = 0; byte < 4; ++byte) {
        const __m256i pick =
            _mm256_setr_epi32(0x01010101 * byte, 0x01010101 * (byte + 4), 0x01010101 * (byte + 8),
                              0x01010101 * (byte + 12), 0x01010101 * byte, 0x01010101 * (byte + 4),
                              0x01010101 * (byte + 8), 0x01010101 * (byte + 12));
        const __m256i bits = _mm256_shuffle_epi8(qh, pick);
        const __m256i is_even = _mm256_cmpeq_epi8(_mm256_and_si256(bits, even), even);
        const __m256i is_odd = _mm256_cmpeq_epi8(_mm256_and_si256(bits, odd), odd);
        w[2 * byte] = _mm256_or_si256(w[2 * byte], _mm256_and_si256(is_even, bit4));
        w[2 * byte + 1] = _mm256_or_si256(w[2 * byte + 1], _mm256_and_si256(is_odd, bit4));
    }
}

// kSums: how many maddubs results fit 16 bits before they must be widened.
template <>
struct Q8Weights<BlockQ4_0> {
    static constexpr int kSums = 8, kOffset = 8;
    static constexpr bool kMinimum = false;
    static void unpack(const BlockQ4_0* const* rows, int64_t b, __m256i* w) {
        unpack_nibbles(rows, b, w);
    }
};
template <>
struct Q8Weights<BlockQ4_1> {
    static constexpr int kSums = 8, kOffset = 0;
    static constexpr bool kMinimum = true;
    static void unpack(const BlockQ4_1* const* rows, int64_t b, __m256i* w) {
        unpack_nibbles(rows, b, w);
    }
};
template <>
struct Q8Weights<BlockQ5_0> {
    static constexpr int kSums = 4, kOffset = 16;
    static constexpr bool kMinimum = false;
    static void unpack(const BlockQ5_0* const* rows, int64_t b, __m256i* w) {
        unpack_nibbles(rows, b, w);
        add_fifth_bits(rows, b, w);
    }
};
template <>
struct Q8Weights<BlockQ5_1> {
    static constexpr int kSums = 4, kOffset = 0;
    static constexpr bool kMinimum = true;
    static void unpack(const BlockQ5_1* const* rows, int64_t b, __m256i* w) {
        unpack_nibbles(rows, b, w);
        add_fifth_bits(rows, b, w);
    }
};

// Sum over a block of 32 of w * x, one lane per row.
template <class Block>
inline __m256i block_dot(const __m256i* w, const int8_t* x) {
    using Weights = Q8Weights<Block>;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i total = _mm256_setzero_si256();
    for (int g = 0; g < 8; g += Weights::kSums) {
        __m256i sums = _mm256_maddubs_epi16(w[g], broadcast_group(x + 4 * g));
        for (int i = 1; i < Weights::kSums; ++i)
            sums = _mm256_add_epi16(
                sums, _mm256_maddubs_epi16(w[g + i], broadcast_group(x + 4 * (g + i))));
        total = _mm256_add_epi32(total, _mm256_madd_epi16(sums, ones));
    }
    return total;
}

// Q8_0 weights are signed: |w| * (x with w's sign).
template <>
struct Q8Weights<BlockQ8_0> {
    static constexpr int kSums = 1, kOffset = 0;
    static constexpr bool kMinimum = false;
    static void unpack(const BlockQ8_0* const* rows, int64_t b, __m256i* w) {
        gather32(rows, b, offsetof(BlockQ8_0, qs), w);
    }
};

template <>
inline __m256i block_dot<BlockQ8_0>(const __m256i* w, const int8_t* x) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i total = _mm256_setzero_si256();
    for (int g = 0; g < 8; ++g) {
        const __m256i signed_x = _mm256_sign_epi8(broadcast_group(x + 4 * g), w[g]);
        const __m256i sums = _mm256_maddubs_epi16(_mm256_abs_epi8(w[g]), signed_x);
        total = _mm256_add_epi32(total, _mm256_madd_epi16(sums, ones));
    }
    return total;
}

// Pointers to the eight rows of a group; rows past the end repeat the last one.
template <class Block>
inline void group_rows(const LinearArgs& a, int64_t r0, const Block** rows) {
    for (int64_t r = 0; r < kRowGroup; ++r) {
        const int64_t at = r0 + r < a.n_out ? r0 + r : a.n_out - 1;
        rows[r] = reinterpret_cast<const Block*>(a.weight + at * a.row_bytes);
    }
}

// Fetches block b's share of the next row group, which lies behind the present one in the file.
// Eight short streams are more than the hardware prefetcher follows.
template <class Block>
inline void prefetch_next_group(const LinearArgs& a, int64_t r0, int64_t b) {
    const uint8_t* next = a.weight + (r0 + kRowGroup) * a.row_bytes;
    const int64_t begin = b * kRowGroup * int64_t(sizeof(Block));
    for (int64_t i = begin; i < begin + kRowGroup * int64_t(sizeof(Block)); i += 64)
        _mm_prefetch(reinterpret_cast<const char*>(next + i), _MM_HINT_T0);
}

template <class Block>
inline void linear_q8(const LinearArgs& a, int64_t begin, int64_t end) {
    using Weights = Q8Weights<Block>;
    alignas(32) float acc[kRowTile * kRowGroup];
    const auto* sums = static_cast<const int32_t*>(a.activations.sum);
    for (int64_t r0 = begin; r0 < end; r0 += kRowGroup) {
        const Block* rows[kRowGroup];
        group_rows(a, r0, rows);
        for (int64_t t0 = 0; t0 < a.n_rows; t0 += kRowTile) {
            const int64_t n_rows = a.n_rows - t0 < kRowTile ? a.n_rows - t0 : kRowTile;
            std::memset(acc, 0, size_t(n_rows) * kRowGroup * sizeof(float));
            for (int64_t b = 0; b < a.n_cols / kBlock; ++b) {
                if (t0 == 0) prefetch_next_group<Block>(a, r0, b);
                __m256i w[8];
                Weights::unpack(rows, b, w);
                const __m256 d = gather_half(rows, b, offsetof(Block, d));
                __m256 m = _mm256_setzero_ps();
                if constexpr (Weights::kMinimum) m = gather_half(rows, b, offsetof(Block, m));
                for (int64_t t = 0; t < n_rows; ++t) {
                    const int64_t slot = b * a.n_rows + t0 + t;
                    __m256i isum = block_dot<Block>(w, a.activations.q + slot * kBlock);
                    if constexpr (Weights::kOffset != 0)
                        isum = _mm256_sub_epi32(isum,
                                                _mm256_set1_epi32(Weights::kOffset * sums[slot]));
                    const __m256 scale = _mm256_set1_ps(a.activations.scale[slot]);
                    __m256 y = _mm256_load_ps(acc + t * kRowGroup);
                    y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(d, scale), y);
                    if constexpr (Weights::kMinimum)
                        y = _mm256_fmadd_ps(_mm256_set1_ps(float(sums[slot])),
                                            _mm256_mul_ps(m, scale), y);
                    _mm256_store_ps(acc + t * kRowGroup, y);
                }
            }
            write_group(a, acc, t0, n_rows, r0, end - r0 < kRowGroup ? end - r0 : kRowGroup);
        }
    }
}

// ---- 256-element super-blocks ----

// Values in groups of four elements, scales as pairs of equal i16 per row, and minima as pairs of
// i16 that meet the activation sums of 16 elements each.
struct SuperBlock {
    __m256i w[64];
    __m256i scale[16];  // one per 16 elements
    __m256i minimum[8];
};

template <class Block>
struct Q8KWeights;

// Bytes (low, high) of every lane as the low bytes of its two 16-bit halves, or as the high ones.
inline __m256i spread_bytes(__m256i lanes, int low, int high, bool is_high_byte) {
    const int zero = 0x80;
    const int pattern = is_high_byte ? zero | low << 8 | zero << 16 | high << 24
                                     : low | zero << 8 | high << 16 | zero << 24;
    const int next = 0x04040404 & (is_high_byte ? int(0xff00ff00) : 0x00ff00ff);
    const __m256i pick =
        _mm256_setr_epi32(pattern, pattern + next, pattern + 2 * next, pattern + 3 * next, pattern,
                          pattern + next, pattern + 2 * next, pattern + 3 * next);
    return _mm256_shuffle_epi8(lanes, pick);
}

// The eight 6-bit scales and minima of eight rows; unpack_scale_min (quants.h) four at a time.
template <class Block>
inline void unpack_scales_min(const Block* const* rows, int64_t b, SuperBlock* out) {
    const auto field = [&](size_t i) {
        return gather_field<uint32_t>(rows, b, offsetof(Block, scales) + 4 * i);
    };
    const __m256i d0 = field(0), d1 = field(1), d2 = field(2);
    const __m256i low6 = _mm256_set1_epi8(0x3f), low4 = _mm256_set1_epi8(0x0f);
    const __m256i top2 = _mm256_set1_epi8(0x30);
    const auto top = [&](__m256i d) { return _mm256_and_si256(_mm256_srli_epi32(d, 2), top2); };
    const __m256i scale[2] = {_mm256_and_si256(d0, low6),
                              _mm256_or_si256(_mm256_and_si256(d2, low4), top(d0))};
    const __m256i minimum[2] = {
        _mm256_and_si256(d1, low6),
        _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(d2, 4), low4), top(d1))};
    for (int s = 0; s < 8; ++s) {
        out->scale[2 * s] = out->scale[2 * s + 1] = spread_bytes(scale[s / 4], s % 4, s % 4, false);
        out->minimum[s] = spread_bytes(minimum[s / 4], s % 4, s % 4, false);
    }
}

template <class Block>
inline void unpack_k_nibbles(const Block* const* rows, int64_t b, __m256i* w) {
    const __m256i low = _mm256_set1_epi8(15);
    for (int pair = 0; pair < 4; ++pair) {
        __m256i packed[8];
        gather32(rows, b, offsetof(Block, qs) + 32 * size_t(pair), packed);
        for (int g = 0; g < 8; ++g) {
            w[16 * pair + g] = _mm256_and_si256(packed[g], low);
            w[16 * pair + 8 + g] = _mm256_and_si256(_mm256_srli_epi16(packed[g], 4), low);
        }
    }
}

template <>
struct Q8KWeights<BlockQ4_K> {
    static constexpr int kSums = 8;
    static constexpr bool kMinimumIsOffset = false;
    static void unpack(const BlockQ4_K* const* rows, int64_t b, SuperBlock* out) {
        unpack_k_nibbles(rows, b, out->w);
        unpack_scales_min(rows, b, out);
    }
};

template <>
struct Q8KWeights<BlockQ5_K> {
    static constexpr int kSums = 4;
    static constexpr bool kMinimumIsOffset = false;
    static void unpack(const BlockQ5_K* const* rows, int64_t b, SuperBlock* out) {
        unpack_k_nibbles(rows, b, out->w);
        unpack_scales_min(rows, b, out);
        __m256i high[8];
        gather32(rows, b, offsetof(BlockQ5_K, qh), high);
        const __m256i bit0 = _mm256_set1_epi8(1);
        for (int s = 0; s < 8; ++s)
            for (int g = 0; g < 8; ++g) {
                const __m256i bit = _mm256_and_si256(_mm256_srli_epi16(high[g], s), bit0);
                out->w[8 * s + g] = _mm256_or_si256(out->w[8 * s + g], _mm256_slli_epi16(bit, 4));
            }
    }
};

template <>
struct Q8KWeights<BlockQ6_K> {
    static constexpr int kSums = 2;
    static constexpr bool kMinimumIsOffset = true;
    static void unpack(const BlockQ6_K* const* rows, int64_t b, SuperBlock* out) {
        const __m256i low = _mm256_set1_epi8(15), two = _mm256_set1_epi8(3);
        for (int half = 0; half < 2; ++half) {
            __m256i ql[16], qh[8];
            gather32(rows, b, offsetof(BlockQ6_K, ql) + 64 * size_t(half), ql);
            gather32(rows, b, offsetof(BlockQ6_K, ql) + 64 * size_t(half) + 32, ql + 8);
            gather32(rows, b, offsetof(BlockQ6_K, qh) + 32 * size_t(half), qh);
            for (int quarter = 0; quarter < 4; ++quarter)
                for (int g = 0; g < 8; ++g) {
                    const __m256i packed = ql[8 * (quarter % 2) + g];
                    const __m256i nibble =
                        _mm256_and_si256(quarter < 2 ? packed : _mm256_srli_epi16(packed, 4), low);
                    const __m256i high =
                        _mm256_and_si256(_mm256_srli_epi16(qh[g], 2 * quarter), two);
                    out->w[32 * half + 8 * quarter + g] =
                        _mm256_or_si256(nibble, _mm256_slli_epi16(high, 4));
                }
        }
        __m256i scales[4];  // four signed scales per row each
        gather16(rows, b, offsetof(BlockQ6_K, scales), scales);
        for (int s = 0; s < 16; ++s)
            out->scale[s] = _mm256_srai_epi16(spread_bytes(scales[s / 4], s % 4, s % 4, true), 8);
        // In the high byte a scale counts 256-fold; the offset of the values is 32.
        for (int s = 0; s < 8; ++s)
            out->minimum[s] = _mm256_srai_epi16(
                spread_bytes(scales[s / 2], 2 * (s % 2), 2 * (s % 2) + 1, true), 3);
    }
};

// Sum over a super-block of scale * w * x, one lane per row.
template <int kSums>
inline __m256i super_dot(const SuperBlock& block, const int8_t* x) {
    __m256i total = _mm256_setzero_si256();
    for (int g = 0; g < 64; g += kSums) {
        __m256i sums = _mm256_maddubs_epi16(block.w[g], broadcast_group(x + 4 * g));
        for (int i = 1; i < kSums; ++i)
            sums = _mm256_add_epi16(
                sums, _mm256_maddubs_epi16(block.w[g + i], broadcast_group(x + 4 * (g + i))));
        total = _mm256_add_epi32(total, _mm256_madd_epi16(sums, block.scale[g / 4]));
    }
    return total;
}

inline __m256i minimum_dot(const SuperBlock& block, const int16_t* sums) {
    __m256i total = _mm256_setzero_si256();
    for (int s = 0; s < 8; ++s)
        total = _mm256_add_epi32(
            total, _mm256_madd_epi16(block.minimum[s], broadcast_group(sums + 2 * s)));
    return total;
}

template <class Block>
inline void linear_q8k(const LinearArgs& a, int64_t begin, int64_t end) {
    using Weights = Q8KWeights<Block>;
    alignas(32) float acc[kRowTile * kRowGroup];
    const auto* sums = static_cast<const int16_t*>(a.activations.sum);
    SuperBlock block;
    for (int64_t r0 = begin; r0 < end; r0 += kRowGroup) {
        const Block* rows[kRowGroup];
        group_rows(a, r0, rows);
        for (int64_t t0 = 0; t0 < a.n_rows; t0 += kRowTile) {
            const int64_t n_rows = a.n_rows - t0 < kRowTile ? a.n_rows - t0 : kRowTile;
            std::memset(acc, 0, size_t(n_rows) * kRowGroup * sizeof(float));
            for (int64_t b = 0; b < a.n_cols / kSuperBlock; ++b) {
                if (t0 == 0) prefetch_next_group<Block>(a, r0, b);
                Weights::unpack(rows, b, &block);
                const __m256 d = gather_half(rows, b, offsetof(Block, d));
                __m256 dmin = _mm256_setzero_ps();
                if constexpr (!Weights::kMinimumIsOffset)
                    dmin = gather_half(rows, b, offsetof(Block, dmin));
                for (int64_t t = 0; t < n_rows; ++t) {
                    const int64_t slot = b * a.n_rows + t0 + t;
                    __m256i isum =
                        super_dot<Weights::kSums>(block, a.activations.q + slot * kSuperBlock);
                    const __m256i msum = minimum_dot(block, sums + slot * 16);
                    if constexpr (Weights::kMinimumIsOffset) isum = _mm256_sub_epi32(isum, msum);
                    const __m256 scale = _mm256_set1_ps(a.activations.scale[slot]);
                    __m256 y = _mm256_load_ps(acc + t * kRowGroup);
                    y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(d, scale), y);
                    if constexpr (!Weights::kMinimumIsOffset)
                        y = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(msum), _mm256_mul_ps(dmin, scale),
                                             y);
                    _mm256_store_ps(acc + t * kRowGroup, y);
                }
            }
            write_group(a, acc, t0, n_rows, r0, end - r0 < kRowGroup ? end - r0 : kRowGroup);
        }
    }
}

}  // namespace native::cpu::KERNEL_ISA
