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

// Bytes that a later linear op will read.
struct Ahead {
    const uint8* from;
    int64 bytes;
};

struct LinearArgs {
    const Step* step;
    const int8* x;          // as quants.h says
    const float* x_scales;  // (tiles of rows, blocks, 16, 2)
    int n_parts, n_blocks, is_selected, n_ahead;
    LinearPart parts[kMostParts];  // by first_tile
    Ahead ahead[2 * kMostParts];   // what to ask for meanwhile
};

// What one warp adds up of a slice: kHalves halves of the elements of kCols tiles.
template <int kCols, int kHalves>
struct Slice {
    float acc[kCols][4 * kHalves];
};

// A row's scale of a block, and the scale times the sum of its numbers.
struct alignas(8) RowScale {
    float scale, sum;
};

// Where a lane reads its words of a block; the next tile of rows is so much farther on.
struct LanePlace {
    const uint8* quants;
    const uint32* scales;
    const uint32* x;
    const RowScale* x_scales;
    int64 x_stride, scale_stride;

    DEV_MEMBER void advance(int n_blocks, int block_bytes) {
        quants += n_blocks * block_bytes;
        scales += n_blocks * kTileRows;
        x += n_blocks * (kTileRows * kBlock / 4);
        x_scales += n_blocks * kTileRows;
    }
};

// One block of the weights and of kCols tiles of rows, as a lane loads it.
template <int kFormat, int kCols, int kHalves>
struct BlockWords {
    static constexpr int kRows = kHalves == 2 ? kLaneRows : 1;
    uint32 low[kFormat == kInt8 ? 2 : 1][kLaneRows][kLaneWords];
    uint32 more[kFormat == kInt6 ? 2 : 1][kLaneRows];  // of kInt5 and kInt6
    uint32 scales[4 * kHalves];
    uint32 x[kCols][2][kRows][kLaneWords];
    RowScale x_scales[kCols][4 * kHalves];
};

template <int kFormat, int kCols, int kHalves>
DEV void load_block(BlockWords<kFormat, kCols, kHalves>& to, const LanePlace& at) {
    const auto* words = reinterpret_cast<const uint32*>(at.quants);
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
        const int row = lane_row(i);
#pragma unroll
        for (int h = 0; h < (kFormat == kInt8 ? 2 : 1); ++h)
#pragma unroll
            for (int j = 0; j < kLaneWords; ++j)
                to.low[h][i][j] = words[low_word(kFormat, row, h, lane_word(j))];
        if (kFormat == kInt5 || kFormat == kInt6) {
#pragma unroll
            for (int h = 0; h < (kFormat == kInt6 ? 2 : 1); ++h)
                to.more[h][i] = words[more_word(kFormat, row, h)];
        }
    }
#pragma unroll
    for (int i = 0; i < 4 * kHalves; ++i) to.scales[i] = at.scales[tile_row(i)];
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        const uint32* x = at.x + col * at.x_stride;
        const RowScale* scales = at.x_scales + col * at.scale_stride;
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int i = 0; i < BlockWords<kFormat, kCols, kHalves>::kRows; ++i)
#pragma unroll
                for (int j = 0; j < kLaneWords; ++j)
                    to.x[col][h][i][j] = x[(h * kTileRows + lane_row(i)) * 4 + lane_word(j)];
#pragma unroll
        for (int i = 0; i < 4 * kHalves; ++i) to.x_scales[col][i] = scales[tile_col(i)];
    }
}

template <int kFormat, int kCols, int kHalves>
DEV void add_block(Slice<kCols, kHalves>& slice, const BlockWords<kFormat, kCols, kHalves>& block) {
    LaneWords w[2];
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
            for (int j = 0; j < kLaneWords; ++j)
                w[h][i][j] = weight_word(kFormat, block.low[kFormat == kInt8 ? h : 0][i][j],
                                         block.more[kFormat == kInt6 ? h : 0][i], h, lane_word(j));
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        int sums[2][4 * kHalves] = {};
        if (kFormat == kInt6) {
            tile_add(sums[0], w[0], block.x[col][0]);
            tile_add(sums[1], w[1], block.x[col][1]);
        } else {
            tile_add(sums[0], w, block.x[col]);
        }
#pragma unroll
        for (int i = 0; i < 4 * kHalves; ++i) {
            const uint32 pair = block.scales[i];
            const RowScale x = block.x_scales[col][i];
            float acc = slice.acc[col][i];
            acc = multiply_add(float(sums[0][i]), low_half(pair) * x.scale, acc);
            if (kFormat == kInt6)
                acc = multiply_add(float(sums[1][i]), high_half(pair) * x.scale, acc);
            else if (kFormat != kInt8)
                acc = multiply_add(high_half(pair), x.sum, acc);
            slice.acc[col][i] = acc;
        }
    }
}

