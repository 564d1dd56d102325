// Ops that work on rows of activations alone, one block of threads per row and 256 columns.
#pragma once

#include "quants.h"
#include "step.h"

constexpr int kRowThreads = 256;

struct RowShared {
    float of_warp[kRowThreads / kWarp];
};

struct EmbedArgs {
    const Step* step;
    const uint8* quants;
    const uint32* scales;
    float* out;
    int format, n_cols;
};

KERNEL(embed, kRowThreads, EmbedArgs) {
    begin_after_others();
    const Step& s = *a.step;
    const int col = block_x() * kRowThreads + thread_index(), row = block_y();
    if (row >= s.n_rows || col >= a.n_cols) return;
    const int token = s.tokens[row];
    if (a.format == kFloat) {
        a.out[int64(row) * a.n_cols + col] =
            reinterpret_cast<const float*>(a.quants)[int64(token) * a.n_cols + col];
        return;
    }
    const int64 block = int64(token / kTileRows) * (a.n_cols / kBlock) + col / kBlock;
    a.out[int64(row) * a.n_cols + col] =
        weight_value(a.format, a.quants + block * block_bytes_of(a.format),
                     a.scales + block * kTileRows, token % kTileRows, col % kBlock);
}

// The sum over a block's threads, the same for all.
DEV float block_sum(RowShared& shared, float v) {
    float (&of_warp)[kRowThreads / kWarp] = shared.of_warp;
    v = warp_sum(v);
    block_sync();
    if (lane_index() == 0) of_warp[warp_index()] = v;
    block_sync();
    float sum = of_warp[0];
    for (int w = 1; w < kRowThreads / kWarp; ++w) sum += of_warp[w];
    return sum;
}

struct NormArgs {
    const Step* step;
    const float* x;
    const float* weight;
    float* out;
    int width, group, is_selected;  // `group` numbers are normalized together: a row, or a head
    float eps;
};

DEV float inverse_rms(RowShared& shared, const float* x, int n, float eps) {
    constexpr int kAtOnce = 4;  // loads under way; zeros add nothing
    float sum = 0;
#pragma unroll 1
    for (int first = thread_index(); first < n; first += kAtOnce * kRowThreads) {
        float values[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
            values[i] = first + i * kRowThreads < n ? x[first + i * kRowThreads] : 0.0f;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) sum = multiply_add(values[i], values[i], sum);
    }
    return 1.0f / square_root(block_sum(shared, sum) / float(n) + eps);
}

KERNEL(rms_norm, kRowThreads, NormArgs) {
    SHARED RowShared shared;
    begin_after_others();
    const Step& s = *a.step;
    const int64 row = block_y();
    if (row >= rows_of(s, a.is_selected)) return;
    const int64 first = row * a.width + block_x() * a.group;
    const float inverse = inverse_rms(shared, a.x + first, a.group, a.eps);
    for (int i = thread_index(); i < a.group; i += kRowThreads)
        a.out[first + i] = a.x[first + i] * inverse * a.weight[i];
}

enum Source { kPlain = 0, kNormed = 1, kSiluMul = 2 };

// x rounded to int8 by blocks of 32, or of 256 where `is_super`, as quants.h says: x itself, its
// rms_norm, or silu(x) * up.
struct QuantizeArgs {
    const Step* step;
    const float* x;
    const float* other;  // the norm's weight, or up
    int8* out;
    float* scales;
    int width, source, is_super, is_selected;
    float eps;
};

DEV float silu(float x) {
    return x / (1.0f + exp_of(-x));
}

DEV float block_max(RowShared& shared, float v) {
    float (&of_warp)[kRowThreads / kWarp] = shared.of_warp;
    v = warp_max(v);
    block_sync();
    if (lane_index() == 0) of_warp[warp_index()] = v;
    block_sync();
    float best = of_warp[0];
    for (int w = 1; w < kRowThreads / kWarp; ++w) best = larger(best, of_warp[w]);
    return best;
}

// What a number's magnitude counts as: a comparison with NaN is false, it must stay visible.
DEV float sized(float value) {
    const float size = magnitude(value);
    return size < 3.0e38f ? size : 3.4e38f;
}

// One number of a block of 32 that a warp holds, a lane each; `most` is the largest magnitude of
// what shares a scale.
DEV void write_rounded(int8* out, float* scales, int64 row, int col, int width, float value,
                       float most) {
    const bool is_broken = !(most < 3.0e38f);
    const float scale = is_broken ? bits_to_float(0x7fc00000u) : most / 127.0f;
    const float factor = !is_broken && most >= 0x1p-120f ? 127.0f / most : 0.0f;
    const int q = is_broken ? 0 : int(nearest(value * factor));
    int sum = q;
    for (int mask = 16; mask; mask >>= 1) sum += shuffle_xor(sum, mask);
    if (col >= width) return;
    const int64 block = row / kTileRows * (width / kBlock) + col / kBlock;
    const int in_tile = int(row % kTileRows), in_block = col % kBlock;
    out[((block * 2 + in_block / 16) * kTileRows + in_tile) * 16 + in_block % 16] = int8(q);
    if (in_block == 0) {
        scales[(block * kTileRows + in_tile) * 2] = scale;
        scales[(block * kTileRows + in_tile) * 2 + 1] = scale * float(sum);
    }
}

KERNEL(quantize, kRowThreads, QuantizeArgs) {
    SHARED RowShared shared;
    begin_after_others();
    const Step& s = *a.step;
    const int col = block_x() * kRowThreads + thread_index();
    const int64 row = block_y();
    if (row >= rows_of(s, a.is_selected)) return;
    const float* x = a.x + row * a.width;
    const float* other = a.source == kSiluMul ? a.other + row * a.width : a.other;
    float value = 0, with = 1;
    if (col < a.width) {
        value = x[col];
        if (a.source != kPlain) with = other[col];
    }
    if (a.source == kNormed) value = value * inverse_rms(shared, x, a.width, a.eps) * with;
    if (a.source == kSiluMul) value = silu(value) * with;
    const float most = a.is_super ? block_max(shared, sized(value)) : warp_max(sized(value));
    write_rounded(a.out, a.scales, row, col, a.width, value, most);
}

struct SiluMulArgs {
    const Step* step;
    const float* gate;
    const float* up;
    float* out;
    int width, is_selected;
};

KERNEL(silu_mul, kRowThreads, SiluMulArgs) {
    begin_after_others();
    const Step& s = *a.step;
    const int col = block_x() * kRowThreads + thread_index();
    const int64 row = block_y(), i = row * a.width + col;
    if (row >= rows_of(s, a.is_selected) || col >= a.width) return;
    a.out[i] = silu(a.gate[i]) * a.up[i];
}

// out[row, first + i] = x[row, i]; or the selected rows of x, where `takes_selected`.
struct CopyArgs {
    const Step* step;
    const float* x;
    float* out;
    int width, out_width, first, is_selected, takes_selected;
};

KERNEL(copy_rows, kRowThreads, CopyArgs) {
    begin_after_others();
    const Step& s = *a.step;
    const int col = block_x() * kRowThreads + thread_index();
    const int64 row = block_y();
    if (row >= rows_of(s, a.is_selected) || col >= a.width) return;
    const int64 from = a.takes_selected ? s.out_rows[row] : row;
    a.out[row * a.out_width + a.first + col] = a.x[from * a.width + col];
}
