// Linear ops (linear.h) of many rows: a block has a few tiles of a matrix and of rows in shared
// memory. A warp has tiles of weights of its own; all have the rows. Blocks that have the same
// weights and other rows are neighbours, so that a matrix is read from memory once.
//
// No sum is shared: a warp goes through the slices one after the other, each block by block, and
// adds them up in its registers. Blocks are copied in the same order, ahead of the one that is
// worked on, so that the copies go on where one slice ends and the next begins.
#pragma once

#include "linear.h"

constexpr int kManyWarps = 4, kManyThreads = kManyWarps * kWarp;
// Stages of shared memory, for so many blocks of a slice each. Where copies do not run beside the
// work, it is other blocks that work meanwhile: the less each has in shared memory, the more fit.
constexpr int kManyStages = kCopiesAhead ? 3 : 2, kManyRoom = kCopiesAhead ? 2 : 1;

// Tiles of weights of a warp and of a block, and tiles of rows; whether the sums of whole slices
// are in shared memory, before the stages, as NVIDIA's registers have no room for them and a third
// block.
struct WideMany {
    static constexpr int kWarpTiles = 2, kTiles = kWarpTiles * kManyWarps, kCols = 4;
    static constexpr bool kSharesTotals = kCopiesAhead;
};
struct NarrowMany {
    static constexpr int kWarpTiles = 1, kTiles = kWarpTiles * kManyWarps, kCols = 2;
    static constexpr bool kSharesTotals = false;
};

// Where what is copied of a block lies: the numbers of the rows and of the tiles, then the scales
// of both, each as in device memory.
template <class Shape, int kFormat>
struct ManyStage {
    static constexpr int kTileBytes = block_bytes_of(kFormat), kScaleBytes = kTileRows * 4;
    static constexpr int kColBytes = kTileRows * kBlock, kColScaleBytes = kTileRows * 8;
    static constexpr int kQuants = Shape::kCols * kColBytes;
    static constexpr int kScales = kQuants + Shape::kTiles * kTileBytes;
    static constexpr int kXScales = kScales + Shape::kTiles * kScaleBytes;
    static constexpr int kBytes = kXScales + Shape::kCols * kColScaleBytes;
};

// What a block makes: which tiles and rows come first, of how many.
struct ManyPlace {
    const LinearPart* part;
    int tile, n_tiles, col, n_cols;
};

// Which of a block's tiles is a warp's first.
template <class Shape>
DEV int warp_tile() {
    return warp_index() * Shape::kWarpTiles;
}

// The tiles of a block are of one matrix.
template <class Shape>
DEV ManyPlace many_place(const LinearArgs& a, int n_rows) {
    int p = 0, block = block_y(), n_tiles = 0;
    for (;; ++p) {
        const int end = p + 1 < a.n_parts ? a.parts[p + 1].first_tile : a.n_tiles;
        n_tiles = end - a.parts[p].first_tile;
        const int n_blocks = (n_tiles + Shape::kTiles - 1) / Shape::kTiles;
        if (block < n_blocks) break;
        block -= n_blocks;
    }
    return {&a.parts[p], block * Shape::kTiles, n_tiles, block_x() * Shape::kCols,
            (n_rows + kTileRows - 1) / kTileRows};
}

// ---- copies ----

// The blocks of columns, slice by slice, kManyRoom at a time, or fewer where a slice ends.
template <int kSlices>
struct Walk {
    int n_blocks, n_slices, block, slice;

    DEV_MEMBER explicit Walk(int n)
        : n_blocks(n), n_slices(n < kSlices ? n : kSlices), block(0), slice(0) {}
    DEV_MEMBER bool has_block() const { return slice < n_slices; }
    DEV_MEMBER void next() {
        block += kManyRoom * kSlices;
        if (block >= n_blocks) block = ++slice;
    }
};

// 16 bytes that a thread copies of every block.
struct Piece {
    const uint8* from;
    uint32 stride;  // from a block to the next
    bool is_x;
};

