// Linear ops (linear.h) of many rows, where copies run beside the work: a block has some tiles of a
// matrix and some of rows, of which each warp has its own, and all share what is copied to shared
// memory.
//
// No sum is shared: a warp goes through the slices one after the other, each block by block, and
// adds them up in its registers. Blocks are copied in the same order, a few ahead of the one that
// is worked on, so that the copies go on where one slice ends and the next begins.
#pragma once

#include "linear.h"

#if defined(HAS_ROW_LOADS)

// A warp has kWarpTiles tiles of weights and kWarpCols of rows; so many warps of a block lie along
// each. kStages blocks of columns are in shared memory.
template <int kWarpTiles_, int kWarpCols_, int kTileWarps, int kColWarps, int kStages_>
struct ManyShape {
    static constexpr int kWarpTiles = kWarpTiles_, kWarpCols = kWarpCols_, kStages = kStages_;
    static constexpr int kTiles = kWarpTiles * kTileWarps, kCols = kWarpCols * kColWarps;
    static constexpr int kThreads = kTileWarps * kColWarps * kWarp;
    static constexpr int kAlongTiles = kTileWarps;
};

// Where what is copied of a block lies: the numbers of the tiles and their scales, then the rows
// and theirs, each as in device memory.
template <class Shape, int kFormat>
struct ManyStage {
    static constexpr int kTileBytes = block_bytes_of(kFormat), kScaleBytes = kTileRows * 4;
    static constexpr int kColBytes = kTileRows * kBlock, kColScaleBytes = kTileRows * 8;
    static constexpr int kScales = Shape::kTiles * kTileBytes;
    static constexpr int kX = kScales + Shape::kTiles * kScaleBytes;
    static constexpr int kXScales = kX + Shape::kCols * kColBytes;
    static constexpr int kBytes = kXScales + Shape::kCols * kColScaleBytes;
};

// What a block makes: which tiles and rows come first, of how many, and which of them are a warp's.
struct ManyPlace {
    const LinearPart* part;
    int tile, n_tiles, col, n_cols, warp_tile, warp_col;

    DEV_MEMBER bool is_idle() const { return warp_tile >= n_tiles || warp_col >= n_cols; }
};

// The tiles of a block are of one matrix.
template <class Shape>
DEV ManyPlace many_place(const LinearArgs& a, int n_rows) {
    int p = 0, block = block_x(), n_tiles = 0;
    for (;; ++p) {
        const int end = p + 1 < a.n_parts ? a.parts[p + 1].first_tile : a.n_tiles;
        n_tiles = end - a.parts[p].first_tile;
        const int n_blocks = (n_tiles + Shape::kTiles - 1) / Shape::kTiles;
        if (block < n_blocks) break;
        block -= n_blocks;
    }
    const int tile = block * Shape::kTiles, col = block_y() * Shape::kCols;
    const int along_tiles = warp_index() % Shape::kAlongTiles;
    const int along_cols = warp_index() / Shape::kAlongTiles;
    return {&a.parts[p],
            tile,
            n_tiles,
            col,
            (n_rows + kTileRows - 1) / kTileRows,
            tile + along_tiles * Shape::kWarpTiles,
            col + along_cols * Shape::kWarpCols};
}

// ---- copies ----

// 16 bytes that a thread copies of every block.
struct Piece {
    const uint8* from;
    int stride, to;  // from a block to the next; in a stage
};

// Piece i of `n` tiles that begin with `first`; behind the last tile, of that one again.
template <int kBytes>
DEV Piece piece_of(const void* base, int n_blocks, int first, int n, int i, int begin) {
    const int tile = first + i / (kBytes / 16), there = tile < n ? tile : n - 1;
    const auto* from = static_cast<const uint8*>(base) + int64(there) * n_blocks * kBytes;
    return {from + i % (kBytes / 16) * 16, kBytes, begin + 16 * i};
}

template <class Shape, int kFormat>
struct ManyCopier {
    using Stage = ManyStage<Shape, kFormat>;
    static constexpr int kAll = Stage::kBytes / 16;
    static constexpr int kPieces = (kAll + Shape::kThreads - 1) / Shape::kThreads;
    Piece pieces[kPieces];

