// Activations rounded to int8 by blocks of 32 columns, or of 256 where `is_super`, or to halves, as
// quants.h says: x itself, its rms_norm, or silu(x) * up. Either by a kernel of its own, or, of a
// single row of int8, by the blocks of a linear op, each for itself: that is less than a launch.
#pragma once

#include "rows.h"

enum Source { kPlain = 0, kNormed = 1, kSiluMul = 2 };

struct Rounding {
    const float* x;
    const float* other;  // the norm's weight, or up
    int width, source, is_super;
    float eps;
};

// Where rounded rows lie, kRows of them in a tile; and a row's scales, beside their sums.
template <int kRows>
struct RoundedRows {
    int8* numbers;
    float* scales;
    int n_blocks;

    DEV_MEMBER int64 block_at(int row, int col) const {
        return int64(row / kRows) * n_blocks + col / kBlock;
    }
    DEV_MEMBER int8* number(int row, int col) const {
        const int64 half = block_at(row, col) * 2 + (col >> 4 & 1);
        return numbers + (half * kRows + row % kRows) * 16 + (col & 15);
    }
    DEV_MEMBER float* scale(int row, int col) const {
        return scales + (block_at(row, col) * kRows + row % kRows) * 2;
    }
};

// The same of rows of halves; of a scale's two floats the second is nothing.
struct HalfRows {
    uint16* numbers;
    float* scales;
    int n_blocks;

    DEV_MEMBER int64 place(int row, int col) const {
        return (int64(row / kTileRows) * n_blocks + col / kBlock) * kTileRows + row % kTileRows;
    }
    DEV_MEMBER uint16* number(int row, int col) const {
        return numbers + place(row, col) * kBlock + col % kBlock;
    }
    DEV_MEMBER float* scale(int row, int col) const { return scales + place(row, col) * 2; }
};

// The largest magnitude of the numbers of a lane and of those that share a scale with it: of a
// block of 32 or, where `is_super`, of all the warp's. Magnitudes are in the order of their bits,
// and what is no number comes after all: it must stay visible.
template <int kPer>
DEV float most_of(const float (&values)[kPer], int is_super) {
    uint32 sizes[kPer];
#pragma unroll
    for (int i = 0; i < kPer; ++i) sizes[i] = float_to_bits(values[i]) & 0x7fffffffu;
#pragma unroll
    for (int n = 1; n < kPer; n *= 2)
#pragma unroll
        for (int i = 0; i < kPer; i += 2 * n) sizes[i] = larger(sizes[i], sizes[i + n]);
    const auto look_at = [&](int mask) {
        sizes[0] = larger(sizes[0], uint32(shuffle_xor(int(sizes[0]), mask)));
    };
#pragma unroll
    for (int mask = 1; mask < kBlock / kPer; mask *= 2) look_at(mask);
    if (is_super) {
#pragma unroll
        for (int mask = kBlock / kPer; mask < kWarp; mask *= 2) look_at(mask);
    }
    const float most = bits_to_float(sizes[0]);
    return most < 3.0e38f ? most : 3.4e38f;
}

// To which numbers below 2^22 are added so that the last bits of the sum are the nearest whole
// ones.
constexpr float kWhole = 0x1.8p23f;
constexpr uint32 kWholeBits = 0x4b400000u;

// A lane's kPer columns of a row, from `col` on; `most` is the largest magnitude of what shares a
// scale. All lanes of a warp come along, also those without columns.
template <int kRows, int kPer>
DEV void write_rounded(const RoundedRows<kRows>& to, int row, int col, int width,
                       const float (&values)[kPer], float most) {
    const bool is_broken = !(most < 3.0e38f);
    const float scale = is_broken ? bits_to_float(0x7fc00000u) : most * (1.0f / 127.0f);
    const float factor = !is_broken && most >= 0x1p-118f ? inverse(scale) : 0.0f;
    struct alignas(kPer) Numbers {
        int8 at[kPer];
    } numbers;
    uint32 bits = 0;
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
        const uint32 whole = float_to_bits(values[i] * factor + kWhole);
        numbers.at[i] = int8(whole);  // of which the rest has nothing
        bits += whole;
    }
    int sum = int(bits - kPer * kWholeBits);
    if (is_broken) numbers = {}, sum = 0;
#pragma unroll
    for (int mask = 1; mask < kBlock / kPer; mask *= 2) sum += shuffle_xor(sum, mask);
    if (col >= width) return;
    *reinterpret_cast<Numbers*>(to.number(row, col)) = numbers;
    if (col % kBlock == 0) {
        float* scales = to.scale(row, col);
        scales[0] = scale;
        scales[1] = scale * float(sum);
    }
}

// As halves of a block of 32 of which `most` is the largest, times a power of two that brings it
// below 2^8.
template <int kPer>
DEV void write_rounded(const HalfRows& to, int row, int col, int width, const float (&values)[kPer],
                       float most) {
    const bool is_broken = !(most < 3.0e38f);
    const uint32 exponent = float_to_bits(most) >> 23, power = exponent < 8 ? 8 : exponent;
    const float scale = bits_to_float(is_broken ? 0x7fc00000u : (power - 7) << 23);
    const float factor = is_broken ? 0.0f : bits_to_float((254 + 7 - power) << 23);
    struct alignas(2 * kPer) Numbers {
        uint16 at[kPer];
    } numbers;
#pragma unroll
    for (int i = 0; i < kPer; ++i)
        numbers.at[i] = is_broken ? uint16(0) : float_to_half(values[i] * factor);
    if (col >= width) return;
    *reinterpret_cast<Numbers*>(to.number(row, col)) = numbers;
    if (col % kBlock == 0) to.scale(row, col)[0] = scale;
}