// Piece i of `n` tiles that begin with `first`; behind the last tile, of that one again.
template <int kBytes>
DEV Piece piece_of(const void* base, int n_blocks, int first, int n, int i, bool is_x) {
    const int tile = first + i / (kBytes / 16), there = tile < n ? tile : n - 1;
    const auto* from = static_cast<const uint8*>(base) + int64(there) * n_blocks * kBytes;
    return {from + i % (kBytes / 16) * 16, kBytes, is_x};
}

// A thread copies every kThreads-th piece of a stage.
template <class Shape, int kFormat, int kSlices>
struct ManyCopier {
    using Stage = ManyStage<Shape, kFormat>;
    static constexpr int kAll = Stage::kBytes / 16;
    static constexpr int kPieces = (kAll + kManyThreads - 1) / kManyThreads;
    Piece pieces[kPieces];

    DEV_MEMBER ManyCopier(const LinearArgs& a, const ManyPlace& at) {
#pragma unroll
        for (int p = 0; p < kPieces; ++p) pieces[p] = piece(a, at, p);
    }
    // Whether a thread's piece p lies before `end`, for which most need not look.
    DEV_MEMBER static bool is_before(int p, int end) {
        const int first = 16 * p * kManyThreads;
        if (first + 16 * kManyThreads <= end) return true;
        return first < end && first + 16 * thread_index() < end;
    }
    DEV_MEMBER static Piece piece(const LinearArgs& a, const ManyPlace& at, int p) {
        const int n = a.n_blocks, i = thread_index() + p * kManyThreads;
        const LinearPart& part = *at.part;
        if (is_before(p, Stage::kQuants))
            return piece_of<Stage::kColBytes>(a.x, n, at.col, at.n_cols, i, true);
        if (is_before(p, Stage::kScales))
            return piece_of<Stage::kTileBytes>(part.quants, n, at.tile, at.n_tiles,
                                               i - Stage::kQuants / 16, false);
        if (is_before(p, Stage::kXScales))
            return piece_of<Stage::kScaleBytes>(part.scales, n, at.tile, at.n_tiles,
                                                i - Stage::kScales / 16, false);
        return piece_of<Stage::kColScaleBytes>(a.x_scales, n, at.col, at.n_cols,
                                               i - Stage::kXScales / 16, true);
    }
    // Pieces of the blocks of a stage, those for which `takes` says so.
    template <class Takes>
    DEV_MEMBER void copy(uint8* stage, const Walk<kSlices>& walk, const Takes& takes) const {
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
            if (!is_before(p, Stage::kBytes) || !takes(pieces[p])) continue;
            const uint8* from = pieces[p].from + uint64(uint32(walk.block)) * pieces[p].stride;
            uint8* to = stage + 16 * (thread_index() + p * kManyThreads);
#pragma unroll
            for (int r = 0; r < kManyRoom; ++r)
                if (r == 0 || walk.block + r * kSlices < walk.n_blocks)
                    copy_ahead(to + r * Stage::kBytes, from + r * kSlices * pieces[p].stride);
        }
    }
};

// ---- products ----

template <class Shape>
struct ManySums {
    Slice<1, 2> at[Shape::kWarpTiles][Shape::kCols];

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
            for (int c = 0; c < Shape::kCols; ++c)
#pragma unroll
                for (int i = 0; i < 8; ++i) at[t][c].acc[0][i] += other.at[t][c].acc[0][i];
    }
};

// The sums of whole slices: a lane's own, wherever they are.
template <class Shape, bool kIsShared = Shape::kSharesTotals>
struct ManyTotals {
    static constexpr int kBytes = 0;
    ManySums<Shape> sums;

    DEV_MEMBER void fill(float value) { sums.fill(value); }
    DEV_MEMBER void add(const ManySums<Shape>& slice) { sums.add(slice); }
    DEV_MEMBER ManySums<Shape> all() const { return sums; }
};

