// Linear ops (linear.h) of a single row, which every block rounds for itself, or merges attention's
// splits first: a launch less, and what it would have read is waited for once.
//
// A row is too little for the matrix unit: a lane has one row of a tile's weights and one slice,
// and multiplies four numbers at once. Sums of a block are exact either way, and what becomes of
// them is the rule of linear.h, so that the results are the same bits.
//
// A block has several tiles of weights, all in shared memory where a device copies ahead, so that
// few blocks do the rounding and those of the next kernels find room beside them.
#pragma once

#include "choose.h"
#include "linear.h"
#include "merge.h"

constexpr int kOneThreads = 512, kOneWarps = kOneThreads / kWarp;

struct OneShared {
    int8* numbers;
    float* scales;
    float* squares;
    float* sums;  // (tile, slice, row of weight), a slice's row a word longer
    uint8* tiles;
};

constexpr int kSliceSums = kTileRows + 1;

// As linear_shape.py counts it.
DEV OneShared one_shared(const LinearArgs& a, int n_slices) {
    uint8* at = launch_shared();
    OneShared shared;
    shared.numbers = reinterpret_cast<int8*>(at);
    at += a.n_blocks * kBlock;
    shared.scales = reinterpret_cast<float*>(at);
    at += a.n_blocks * 8;
    shared.squares = reinterpret_cast<float*>(at);
    at += n_stretches_of(a.n_blocks * kBlock) * 4;
    shared.sums = reinterpret_cast<float*>(at);
    at += a.tiles_of_block * n_slices * kSliceSums * 4;
    shared.tiles = launch_shared() + ((at - launch_shared()) + 15) / 16 * 16;
    return shared;
}

// A tile of one of several matrices.
struct OneTile {
    const LinearPart* part;
    int tile;
};

// Those of a block: neighbours.
struct TilesInOrder {
    const LinearArgs& a;
    int first, n;

    DEV_MEMBER OneTile at(int t) const {
        const LinearPart& part = part_of(a, first + t);
        return {&part, first + t - part.first_tile};
    }
};

// What a thread writes of a block's results.
struct OneResult {
    const LinearPart* part;
    Column column;
    int tile;
    bool is_there;
};

template <class Tiles>
DEV OneResult one_result(const LinearArgs& a, const Tiles& tiles) {
    OneResult r;
    r.tile = thread_index() >> 4;
    r.is_there = r.tile < tiles.n;
    if (!r.is_there) r.tile = 0;
    const OneTile mine = tiles.at(r.tile);
    r.part = mine.part;
    r.column = column_of(a, *mine.part, mine.tile, thread_index() & 15);
    r.is_there = r.is_there && r.column.n < r.part->n_out;
    return r;
}

template <int kThreads, class Tiles>
DEV void begin_tiles(const LinearArgs& a, const Tiles& tiles, const OneShared& shared) {
#pragma unroll 1
    for (int t = 0; t < tiles.n; ++t) {
        const OneTile tile = tiles.at(t);
        begin_tile<kThreads>(a, tile_place(a, *tile.part, tile.tile),
                             shared.tiles + t * a.staged_bytes);
    }
}

// ---- products ----

template <int kFormat>
struct Is {
    static constexpr int kValue = kFormat;
};

// A row of a block of weights, as one lane loads it.
template <int kFormat>
struct RowBlock {
    static constexpr int kMore = kFormat == kInt5 ? 1 : kFormat == kInt6 ? 2 : 0;
    Words low[kFormat == kInt8 ? 2 : 1];
    uint32 more[kMore > 0 ? kMore : 1];
    uint32 scales;

    DEV_MEMBER void load(const uint8* block, const uint32* block_scales, int row) {
#pragma unroll
        for (int h = 0; h < (kFormat == kInt8 ? 2 : 1); ++h)
            low[h] = reinterpret_cast<const Words*>(block)[h * kTileRows + row];
#pragma unroll
        for (int h = 0; h < kMore; ++h)
            more[h] = reinterpret_cast<const uint32*>(block)[more_word(kFormat, row, h)];
        scales = block_scales[row];
    }
    // Word j of half h.
    DEV_MEMBER uint32 word(int h, int j) const {
        return weight_word(kFormat, low[kFormat == kInt8 ? h : 0].at[j], more[kMore > 1 ? h : 0], h,
                           j);
    }
};