    DEV_MEMBER ManyCopier(const LinearArgs& a, const ManyPlace& at) {
#pragma unroll
        for (int p = 0; p < kPieces; ++p)
            pieces[p] = piece(a, at, thread_index() + p * Shape::kThreads);
    }
    DEV_MEMBER static Piece piece(const LinearArgs& a, const ManyPlace& at, int i) {
        const int n = a.n_blocks, byte = 16 * i;
        const LinearPart& part = *at.part;
        if (byte < Stage::kScales)
            return piece_of<Stage::kTileBytes>(part.quants, n, at.tile, at.n_tiles, i, 0);
        if (byte < Stage::kX)
            return piece_of<Stage::kScaleBytes>(part.scales, n, at.tile, at.n_tiles,
                                                i - Stage::kScales / 16, Stage::kScales);
        if (byte < Stage::kXScales)
            return piece_of<Stage::kColBytes>(a.x, n, at.col, at.n_cols, i - Stage::kX / 16,
                                              Stage::kX);
        return piece_of<Stage::kColScaleBytes>(a.x_scales, n, at.col, at.n_cols,
                                               i - Stage::kXScales / 16, Stage::kXScales);
    }
    DEV_MEMBER bool has(int p) const {
        return (p + 1) * Shape::kThreads <= kAll || pieces[p].to < Stage::kBytes;
    }
    DEV_MEMBER void copy(int p, uint8* stage, int block) const {
        copy_ahead(stage + pieces[p].to, pieces[p].from + int64(block) * pieces[p].stride);
    }
    DEV_MEMBER void copy_all(uint8* stage, int block) const {
#pragma unroll
        for (int p = 0; p < kPieces; ++p)
            if (has(p)) copy(p, stage, block);
    }
    // The weights alone, or the rows.
    DEV_MEMBER void copy_some(bool is_x, uint8* stage, int block) const {
#pragma unroll
        for (int p = 0; p < kPieces; ++p)
            if (has(p) && (pieces[p].to >= Stage::kX) == is_x) copy(p, stage, block);
    }
};

// ---- products ----

// The blocks of columns, slice by slice.
template <int kSlices>
struct Walk {
    int n_blocks, block, slice;

    DEV_MEMBER bool is_last_of_slice() const { return block + kSlices >= n_blocks; }
    DEV_MEMBER void next() { block = is_last_of_slice() ? ++slice : block + kSlices; }
};

template <class Shape>
struct ManySums {
    Slice<1, 2> at[Shape::kWarpTiles][Shape::kWarpCols];

    DEV_MEMBER void fill(float value) {
#pragma unroll
        for (auto& tile : at)
#pragma unroll
            for (auto& col : tile)
#pragma unroll
                for (float& sum : col.acc[0]) sum = value;
    }
    DEV_MEMBER void add(const ManySums& other) {
#pragma unroll
        for (int t = 0; t < Shape::kWarpTiles; ++t)
#pragma unroll
            for (int c = 0; c < Shape::kWarpCols; ++c)
#pragma unroll
                for (int i = 0; i < 8; ++i) at[t][c].acc[0][i] += other.at[t][c].acc[0][i];
    }
};

// A tile of weights, and one of rows, from shared memory.
template <int kFormat>
DEV void load_weights(BlockWords<kFormat, 1, 2>& to, const uint8* quants, const uint32* scales) {
    if constexpr (kFormat == kInt8) {
        uint32 words[4];
        load_rows(words, quants + 16 * lane_index());
#pragma unroll
        for (int i = 0; i < 4; ++i) to.low[i >> 1][i & 1][0] = words[i];
    } else {
        uint32 words[2];
        load_rows(words, quants + 16 * (lane_index() & 15));
        to.low[0][0][0] = words[0], to.low[0][1][0] = words[1];
    }
    if constexpr (kFormat == kInt5 || kFormat == kInt6) {
        const auto* words = reinterpret_cast<const uint32*>(quants);
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i)
#pragma unroll
            for (int h = 0; h < (kFormat == kInt6 ? 2 : 1); ++h)
                to.more[h][i] = words[more_word(kFormat, lane_row(i), h)];
    }
    const uint32 pairs[kLaneRows] = {scales[lane_row(0)], scales[lane_row(1)]};