template <class Shape>
struct ManyTotals<Shape, true> {
    static constexpr int kOfLane = Shape::kWarpTiles * Shape::kCols * 8;
    static constexpr int kBytes = kManyThreads * kOfLane * 4;

    // What `make` makes of every four sums, side by side, and their place among the warp's tiles.
    template <class Make>
    DEV_MEMBER void each(const Make& make) const {
        auto* fours = reinterpret_cast<Floats<4>*>(launch_shared()) + thread_index();
#pragma unroll
        for (int i = 0; i < kOfLane; i += 4) {
            make(fours[i / 4 * kManyThreads], i / 8 / Shape::kCols, i / 8 % Shape::kCols, i % 8);
            if (i % 16 == 12) warp_sync();  // else all would be loaded first
        }
    }
    DEV_MEMBER void fill(float value) {
        each([&](Floats<4>& to, int, int, int) { to = {{value, value, value, value}}; });
    }
    DEV_MEMBER void add(const ManySums<Shape>& slice) {
        each([&](Floats<4>& to, int t, int c, int first) {
            Floats<4> four = to;
#pragma unroll
            for (int i = 0; i < 4; ++i) four.at[i] += slice.at[t][c].acc[0][first + i];
            to = four;
        });
    }
    DEV_MEMBER ManySums<Shape> all() const {
        ManySums<Shape> sums;
        each([&](const Floats<4>& from, int t, int c, int first) {
            const Floats<4> four = from;
#pragma unroll
            for (int i = 0; i < 4; ++i) sums.at[t][c].acc[0][first + i] = four.at[i];
        });
        return sums;
    }
};

// A tile of weights, and one of rows, from shared memory.
#if defined(HAS_ROW_LOADS)

template <int kFormat>
DEV void load_staged_weights(BlockWords<kFormat, 1, 2>& to, const uint8* quants,
                             const uint32* scales) {
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

DEV void load_staged_x(RowWords<1, 2>& to, const uint8* x, const RowScale* scales) {
    struct alignas(16) Two {
        RowScale at[2];
    };
    // Matrix 2 i + h has half h of rows 8 i to 8 i + 7: the words of a product lie side by side.
    const int lane = lane_index(), row = (lane >> 4) * 8 + (lane & 7), h = lane >> 3 & 1;
    uint32 words[4];
    load_rows(words, x + (h * kTileRows + row) * 16);
#pragma unroll
    for (int i = 0; i < 4; ++i) to.x[0][i & 1][i >> 1][0] = words[i];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const Two two = *reinterpret_cast<const Two*>(scales + tile_col(4 * half));
#pragma unroll
        for (int i = 0; i < 4; ++i) to.x_scales[0][4 * half + i] = two.at[i & 1];
    }
}

#else

template <int kFormat>
DEV void load_staged_weights(BlockWords<kFormat, 1, 2>& to, const uint8* quants,
                             const uint32* scales) {
    load_weights(to, quants, scales);
}

DEV void load_staged_x(RowWords<1, 2>& to, const uint8* x, const RowScale* scales) {
    load_x(to, 0, reinterpret_cast<const uint32*>(x), scales);
}

#endif

