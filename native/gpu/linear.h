// out (T, n_out) = x (T, K) weight^T + bias + residual.
//
// One rule for every number of rows, so that a row's result never depends on what was computed with
// it: the products of a block of 32 columns are summed exactly; block b belongs to slice b mod 8,
// or mod 16 of tall matrices; within a slice blocks are added in order by acc = fma(sum, d * scale,
// acc), then for minima acc = fma(m, scale * sum of x, acc); slices are added in order, then bias,
// then residual.
#pragma once

#include "quants.h"
#include "step.h"

constexpr int kFewSlices = 8, kManySlices = 16, kMostParts = 4;

// One weight matrix; several that read the same x share a launch.
struct LinearPart {
    const uint8* quants;
    const uint32* scales;   // (tiles, blocks, 16)
    const float* bias;      // (n_out), or null
    const float* residual;  // (T, n_out), or null
    float* out;
    int format, n_out, first_tile, pad;
};

struct LinearArgs {
    const Step* step;
    const int8* x;          // as quants.h says
    const float* x_scales;  // (tiles of rows, blocks, 16, 2)
    int n_parts, n_blocks, is_selected, pad;
    LinearPart parts[kMostParts];  // by first_tile
};

// What one warp adds up of a slice: the elements of kCols tiles.
template <int kCols>
struct Slice {
    float acc[kCols][8];
};

template <int kSlices>
struct LinearShared {
    float shown[kSlices][kTileRows][kTileRows + 1];  // (slice, row of x, row of weight)
};

DEV void load_activation(LaneWords (&x)[2], const int8* block) {
    const auto* words = reinterpret_cast<const uint32*>(block);
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
            for (int j = 0; j < kLaneWords; ++j)
                x[h][i][j] = words[(h * kTileRows + lane_row(i)) * 4 + lane_word(j)];
}

template <int kFormat, int kCols>
DEV void add_block(Slice<kCols>& slice, const uint8* quants, const uint32* scales, const int8* x,
                   const float* x_scales, int64 x_stride, int64 scale_stride) {
    LaneWords w[2];
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
            for (int j = 0; j < kLaneWords; ++j)
                w[h][i][j] = weight_word(kFormat, quants, lane_row(i), h, lane_word(j));
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        LaneWords activation[2];
        load_activation(activation, x + col * x_stride);
        const float* row_scales = x_scales + col * scale_stride;
        int sums[2][8] = {};
        if (kFormat == kInt6) {
            tile_add(sums[0], w[0], activation[0]);
            tile_add(sums[1], w[1], activation[1]);
        } else {
            tile_add(sums[0], w, activation);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const uint32 pair = scales[tile_row(i)];
            const float scale = row_scales[2 * tile_col(i)];
            float acc = slice.acc[col][i];
            acc = multiply_add(float(sums[0][i]), low_half(pair) * scale, acc);
            if (kFormat == kInt6)
                acc = multiply_add(float(sums[1][i]), high_half(pair) * scale, acc);
            else if (kFormat != kInt8)
                acc = multiply_add(high_half(pair), row_scales[2 * tile_col(i) + 1], acc);
            slice.acc[col][i] = acc;
        }
    }
}

// This warp's slices, those kWarps apart, for one tile of weights and kCols tiles of rows.
template <int kFormat, int kCols, int kSlices, int kWarps>
DEV void add_slices(Slice<kCols> (&slices)[kSlices / kWarps], const LinearArgs& a,
                    const LinearPart& part, int tile, int first_col) {
    const int64 n_blocks = a.n_blocks;
    const int64 x_block = kTileRows * kBlock, bytes = block_bytes_of(kFormat);
    const uint8* quants = part.quants + tile * n_blocks * bytes;
    const uint32* scales = part.scales + tile * n_blocks * kTileRows;
    const int8* x = a.x + first_col * n_blocks * x_block;
    const float* x_scales = a.x_scales + first_col * n_blocks * kTileRows * 2;
    const auto add = [&](int turn, int64 b) {
        add_block<kFormat, kCols>(slices[turn], quants + b * bytes, scales + b * kTileRows,
                                  x + b * x_block, x_scales + b * kTileRows * 2, n_blocks * x_block,
                                  n_blocks * kTileRows * 2);
    };
    // Several blocks' loads are under way at once where the registers have room for them.
    constexpr int kTurns = kSlices / kWarps, kRoom = kCols == 1 ? 4 : kCols == 2 ? 2 : 1;
    constexpr int kUnroll = kRoom > kTurns ? kRoom / kTurns : 1;
    int64 b = warp_index();
#pragma unroll kUnroll
    for (; b + (kTurns - 1) * kWarps < n_blocks; b += kSlices) {
#pragma unroll
        for (int turn = 0; turn < kTurns; ++turn) add(turn, b + turn * kWarps);
    }
#pragma unroll
    for (int turn = 0; turn < kTurns - 1; ++turn)
        if (b + turn * kWarps < n_blocks) add(turn, b + turn * kWarps);
}