#pragma unroll
    for (int i = 0; i < 8; ++i) to.scales[i] = pairs[(i >> 1) & 1];
}

template <int kFormat>
DEV void load_x(BlockWords<kFormat, 1, 2>& to, const uint8* x, const RowScale* scales) {
    struct alignas(16) Two {
        RowScale at[2];
    };
    uint32 words[4];
    load_rows(words, x + 16 * lane_index());
#pragma unroll
    for (int i = 0; i < 4; ++i) to.x[0][i >> 1][i & 1][0] = words[i];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const Two two = *reinterpret_cast<const Two*>(scales + tile_col(4 * half));
#pragma unroll
        for (int i = 0; i < 4; ++i) to.x_scales[0][4 * half + i] = two.at[i & 1];
    }
}

// One block of a warp's tiles.
template <class Shape, int kFormat>
DEV void add_staged(ManySums<Shape>& sums, const uint8* stage, const ManyPlace& at) {
    using Stage = ManyStage<Shape, kFormat>;
    const int tile = at.warp_tile - at.tile, col = at.warp_col - at.col;
    const uint8* quants = stage + tile * Stage::kTileBytes;
    const uint8* scales = stage + Stage::kScales + tile * Stage::kScaleBytes;
    const uint8* x = stage + Stage::kX + col * Stage::kColBytes;
    const uint8* x_scales = stage + Stage::kXScales + col * Stage::kColScaleBytes;
    BlockWords<kFormat, 1, 2> words[Shape::kWarpTiles];
#pragma unroll
    for (int t = 0; t < Shape::kWarpTiles; ++t)
        load_weights(words[t], quants + t * Stage::kTileBytes,
                     reinterpret_cast<const uint32*>(scales + t * Stage::kScaleBytes));
#pragma unroll
    for (int c = 0; c < Shape::kWarpCols; ++c) {
        load_x(words[0], x + c * Stage::kColBytes,
               reinterpret_cast<const RowScale*>(x_scales + c * Stage::kColScaleBytes));
#pragma unroll
        for (int t = 0; t < Shape::kWarpTiles; ++t) {
            BlockWords<kFormat, 1, 2> block = words[t];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                block.x[0][i >> 1][i & 1][0] = words[0].x[0][i >> 1][i & 1][0];
#pragma unroll
            for (int i = 0; i < 8; ++i) block.x_scales[0][i] = words[0].x_scales[0][i];
            add_block(sums.at[t][c], block);
        }
    }
}

// A warp's sums of all slices. A stage is there when its copies have arrived and all have met.
template <class Shape, int kFormat, int kSlices>
DEV void multiply_many(const LinearArgs& a, const ManyPlace& at, ManySums<Shape>& totals) {
    constexpr int kAhead = Shape::kStages - 1, kBytes = ManyStage<Shape, kFormat>::kBytes;
    const int n = a.n_blocks;
    uint8* stages = launch_shared();
    const ManyCopier<Shape, kFormat> copier(a, at);
    Walk<kSlices> ahead{n, 0, 0}, here{n, 0, 0};
#pragma unroll
    for (int i = 0; i < kAhead; ++i, here.next())
        if (i < n) copier.copy_some(false, stages + i * kBytes, here.block);
    here = {n, 0, 0};
    begin_after_others();
#pragma unroll
    for (int i = 0; i < kAhead; ++i, ahead.next()) {
        if (i < n) copier.copy_some(true, stages + i * kBytes, ahead.block);
        end_of_group();
    }
    ManySums<Shape> sums;
    sums.fill(0);
    totals.fill(-0.0f);  // to which anything may be added, also a zero of either sign
    const bool is_idle = at.is_idle();
    int stage = 0, next = kAhead;
#pragma unroll 1
    for (int i = 0; i < n; ++i, here.next(), ahead.next()) {
        groups_left<kAhead - 1>();
        block_sync();
        if (i + kAhead < n) copier.copy_all(stages + next * kBytes, ahead.block);
        end_of_group();
        if (!is_idle) add_staged<Shape, kFormat>(sums, stages + stage * kBytes, at);
        if (here.is_last_of_slice()) {
            totals.add(sums);
            sums.fill(0);
        }
        next = stage;
        stage = stage + 1 < Shape::kStages ? stage + 1 : 0;
    }
    if (n < kSlices) totals.add(sums);  // slices without blocks are zeros
}