// One block of a warp's tiles.
template <class Shape, int kFormat>
DEV void add_staged(ManySums<Shape>& sums, const uint8* stage) {
    using Stage = ManyStage<Shape, kFormat>;
    const int tile = warp_tile<Shape>();
    const uint8* quants = stage + Stage::kQuants + tile * Stage::kTileBytes;
    const uint8* scales = stage + Stage::kScales + tile * Stage::kScaleBytes;
    const uint8* x_scales = stage + Stage::kXScales;
    BlockWords<kFormat, 1, 2> words[Shape::kWarpTiles];
#pragma unroll
    for (int t = 0; t < Shape::kWarpTiles; ++t)
        load_staged_weights(words[t], quants + t * Stage::kTileBytes,
                            reinterpret_cast<const uint32*>(scales + t * Stage::kScaleBytes));
#pragma unroll
    for (int c = 0; c < Shape::kCols; ++c) {
        RowWords<1, 2> rows;
        load_staged_x(rows, stage + c * Stage::kColBytes,
                      reinterpret_cast<const RowScale*>(x_scales + c * Stage::kColScaleBytes));
#pragma unroll
        for (int t = 0; t < Shape::kWarpTiles; ++t) {
            static_cast<RowWords<1, 2>&>(words[t]) = rows;
            add_block(sums.at[t][c], words[t]);
        }
        keep_order();  // else rows would be loaded that registers have no room for yet
    }
}

// A warp's sums of all slices. A stage is there when its copies have arrived and all have met.
template <class Shape, int kFormat, int kSlices>
DEV void multiply_many(const LinearArgs& a, const ManyPlace& at, ManyTotals<Shape>& totals) {
    constexpr int kAhead = kManyStages - 1, kBytes = ManyStage<Shape, kFormat>::kBytes;
    constexpr int kStageBytes = kManyRoom * kBytes;
    uint8* stages = launch_shared() + ManyTotals<Shape>::kBytes;
    const ManyCopier<Shape, kFormat, kSlices> copier(a, at);
    Walk<kSlices> ahead(a.n_blocks);
#pragma unroll
    for (int i = 0; i < kAhead; ++i, ahead.next())
        if (ahead.has_block())
            copier.copy(stages + i * kStageBytes, ahead,
                        [](const Piece& piece) { return !piece.is_x; });
    begin_after_others();
    ahead = Walk<kSlices>(a.n_blocks);
#pragma unroll
    for (int i = 0; i < kAhead; ++i, ahead.next()) {
        if (ahead.has_block())
            copier.copy(stages + i * kStageBytes, ahead,
                        [](const Piece& piece) { return piece.is_x; });
        end_of_group();
    }
    const bool is_idle = at.tile + warp_tile<Shape>() >= at.n_tiles;
    totals.fill(-0.0f);  // to which anything may be added, also a zero of either sign
    int stage = 0;
#pragma unroll 1
    for (int slice = 0; slice < kSlices; ++slice) {
        ManySums<Shape> sums;
        sums.fill(0);
#pragma unroll 1
        for (int block = slice; block < a.n_blocks; block += kManyRoom * kSlices, ahead.next()) {
            groups_left<kAhead - 1>();
            block_sync();
            const int before = stage > 0 ? stage - kStageBytes : kAhead * kStageBytes;
            if (ahead.has_block())
                copier.copy(stages + before, ahead, [](const Piece&) { return true; });
            end_of_group();
            if (!is_idle) {
#pragma unroll
                for (int r = 0; r < kManyRoom; ++r)
                    if (r == 0 || block + r * kSlices < a.n_blocks)
                        add_staged<Shape, kFormat>(sums, stages + stage + r * kBytes);
            }
            stage = stage < kAhead * kStageBytes ? stage + kStageBytes : 0;
        }
        totals.add(sums);
    }
}

template <class Shape, int kSlices>
DEV void multiply_many_of(const LinearArgs& a, const ManyPlace& at, ManyTotals<Shape>& totals) {
    switch (at.part->format) {
        case kInt4: multiply_many<Shape, kInt4, kSlices>(a, at, totals); break;
        case kInt5: multiply_many<Shape, kInt5, kSlices>(a, at, totals); break;
        case kInt6: multiply_many<Shape, kInt6, kSlices>(a, at, totals); break;
        default: multiply_many<Shape, kInt8, kSlices>(a, at, totals);
    }
}

// ---- results ----