// Which part a tile is of.
DEV const LinearPart& part_of(const LinearArgs& a, int tile) {
    int p = 0;
    while (p + 1 < a.n_parts && tile >= a.parts[p + 1].first_tile) ++p;
    return a.parts[p];
}

// A block of kWarps warps has a tile of weights, and kCols tiles of rows.
template <int kCols, int kSlices, int kWarps>
DEV void linear_at(const LinearArgs& a, const Step& s, Place at, LinearShared<kSlices>& shared) {
    const int n_rows = rows_of(s, a.is_selected);
    const int first_col = at.y * kCols;
    if (first_col * kTileRows >= n_rows) return;
    const LinearPart& part = part_of(a, at.x);
    const int tile = at.x - part.first_tile;
    const int mine_row = thread_index() >> 4, mine = thread_index() & 15;
    const int n = tile * kTileRows + mine;
    float bias = 0, residual[kCols] = {};  // on their way while the products are added up
    const bool has_bias = part.bias, has_residual = part.residual;
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        const int64 row = (first_col + col) * kTileRows + mine_row;
        if (mine_row >= kTileRows || row >= n_rows || n >= part.n_out) continue;
        if (has_bias) bias = part.bias[n];
        if (has_residual) residual[col] = part.residual[row * part.n_out + n];
    }
    Slice<kCols> slices[kSlices / kWarps] = {};
    switch (part.format) {
        case kInt4:
            add_slices<kInt4, kCols, kSlices, kWarps>(slices, a, part, tile, first_col);
            break;
        case kInt5:
            add_slices<kInt5, kCols, kSlices, kWarps>(slices, a, part, tile, first_col);
            break;
        case kInt6:
            add_slices<kInt6, kCols, kSlices, kWarps>(slices, a, part, tile, first_col);
            break;
        default: add_slices<kInt8, kCols, kSlices, kWarps>(slices, a, part, tile, first_col);
    }
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        if (col > 0) block_sync();
#pragma unroll
        for (int turn = 0; turn < kSlices / kWarps; ++turn) {
            auto& shown = shared.shown[warp_index() + turn * kWarps];
#pragma unroll
            for (int i = 0; i < 8; ++i) shown[tile_col(i)][tile_row(i)] = slices[turn].acc[col][i];
        }
        block_sync();
        const int64 row = (first_col + col) * kTileRows + mine_row;
        if (mine_row >= kTileRows || row >= n_rows || n >= part.n_out) continue;
        float sum = shared.shown[0][mine_row][mine];
        for (int slice = 1; slice < kSlices; ++slice) sum += shared.shown[slice][mine_row][mine];
        if (has_bias) sum += bias;
        if (has_residual) sum += residual[col];
        part.out[row * part.n_out + n] = sum;
    }
}

// Has the first weights of this warp's slice on their way while other kernels still run.
template <int kSlices>
DEV void prefetch_slice(const LinearArgs& a, int tile) {
    constexpr int kLine = 128;
    const LinearPart& part = part_of(a, tile);
    const int64 bytes = block_bytes_of(part.format), lines = (bytes + kLine - 1) / kLine;
    const int64 b = warp_index() + lane_index() / lines * kSlices;
    if (b < a.n_blocks)
        prefetch(part.quants + ((tile - part.first_tile) * int64(a.n_blocks) + b) * bytes +
                 lane_index() % lines * kLine);
}

template <int kCols, int kSlices>
DEV void linear(const LinearArgs& a) {
    SHARED LinearShared<kSlices> shared;
    if (block_y() == 0) prefetch_slice<kSlices>(a, block_x());
    begin_after_others();
    linear_at<kCols, kSlices, kSlices>(a, *a.step, block_place(), shared);
}

KERNEL(linear_16, kFewSlices* kWarp, LinearArgs) {
    linear<1, kFewSlices>(a);
}
KERNEL(linear_32, kFewSlices* kWarp, LinearArgs) {
    linear<2, kFewSlices>(a);
}
KERNEL(linear_64, kFewSlices* kWarp, LinearArgs) {
    linear<4, kFewSlices>(a);
}
KERNEL(linear_tall_16, kManySlices* kWarp, LinearArgs) {
    linear<1, kManySlices>(a);
}
KERNEL(linear_tall_32, kManySlices* kWarp, LinearArgs) {
    linear<2, kManySlices>(a);
}