// Adds a block's products with x, by the rule of linear.h.
template <int kFormat>
DEV void add_row_block(float& acc, const RowBlock<kFormat>& block, const int8* x, RowScale scale) {
    const auto* words = reinterpret_cast<const Words*>(x);
    int sums[2] = {};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const Words four = words[h];
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[h] = dot4(block.word(h, j), four.at[j], sums[h]);
    }
    if (kFormat == kInt6) {
        acc = multiply_add(float(sums[0]), low_half(block.scales) * scale.scale, acc);
        acc = multiply_add(float(sums[1]), high_half(block.scales) * scale.scale, acc);
        return;
    }
    acc = multiply_add(float(sums[0] + sums[1]), low_half(block.scales) * scale.scale, acc);
    if (kFormat != kInt8) acc = multiply_add(high_half(block.scales), scale.sum, acc);
}

// One slice of one row of weights.
template <int kFormat, int kSlices>
DEV float row_product(const TilePlace& place, int row, int slice, int n_blocks,
                      const OneShared& x) {
    constexpr int kRoom = kFormat == kInt6 || kFormat == kInt8 ? 2 : 4;
    const int bytes = block_bytes_of(kFormat);
    float acc = 0;
#pragma unroll 1
    for (int first = slice; first < n_blocks; first += kRoom * kSlices) {
        RowBlock<kFormat> blocks[kRoom];
#pragma unroll
        for (int i = 0; i < kRoom; ++i) {
            const int block = first + i * kSlices < n_blocks ? first + i * kSlices : first;
            blocks[i].load(place.quants + block * bytes, place.scales + block * kTileRows, row);
        }
#pragma unroll
        for (int i = 0; i < kRoom; ++i) {
            const int block = first + i * kSlices;
            if (block >= n_blocks) break;
            add_row_block(acc, blocks[i], x.numbers + block * kBlock,
                          reinterpret_cast<const RowScale*>(x.scales)[block]);
        }
    }
    return acc;
}

template <int kSlices>
DEV float row_product_of(int format, const TilePlace& place, int row, int slice, int n_blocks,
                         const OneShared& x) {
    switch (format) {
        case kInt4: return row_product<kInt4, kSlices>(place, row, slice, n_blocks, x);
        case kInt5: return row_product<kInt5, kSlices>(place, row, slice, n_blocks, x);
        case kInt6: return row_product<kInt6, kSlices>(place, row, slice, n_blocks, x);
        default: return row_product<kInt8, kSlices>(place, row, slice, n_blocks, x);
    }
}

// Where a block's tile t is, of which the format is known.
template <class Tiles>
DEV TilePlace one_place(const LinearArgs& a, const Tiles& tiles, const OneShared& shared, int t,
                        int format) {
    if (!kCopiesAhead || !a.staged_bytes) {
        const OneTile tile = tiles.at(t);
        return tile_place(a, *tile.part, tile.tile);
    }
    const uint8* quants = shared.tiles + t * a.staged_bytes;
    const int n_bytes = block_bytes_of(format) * a.n_blocks;
    return {quants, reinterpret_cast<const uint32*>(quants + n_bytes), n_bytes, 0};
}

// A warp's tasks, one after another: two slices of a tile each.
template <int kSlices>
constexpr int kTileTasks = kSlices / 2;

// Of a warp's first tile, if it has one: looked up before there is anything to wait for.
template <int kSlices, class Tiles>
DEV int first_format(const Tiles& tiles) {
    const int t = warp_index() / kTileTasks<kSlices>;
    return t < tiles.n ? tiles.at(t).part->format : 0;
}

// All tiles' products. Half a warp has a slice, and each lane a row of the tile.
template <int kSlices, int kWarps, class Tiles>
DEV void multiply_tiles(const LinearArgs& a, const Tiles& tiles, const OneShared& shared,
                        int format) {
    constexpr int kTasks = kTileTasks<kSlices>;
    const int row = lane_index() & 15;
#pragma unroll 1
    for (int task = warp_index(); task < tiles.n * kTasks; task += kWarps) {
        const int t = task / kTasks, slice = task % kTasks * 2 + (lane_index() >> 4);
        if (task >= kWarps) format = tiles.at(t).part->format;
        const TilePlace place = one_place(a, tiles, shared, t, format);
        shared.sums[(t * kSlices + slice) * kSliceSums + row] =
            row_product_of<kSlices>(format, place, row, slice, a.n_blocks, shared);
    }
}