// This warp's slice, for one tile of weights and kCols tiles of rows.
template <int kFormat, int kCols, int kHalves, int kSlices>
DEV void add_slice(Slice<kCols, kHalves>& slice, const LinearArgs& a, const LinearPart& part,
                   int tile, int first_col) {
    // As many blocks are loaded at once as the registers have room for; where fewer are left, the
    // first of them again, for one way through the code is fetched faster than two.
    constexpr int kRoom = kCols == 1 ? 4 : kCols == 2 ? 2 : 1;
    const int bytes = block_bytes_of(kFormat);
    const int n_blocks = a.n_blocks, warp = warp_index();
    LanePlace at{
        part.quants + int64(tile) * n_blocks * bytes,
        part.scales + int64(tile) * n_blocks * kTileRows,
        reinterpret_cast<const uint32*>(a.x) +
            int64(first_col) * n_blocks * (kTileRows * kBlock / 4),
        reinterpret_cast<const RowScale*>(a.x_scales) + int64(first_col) * n_blocks * kTileRows,
        int64(n_blocks) * (kTileRows * kBlock / 4),
        int64(n_blocks) * kTileRows};
    at.advance(warp, bytes);
    int n = (n_blocks - warp + kSlices - 1) / kSlices;
#pragma unroll 1
    for (; n > 0; n -= kRoom) {
        BlockWords<kFormat, kCols, kHalves> words[kRoom];
#pragma unroll
        for (int i = 0; i < kRoom; ++i) {
            LanePlace here = at;
            here.advance(i < n ? i * kSlices : 0, bytes);
            load_block(words[i], here);
        }
#pragma unroll
        for (int i = 0; i < kRoom; ++i)
            if (i < n) add_block(slice, words[i]);
        at.advance(kRoom * kSlices, bytes);
    }
}

// Which part a tile is of.
DEV const LinearPart& part_of(const LinearArgs& a, int tile) {
    int p = 0;
    while (p + 1 < a.n_parts && tile >= a.parts[p + 1].first_tile) ++p;
    return a.parts[p];
}

// Has this block's weights on their way while other kernels still run, and its share of what the
// next linear op reads: small steps wait for memory more than they use it.
DEV void prefetch_weights(const LinearArgs& a) {
    const int i = thread_index();
    if (i == 0) {
        const LinearPart& part = part_of(a, block_x());
        const int64 first = int64(block_x() - part.first_tile) * a.n_blocks;
        const int bytes = block_bytes_of(part.format);
        prefetch(part.quants + first * bytes, a.n_blocks * bytes);
        prefetch(part.scales + first * kTileRows, a.n_blocks * kTileRows * 4);
    } else if (i <= a.n_ahead) {
        const Ahead& ahead = a.ahead[i - 1];
        const int64 share = (ahead.bytes / n_blocks_x() + 127) / 128 * 128;
        const int64 first = block_x() * share, left = ahead.bytes - first;
        if (left > 0) prefetch(ahead.from + first, int(left < share ? left : share));
    }
}

// A block has a tile of weights, a slice for each warp, and kCols tiles of rows or half of one.
template <int kCols, int kHalves, int kSlices>
DEV void linear(const LinearArgs& a) {
    SHARED float shown[kSlices][kTileRows][kTileRows + 1];  // (slice, row of x, row of weight)
    if (kCols <= 2 && block_y() == 0) prefetch_weights(a);
    begin_after_others();
    const int n_rows = rows_of(*a.step, a.is_selected);
    const int first_col = block_y() * kCols;
    if (first_col * kTileRows >= n_rows) return;
    const LinearPart& part = part_of(a, block_x());
    const int tile = block_x() - part.first_tile;
    const int mine_row = thread_index() >> 4, mine = thread_index() & 15;
    const int n = tile * kTileRows + mine;
    float bias = 0, residual[kCols] = {};  // on their way while the products are added up
    const bool has_bias = part.bias, has_residual = part.residual;
    const bool is_mine = mine_row < kTileRows && n < part.n_out;
    if (is_mine && has_bias) bias = part.bias[n];
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        const int row = (first_col + col) * kTileRows + mine_row;
        if (is_mine && has_residual && row < n_rows)
            residual[col] = part.residual[int64(row) * part.n_out + n];
    }
    Slice<kCols, kHalves> slice = {};
    switch (part.format) {
        case kInt4:
            add_slice<kInt4, kCols, kHalves, kSlices>(slice, a, part, tile, first_col);
            break;
        case kInt5:
            add_slice<kInt5, kCols, kHalves, kSlices>(slice, a, part, tile, first_col);
            break;
        case kInt6:
            add_slice<kInt6, kCols, kHalves, kSlices>(slice, a, part, tile, first_col);
            break;
        default: add_slice<kInt8, kCols, kHalves, kSlices>(slice, a, part, tile, first_col);
    }
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        if (col > 0) block_sync();
#pragma unroll
        for (int i = 0; i < 4 * kHalves; ++i)
            shown[warp_index()][tile_col(i)][tile_row(i)] = slice.acc[col][i];
        block_sync();
        const int row = (first_col + col) * kTileRows + mine_row;
        if (!is_mine || row >= n_rows) continue;
        float sum = shown[0][mine_row][mine];
#pragma unroll
        for (int i = 1; i < kSlices; ++i) sum += shown[i][mine_row][mine];
        if (has_bias) sum += bias;
        if (has_residual) sum += residual[col];
        part.out[int64(row) * part.n_out + n] = sum;
    }
}

KERNEL(linear_8, kFewSlices* kWarp, LinearArgs) {
    linear<1, kFewHalves, kFewSlices>(a);
}
KERNEL(linear_16, kFewSlices* kWarp, LinearArgs) {
    linear<1, 2, kFewSlices>(a);
}
KERNEL(linear_32, kFewSlices* kWarp, LinearArgs) {
    linear<2, 2, kFewSlices>(a);
}
KERNEL(linear_64, kFewSlices* kWarp, LinearArgs) {
    linear<4, 2, kFewSlices>(a);
}
KERNEL(linear_tall_8, kManySlices* kWarp, LinearArgs) {
    linear<1, kFewHalves, kManySlices>(a);
}
KERNEL(linear_tall_16, kManySlices* kWarp, LinearArgs) {
    linear<1, 2, kManySlices>(a);
}
KERNEL(linear_tall_32, kManySlices* kWarp, LinearArgs) {
    linear<2, 2, kManySlices>(a);
}