// ---- stretches ----

DEV void load_run(const float* from, float (&to)[kRun]) {
#pragma unroll
    for (int i = 0; i < kRun; i += 4) {
        const Floats<4> four = *reinterpret_cast<const Floats<4>*>(from + i);
#pragma unroll
        for (int j = 0; j < 4; ++j) to[i + j] = four.at[j];
    }
}

DEV void load_plain(const Rounding& r, int64 row, int stretch, Stretch& to) {
    const int col = stretch * kStretch + kRun * lane_index();
#pragma unroll
    for (int i = 0; i < kRun; ++i) to.at[i] = 0;
    if (col < r.width) load_run(r.x + row * r.width + col, to.at);
}

DEV void load_stretch(const Rounding& r, int64 row, int stretch, Stretch& to) {
    const int col = stretch * kStretch + kRun * lane_index();
    load_plain(r, row, stretch, to);
    if (r.source != kSiluMul || col >= r.width) return;
    float up[kRun];
    load_run(r.other + row * r.width + col, up);
#pragma unroll
    for (int i = 0; i < kRun; ++i) to.at[i] = silu(to.at[i]) * up[i];
}

// What a stretch is multiplied by beside its root: the norm's weight, which no kernel computes.
DEV Stretch weight_of(const Rounding& r, int stretch) {
    const int col = stretch * kStretch + kRun * lane_index();
    Stretch weight = {};
    if (r.source == kNormed && col < r.width) load_run(r.other + col, weight.at);
    return weight;
}

template <class To>
DEV void round_stretch(const Rounding& r, Stretch& x, const Stretch& weight, float inverse,
                       const To& to, int row, int stretch) {
    const int col = stretch * kStretch + kRun * lane_index();
    if (r.source == kNormed) {
#pragma unroll
        for (int i = 0; i < kRun; ++i) x.at[i] = x.at[i] * inverse * weight.at[i];
    }
    const float most = most_of(x.at, r.is_super);
    write_rounded(to, row, col, r.width, x.at, most);
}

struct QuantizeArgs {
    const Step* step;
    Rounding rounding;
    void* out;
    float* scales;
    int is_selected, pad;
};

// A block for each row and eight stretches of it.
template <class Number, class To>
DEV void quantize(const QuantizeArgs& a) {
    constexpr int kWarps = kRowThreads / kWarp;
    SHARED float squares[kMostStretches];
    const Rounding& r = a.rounding;
    const int row = block_y(), n = n_stretches_of(r.width);
    const int mine = block_x() * kWarps + warp_index();
    const Stretch weight = weight_of(r, mine);
    begin_after_others();
    if (row >= rows_of(*a.step, a.is_selected)) return;
    Stretch held;
    if (r.source == kNormed) {
        for (int i = warp_index(); i < n; i += kWarps) {
            load_stretch(r, row, i, held);
            const float sum = squares_of(held);
            if (lane_index() == 0) squares[i] = sum;
        }
        block_sync();
    }
    if (mine >= n) return;
    if (r.source != kNormed || n > kWarps) load_stretch(r, row, mine, held);
    const float inverse = r.source == kNormed ? inverse_of(squares, r.width, r.eps) : 1.0f;
    const To to{static_cast<Number*>(a.out), a.scales, r.width / kBlock};
    round_stretch(r, held, weight, inverse, to, row, mine);
}

KERNEL(quantize, kRowThreads, QuantizeArgs) {
    quantize<int8, RoundedRows<kTileRows>>(a);
}
KERNEL(quantize_half, kRowThreads, QuantizeArgs) {
    quantize<uint16, HalfRows>(a);
}

// After the kernels before this one, one row by all warps of a block, to where only it reads it: x
// itself or its norm. `squares` has room for a number of each stretch. A warp asks for kHeld
// stretches at once, and then does `meanwhile`.
template <int kWarps, int kHeld, class Meanwhile>
DEV void round_one(const Rounding& r, const RoundedRows<1>& to, float* squares,
                   const Meanwhile& meanwhile) {
    const int n = n_stretches_of(r.width);
    const bool is_normed = r.source == kNormed;
    Stretch held[kHeld], weight = weight_of(r, warp_index());
    const auto load = [&](int first) {
#pragma unroll
        for (int i = 0; i < kHeld; ++i)
            if (first + i * kWarps < n) load_plain(r, 0, first + i * kWarps, held[i]);
    };
    begin_after_others();
    load(warp_index());
    meanwhile();
    if (is_normed) {
#pragma unroll 1
        for (int first = warp_index(); first < n; first += kHeld * kWarps) {
            if (first >= kHeld * kWarps) load(first);
#pragma unroll
            for (int i = 0; i < kHeld; ++i) {
                if (first + i * kWarps >= n) break;
                const float sum = squares_of(held[i]);
                if (lane_index() == 0) squares[first + i * kWarps] = sum;
            }
        }
        block_sync();
    }
    const float inverse = is_normed ? inverse_of(squares, r.width, r.eps) : 1.0f;
#pragma unroll 1
    for (int first = warp_index(); first < n; first += kHeld * kWarps) {
        if (n > kHeld * kWarps && (is_normed || first >= kHeld * kWarps)) load(first);
#pragma unroll 1
        for (int i = 0; i < kHeld && first + i * kWarps < n; ++i) {
            const int stretch = first + i * kWarps;
            if (i > 0) held[0] = held[kHeld - 1];
            if (stretch >= kWarps) weight = weight_of(r, stretch);
            round_stretch(r, held[0], weight, inverse, to, 0, stretch);
        }
    }
}