// The slices of a thread's result in their order.
template <int kSlices>
DEV float sum_of_slices(const OneShared& shared, int tile) {
    const float* sums = shared.sums + tile * kSlices * kSliceSums + (thread_index() & 15);
    float sum = sums[0];
#pragma unroll
    for (int s = 1; s < kSlices; ++s) sum += sums[s * kSliceSums];
    return sum;
}

// The best of a warp's results: a chunk of those that an argmax looks at.
DEV void note_best(const LinearArgs& a, float value, int column, bool is_there) {
    const uint64 key = lanes_best(is_there ? key_of(value, column) : 0, kWarp);
    const int n_warps = (a.tiles_of_block + 1) / 2;
    if (lane_index() == 0) a.best[block_x() * n_warps + warp_index()] = key;
}

// kInput is 0, or, of attention in parts, the number of a head's dimensions.
template <int kSlices, int kInput>
DEV void linear_one(const LinearArgs& a) {
    const OneShared shared = one_shared(a, kSlices);
    const int first = block_x() * a.tiles_of_block, n_left = a.n_tiles - first;
    const TilesInOrder tiles{a, first, n_left < a.tiles_of_block ? n_left : a.tiles_of_block};
    begin_tiles<kOneThreads>(a, tiles, shared);
    const Step step = *a.step;
    const bool is_asked = rows_of(step, a.is_selected) > 0;
    const OneResult result = one_result(a, tiles);
    const LinearPart& part = *result.part;
    const bool is_there = result.is_there && is_asked;
    Extras extras = constants_of(a, step, part, result.column, 0, is_there);
    const int cache_block = cache_block_of(step, part, 0);
    const int format = first_format<kSlices>(tiles);
    const RoundedRows<1> row{shared.numbers, shared.scales, a.n_blocks};
    const auto load_residual = [&] {
        if (is_there && part.residual) extras.residual = part.residual[result.column.n];
    };
    if constexpr (kInput == 0) {
        // A row of few slices has a stretch for each warp.
        constexpr int kHeld = kSlices == kFewSlices ? 1 : 2;
        round_one<kOneWarps, kHeld>(a.rounding, row, shared.squares, load_residual);
    } else {
        SHARED float mosts[2 * kOneWarps];
        begin_after_others();
        load_residual();
        merge_one<kInput, kOneWarps>(a.attention, step, row, a.rounding.is_super, mosts);
    }
    groups_left<0>();
    block_sync();
    multiply_tiles<kSlices, kOneWarps>(a, tiles, shared, format);
    block_sync();
    if (warp_index() * 2 >= tiles.n) return;  // two tiles a warp
    const float sum = sum_of_slices<kSlices>(shared, result.tile);
    const float value = finished(a, part, result.column, sum, extras);
    if (is_there) put_result(a, step, part, result.column, 0, value, cache_block);
    if (a.best) note_best(a, value, result.column.n, is_there);
}

DENSE_KERNEL(linear_one, kOneThreads, 2, LinearArgs) {
    linear_one<kFewSlices, 0>(a);
}
DENSE_KERNEL(linear_tall_one, kOneThreads, 2, LinearArgs) {
    linear_one<kManySlices, 0>(a);
}
KERNEL(linear_merge_32, kOneThreads, LinearArgs) {
    linear_one<kFewSlices, 32>(a);
}
KERNEL(linear_merge_64, kOneThreads, LinearArgs) {
    linear_one<kFewSlices, 64>(a);
}
KERNEL(linear_merge_128, kOneThreads, LinearArgs) {
    linear_one<kFewSlices, 128>(a);
}
KERNEL(linear_tall_merge_32, kOneThreads, LinearArgs) {
    linear_one<kManySlices, 32>(a);
}
KERNEL(linear_tall_merge_64, kOneThreads, LinearArgs) {
    linear_one<kManySlices, 64>(a);
}
KERNEL(linear_tall_merge_128, kOneThreads, LinearArgs) {
    linear_one<kManySlices, 128>(a);
}