template <class Shape, int kSlices>
DEV void multiply_many_of(const LinearArgs& a, const ManyPlace& at, ManySums<Shape>& totals) {
    switch (at.part->format) {
        case kInt4: multiply_many<Shape, kInt4, kSlices>(a, at, totals); break;
        case kInt5: multiply_many<Shape, kInt5, kSlices>(a, at, totals); break;
        case kInt6: multiply_many<Shape, kInt6, kSlices>(a, at, totals); break;
        default: multiply_many<Shape, kInt8, kSlices>(a, at, totals);
    }
}

// ---- results ----

// A warp's results, through shared memory: lanes that write side by side have the rows of a tile.
template <class Shape>
DEV void write_many(const LinearArgs& a, const Step& step, const ManyPlace& at, int n_rows,
                    const ManySums<Shape>& totals) {
    constexpr int kWidth = Shape::kWarpTiles * kTileRows, kRows = Shape::kWarpCols * kTileRows;
    constexpr int kStride = kWidth + 4, kAtOnce = 4, kOfPass = kWarp / kWidth;  // rows
    float* shown = reinterpret_cast<float*>(launch_shared()) + warp_index() * kRows * kStride;
#pragma unroll
    for (int t = 0; t < Shape::kWarpTiles; ++t)
#pragma unroll
        for (int c = 0; c < Shape::kWarpCols; ++c)
#pragma unroll
            for (int i = 0; i < 8; ++i)
                shown[(c * kTileRows + tile_col(i)) * kStride + t * kTileRows + tile_row(i)] =
                    totals.at[t][c].acc[0][i];
    warp_sync();
    const LinearPart& part = *at.part;
    const int mine = lane_index() % kWidth, tile = at.warp_tile + mine / kTileRows;
    const Column column = column_of(a, part, tile, mine % kTileRows);
    const bool is_mine = tile < at.n_tiles && column.n < part.n_out;
#pragma unroll 1
    for (int first = lane_index() / kWidth; first < kRows; first += kAtOnce * kOfPass) {
        Extras extras[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const int row = at.warp_col * kTileRows + first + i * kOfPass;
            const bool is_there = is_mine && row < n_rows;
            extras[i] = constants_of(a, step, part, column, row, is_there);
            if (is_there && part.residual)
                extras[i].residual = part.residual[int64(row) * part.n_out + column.n];
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const int at_row = first + i * kOfPass, row = at.warp_col * kTileRows + at_row;
            const bool is_there = is_mine && row < n_rows;
            write_result(a, step, part, column, is_there, row, shown[at_row * kStride + mine],
                         extras[i], is_there ? cache_block_of(step, part, row) : 0);
        }
    }
}

template <class Shape, int kSlices>
DEV void linear_many(const LinearArgs& a) {
    const Step& step = *a.step;
    const int n_rows = rows_of(step, a.is_selected);
    if (int(block_y()) * Shape::kCols * kTileRows >= n_rows) return begin_after_others();
    const ManyPlace at = many_place<Shape>(a, n_rows);
    ManySums<Shape> totals;
    multiply_many_of<Shape, kSlices>(a, at, totals);
    block_sync();  // the stages are free
    if (!at.is_idle()) write_many(a, step, at, n_rows, totals);
}

using WideMany = ManyShape<2, 2, 4, 2, 4>;
using NarrowMany = ManyShape<1, 2, 4, 1, 4>;

DENSE_KERNEL(linear_many, WideMany::kThreads, 2, LinearArgs) {
    linear_many<WideMany, kFewSlices>(a);
}
DENSE_KERNEL(linear_tall_many, WideMany::kThreads, 2, LinearArgs) {
    linear_many<WideMany, kManySlices>(a);
}
DENSE_KERNEL(linear_narrow_many, NarrowMany::kThreads, 4, LinearArgs) {
    linear_many<NarrowMany, kFewSlices>(a);
}
DENSE_KERNEL(linear_tall_narrow_many, NarrowMany::kThreads, 4, LinearArgs) {
    linear_many<NarrowMany, kManySlices>(a);
}

#endif