// A warp's results, through shared memory: lanes that write side by side have the rows of a tile.
// As many tiles of rows at once as the stages have room for, or one.
template <class Shape>
DEV void write_many(const LinearArgs& a, const Step& step, const ManySums<Shape>& sums) {
    constexpr int kWidth = Shape::kWarpTiles * kTileRows, kStride = kWidth + 4;
    constexpr int kColBytes = kManyWarps * kTileRows * kStride * 4;
    constexpr int kRoomBytes = kManyStages * kManyRoom * ManyStage<Shape, kInt8>::kBytes;
    constexpr int kCols = Shape::kCols * kColBytes <= kRoomBytes ? Shape::kCols : 1;
    constexpr int kRows = kCols * kTileRows, kAtOnce = 4, kOfPass = kWarp / kWidth;  // rows
    static_assert(kCols * kColBytes <= kRoomBytes);
    // Looked up once more: meanwhile registers had no room for it.
    const int n_rows = rows_of(step, a.is_selected);
    const ManyPlace at = many_place<Shape>(a, n_rows);
    float* shown = reinterpret_cast<float*>(launch_shared()) + warp_index() * kRows * kStride;
    const LinearPart& part = *at.part;
    const int mine = lane_index() % kWidth, tile = at.tile + warp_tile<Shape>() + mine / kTileRows;
    const Column column = column_of(a, part, tile, mine % kTileRows);
    const bool is_mine = tile < at.n_tiles && column.n < part.n_out;
#pragma unroll
    for (int first_col = 0; first_col < Shape::kCols; first_col += kCols) {
        if (first_col > 0) warp_sync();
#pragma unroll
        for (int t = 0; t < Shape::kWarpTiles; ++t)
#pragma unroll
            for (int c = 0; c < kCols; ++c)
#pragma unroll
                for (int i = 0; i < 8; ++i)
                    shown[(c * kTileRows + tile_col(i)) * kStride + t * kTileRows + tile_row(i)] =
                        sums.at[t][first_col + c].acc[0][i];
        warp_sync();
        const int first_row = (at.col + first_col) * kTileRows;
#pragma unroll 1
        for (int first = lane_index() / kWidth; first < kRows; first += kAtOnce * kOfPass) {
            Extras extras[kAtOnce];
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
                const int row = first_row + first + i * kOfPass;
                const bool is_there = is_mine && row < n_rows;
                extras[i] = constants_of(a, step, part, column, row, is_there);
                if (is_there && part.residual)
                    extras[i].residual = part.residual[int64(row) * part.n_out + column.n];
            }
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
                const int at_row = first + i * kOfPass, row = first_row + at_row;
                const bool is_there = is_mine && row < n_rows;
                write_result(a, step, part, column, is_there, row, shown[at_row * kStride + mine],
                             extras[i], is_there ? cache_block_of(step, part, row) : 0);
            }
        }
    }
}

template <class Shape, int kSlices>
DEV void linear_many(const LinearArgs& a) {
    const Step& step = *a.step;
    const int n_rows = rows_of(step, a.is_selected);
    if (block_x() * Shape::kCols * kTileRows >= n_rows) return begin_after_others();
    ManyTotals<Shape> totals;
    multiply_many_of<Shape, kSlices>(a, many_place<Shape>(a, n_rows), totals);
    const ManySums<Shape> sums = totals.all();
    block_sync();  // nobody reads stages or totals any more
    write_many(a, step, sums);
}

DENSE_KERNEL(linear_many, kManyThreads, 3, LinearArgs) {
    linear_many<WideMany, kFewSlices>(a);
}
DENSE_KERNEL(linear_tall_many, kManyThreads, 3, LinearArgs) {
    linear_many<WideMany, kManySlices>(a);
}
DENSE_KERNEL(linear_narrow_many, kManyThreads, 4, LinearArgs) {
    linear_many<NarrowMany, kFewSlices>(a);
}
DENSE_KERNEL(linear_tall_narrow_many, kManyThreads, 4, LinearArgs) {
    linear_many<NarrowMany, kManySlices>(a);
}
