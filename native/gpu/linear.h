// out (T, n_out) = x (T, K) weight^T + bias + residual.
//
// One rule for every number of rows, so that a row's result never depends on what was computed with
// it: the products of a block of 32 columns are summed exactly, or, of halves, by the matrix unit,
// whoever asks; block b belongs to slice b mod 8, or mod 16 of tall matrices; within a slice blocks
// are added in order by acc = fma(sum, d * scale, acc), then for minima acc = fma(m, scale * sum of
// x, acc); slices are added in order, then bias, then residual.
//
// Weights of small steps are copied to shared memory while other kernels still run: a small step's
// time goes into waiting for them.
#pragma once

#include "attention.h"
#include "rounding.h"

constexpr int kFewSlices = 8, kManySlices = 16, kMostParts = 8;

// What becomes of a result: it is written, or first turned by its row's position, as a query or as
// a key on its way into the cache; or it is a value on its way there; or of a gate and an up,
// silu(gate) * up is written.
enum Target { kWritten = 0, kQuery = 1, kKey = 2, kValue = 3, kGated = 4 };

// One weight matrix; several that read the same x share a launch. Where rows make pairs, both lie
// in one tile: of eight pairs the first ones, then the second ones (packing.py).
struct LinearPart {
    const uint8* quants;
    const uint32* scales;   // (tiles, blocks, 16)
    const float* bias;      // (n_out), or null
    const float* residual;  // (T, n_out), or null
    float* out;
    int format, n_out, first_tile, target;
};

// How queries and keys are turned, and where keys and values go.
struct Turning {
    KvPlace kv;
    const float* table;       // (positions, D / 2, 2): cosine and sine
    int is_neox, head_shift;  // head_dim is 1 << head_shift
};

// Bytes that a later linear op will read.
struct Ahead {
    const uint8* from;
    int64 bytes;
};

struct LinearArgs {
    const Step* step;
    const void* x;          // as quants.h says
    const float* x_scales;  // (tiles of rows, blocks, 16, 2)
    int n_parts, n_blocks, is_selected, n_ahead;
    int n_tiles, tiles_of_block;
    int staged_bytes, pad;    // of a tile in shared memory, or 0
    Rounding rounding;        // what blocks that round x themselves read,
    AttentionArgs attention;  // or merge
    Turning turning;
    uint64* best;                  // of a single row's results, for an argmax (choose.h), or null
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

// Words that x has in a tile's block, of int8 or of halves.
template <bool kOfHalves>
constexpr int kXWords = kTileRows * kBlock / (kOfHalves ? 2 : 4);

// Where a lane reads its words of a block; the next tile of rows is so much farther on.
template <bool kOfHalves>
struct LanePlace {
    const uint8* quants;
    const uint32* scales;
    const uint32* x;
    const RowScale* x_scales;
    int64 x_stride, scale_stride;

    DEV_MEMBER void advance(int n_blocks, int block_bytes) {
        quants += n_blocks * block_bytes;
        scales += n_blocks * kTileRows;
        x += n_blocks * kXWords<kOfHalves>;
        x_scales += n_blocks * kTileRows;
    }
};

// One block of kCols tiles of rows, and of the weights, too, as a lane loads it.
template <int kCols, int kHalves>
struct RowWords {
    static constexpr int kRows = kHalves == 2 ? kLaneRows : 1;
    uint32 x[kCols][2][kRows][kLaneWords];
    RowScale x_scales[kCols][4 * kHalves];
};

template <int kFormat, int kCols, int kHalves>
struct BlockWords : RowWords<kCols, kHalves> {
    uint32 low[kFormat == kInt8 ? 2 : 1][kLaneRows][kLaneWords];
    uint32 more[kFormat == kInt6 ? 2 : 1][kLaneRows];  // of kInt5 and kInt6
    uint32 scales[4 * kHalves];
};

// The words of a row that a lane holds lie side by side.
DEV void load_words(uint32 (&to)[kLaneWords], const uint32* from) {
    struct alignas(4 * kLaneWords) Words {
        uint32 at[kLaneWords];
    };
    const Words words = *reinterpret_cast<const Words*>(from);
#pragma unroll
    for (int j = 0; j < kLaneWords; ++j) to[j] = words.at[j];
}

template <int kFormat, int kCols, int kHalves>
DEV void load_weights(BlockWords<kFormat, kCols, kHalves>& to, const uint8* quants,
                      const uint32* scales) {
    const auto* words = reinterpret_cast<const uint32*>(quants);
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
        const int row = lane_row(i);
#pragma unroll
        for (int h = 0; h < (kFormat == kInt8 ? 2 : 1); ++h)
            load_words(to.low[h][i], words + low_word(kFormat, row, h, lane_word(0)));
        if (kFormat == kInt5 || kFormat == kInt6) {
#pragma unroll
            for (int h = 0; h < (kFormat == kInt6 ? 2 : 1); ++h)
                to.more[h][i] = words[more_word(kFormat, row, h)];
        }
    }
#pragma unroll
    for (int i = 0; i < 4 * kHalves; ++i) to.scales[i] = scales[tile_row(i)];
}

// Tile `col` of those of rows.
template <int kCols, int kHalves>
DEV void load_x(RowWords<kCols, kHalves>& to, int col, const uint32* x, const RowScale* scales) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < RowWords<kCols, kHalves>::kRows; ++i)
            load_words(to.x[col][h][i], x + (h * kTileRows + lane_row(i)) * 4 + lane_word(0));
#pragma unroll
    for (int i = 0; i < 4 * kHalves; ++i) to.x_scales[col][i] = scales[tile_col(i)];
}

template <int kFormat, int kCols, int kHalves>
DEV void load_block(BlockWords<kFormat, kCols, kHalves>& to, const LanePlace<false>& at) {
    load_weights(to, at.quants, at.scales);
#pragma unroll
    for (int col = 0; col < kCols; ++col)
        load_x(to, col, at.x + col * at.x_stride, at.x_scales + col * at.scale_stride);
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

// The same of halves: a lane's words are runs (lanes.h), for sums may take columns in any order.
template <int kCols, int kHalves>
struct BlockWords<kHalf, kCols, kHalves> {
    LaneHalves w[2], x[kCols][2];
    float scales[4 * kHalves], x_scales[kCols][4 * kHalves];
};

constexpr int kHalfBlockWords = kBlock / 2;  // of a row

template <int kCols, int kHalves>
DEV void load_block(BlockWords<kHalf, kCols, kHalves>& to, const LanePlace<true>& at) {
    const auto* words = reinterpret_cast<const uint32*>(at.quants);
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i)
        load_run<kHalfBlockWords>(words + lane_row(i) * kHalfBlockWords, 0, i, to.w);
#pragma unroll
    for (int i = 0; i < 4 * kHalves; ++i) to.scales[i] = bits_to_float(at.scales[tile_row(i)]);
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        const uint32* x = at.x + col * at.x_stride;
        const RowScale* scales = at.x_scales + col * at.scale_stride;
#pragma unroll
        for (int i = 0; i < (kHalves == 2 ? kLaneRows : 1); ++i)
            load_run<kHalfBlockWords>(x + lane_row(i) * kHalfBlockWords, 0, i, to.x[col]);
#pragma unroll
        for (int i = 0; i < 4 * kHalves; ++i) to.x_scales[col][i] = scales[tile_col(i)].scale;
    }
}

template <int kCols, int kHalves>
DEV void add_block(Slice<kCols, kHalves>& slice, const BlockWords<kHalf, kCols, kHalves>& block) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        float sums[4 * kHalves] = {};
#pragma unroll
        for (int h = 0; h < 2; ++h) tile_add(sums, block.w[h], block.x[col][h]);
#pragma unroll
        for (int i = 0; i < 4 * kHalves; ++i)
            slice.acc[col][i] =
                multiply_add(sums[i], block.scales[i] * block.x_scales[col][i], slice.acc[col][i]);
    }
}

// One slice, for one tile of weights and kCols tiles of rows; `at` is the first block. kRoom blocks
// are loaded at once; where fewer are left, the first of them again, for one way through the code
// is fetched faster than two.
template <int kFormat, int kSlices, int kRoom, int kCols, int kHalves>
DEV void add_slice(Slice<kCols, kHalves>& slice, int n_blocks, int first,
                   LanePlace<kFormat == kHalf> at) {
    const int bytes = kFormat == kHalf ? kHalfBlockBytes : block_bytes_of(kFormat);
    at.advance(first, bytes);
    int n = (n_blocks - first + kSlices - 1) / kSlices;
#pragma unroll 1
    for (; n > 0; n -= kRoom) {
        BlockWords<kFormat, kCols, kHalves> words[kRoom];
#pragma unroll
        for (int i = 0; i < kRoom; ++i) {
            LanePlace<kFormat == kHalf> here = at;
            here.advance(i < n ? i * kSlices : 0, bytes);
            load_block(words[i], here);
        }
#pragma unroll
        for (int i = 0; i < kRoom; ++i)
            if (i < n) add_block(slice, words[i]);
        at.advance(kRoom * kSlices, bytes);
    }
}

template <int kSlices, int kRoom, int kCols, int kHalves>
DEV void add_slice_of(Slice<kCols, kHalves>& slice, int format, int n_blocks, int first,
                      const LanePlace<false>& at) {
    switch (format) {
        case kInt4: add_slice<kInt4, kSlices, kRoom>(slice, n_blocks, first, at); break;
        case kInt5: add_slice<kInt5, kSlices, kRoom>(slice, n_blocks, first, at); break;
        case kInt6: add_slice<kInt6, kSlices, kRoom>(slice, n_blocks, first, at); break;
        default: add_slice<kInt8, kSlices, kRoom>(slice, n_blocks, first, at);
    }
}

// Matrices of halves have kernels of their own.
template <int kSlices, int kRoom, int kCols, int kHalves>
DEV void add_slice_of(Slice<kCols, kHalves>& slice, int, int n_blocks, int first,
                      const LanePlace<true>& at) {
    add_slice<kHalf, kSlices, kRoom>(slice, n_blocks, first, at);
}

// Which part a tile is of.
DEV const LinearPart& part_of(const LinearArgs& a, int tile) {
    int p = 0;
    while (p + 1 < a.n_parts && tile >= a.parts[p + 1].first_tile) ++p;
    return a.parts[p];
}

// Where a tile's numbers and scales lie.
struct TilePlace {
    const uint8* quants;
    const uint32* scales;
    int quants_bytes, scales_bytes;
};

template <bool kOfHalves = false>
DEV TilePlace tile_place(const LinearArgs& a, const LinearPart& part, int tile) {
    const int bytes = (kOfHalves ? kHalfBlockBytes : block_bytes_of(part.format)) * a.n_blocks;
    return {part.quants + int64(tile) * bytes, part.scales + int64(tile) * a.n_blocks * kTileRows,
            bytes, a.n_blocks * kTileRows * 4};
}

// Where a tile is read from: shared memory, if it was copied there.
DEV TilePlace staged_place(const LinearArgs& a, const TilePlace& tile, const uint8* shared) {
    if (!kCopiesAhead || !a.staged_bytes) return tile;
    return {shared, reinterpret_cast<const uint32*>(shared + tile.quants_bytes), tile.quants_bytes,
            tile.scales_bytes};
}

// Have a tile's weights on their way while other kernels still run: to shared memory, or into the
// device's cache, with this block's share of what the next linear op reads.
template <int kThreads>
DEV void copy_tile(const TilePlace& tile, uint8* shared) {
    const auto* scales = reinterpret_cast<const uint8*>(tile.scales);
#pragma unroll 1
    for (int i = 16 * thread_index(); i < tile.quants_bytes; i += 16 * kThreads)
        copy_ahead(shared + i, tile.quants + i);
#pragma unroll 1
    for (int i = 16 * thread_index(); i < tile.scales_bytes; i += 16 * kThreads)
        copy_ahead(shared + tile.quants_bytes + i, scales + i);
    end_of_group();
}

DEV void prefetch_tile(const TilePlace& tile) {
    prefetch(tile.quants, tile.quants_bytes);
    prefetch(tile.scales, tile.scales_bytes);
}

template <int kThreads>
DEV void begin_tile(const LinearArgs& a, const TilePlace& tile, uint8* shared) {
    if (kCopiesAhead && a.staged_bytes)
        copy_tile<kThreads>(tile, shared);
    else if (thread_index() == 0)
        prefetch_tile(tile);
}

DEV void prefetch_ahead(const LinearArgs& a) {
    const int i = thread_index();
    if (i >= a.n_ahead) return;
    const Ahead& ahead = a.ahead[i];
    const int64 share = (ahead.bytes / n_blocks_x() + 127) / 128 * 128;
    const int64 first = block_x() * share, left = ahead.bytes - first;
    if (left > 0) prefetch(ahead.from + first, int(left < share ? left : share));
}

// Which column of the result a tile's row is of, and its partner in a pair.
struct Column {
    int n, pair;
    bool is_second;
};

DEV Column column_of(const LinearArgs& a, const LinearPart& part, int tile, int mine) {
    const int n = tile * kTileRows + mine;
    if (part.target == kWritten || part.target == kValue) return {n, 0, false};
    if (part.target == kGated) return {tile * (kTileRows / 2) + mine % 8, 0, mine >= 8};
    const int dims = 1 << a.turning.head_shift, in_head = n & (dims - 1);
    if (!a.turning.is_neox) return {n, in_head / 2, (mine & 1) != 0};
    const int pair = in_head / kTileRows * (kTileRows / 2) + mine % 8;
    return {n - in_head + pair + (mine < 8 ? 0 : dims / 2), pair, mine >= 8};
}

// What else goes into a result.
struct Extras {
    float bias, residual;
    Floats<2> turn;
};

// Those of them that no kernel computes.
DEV Extras constants_of(const LinearArgs& a, const Step& s, const LinearPart& part,
                        const Column& column, int row, bool is_there) {
    Extras extras = {};
    if (!is_there) return extras;
    if (part.bias) extras.bias = part.bias[column.n];
    if (part.target == kQuery || part.target == kKey) {
        // A single row's needs not be looked up.
        const int64 position =
            s.n_rows == 1 ? s.n_past : s.positions[a.is_selected ? s.out_rows[row] : row];
        const auto* table = reinterpret_cast<const Floats<2>*>(a.turning.table);
        extras.turn = table[(position << a.turning.head_shift >> 1) + column.pair];
    }
    return extras;
}

DEV int cache_block_of(const Step& s, const LinearPart& part, int row) {
    const bool is_cached = part.target == kKey || part.target == kValue;
    return is_cached ? s.blocks[(s.n_past + row) / kKvBlock] : 0;
}

// A result with what else goes into it, turned, or gated where it is the gate. All lanes of a warp
// come along, for they show each other theirs, also where their tiles are of different parts.
DEV float finished(const LinearArgs& a, const LinearPart& part, const Column& column, float sum,
                   const Extras& extras) {
    sum += extras.bias;  // or nothing, which is added as well
    sum += extras.residual;
    const bool is_eight_apart = part.target == kGated || a.turning.is_neox;
    const float other = shuffle_xor(sum, is_eight_apart ? 8 : 1);
    if (part.target == kGated) return silu(sum) * other;
    if (part.target != kQuery && part.target != kKey) return sum;
    const float* turn = extras.turn.at;
    // x cos - y sin and x sin + y cos, where x is the first of the two.
    return column.is_second ? multiply_add(other, turn[1], sum * turn[0])
                            : multiply_add(sum, turn[0], -(other * turn[1]));
}

// A key's or a value's dimension as the cache has it.
struct CachePlace {
    int head, at;  // in halves from the head on
};

DEV CachePlace cache_place(const LinearArgs& a, const Step& s, const LinearPart& part, int row,
                           int n) {
    const KvPlace& kv = a.turning.kv;
    const int offset = (s.n_past + row) % kKvBlock;
    const int head = n >> a.turning.head_shift, dim = n & ((1 << a.turning.head_shift) - 1);
    return {head, part.target == kKey ? key_at(kv, offset, dim) : value_at(kv, offset, dim)};
}

// A finished result, to where it goes.
DEV void put_result(const LinearArgs& a, const Step& s, const LinearPart& part,
                    const Column& column, int row, float value, int cache_block) {
    if (part.target == kKey || part.target == kValue) {
        const CachePlace to = cache_place(a, s, part, row, column.n);
        kv_head(a.turning.kv, cache_block, to.head)[to.at] = float_to_half(value);
        return;
    }
    const bool is_gated = part.target == kGated;
    if (is_gated && column.is_second) return;
    part.out[int64(row) * (is_gated ? part.n_out / 2 : part.n_out) + column.n] = value;
}

// A result, finished and written where it goes. All lanes of a warp come along.
DEV void write_result(const LinearArgs& a, const Step& s, const LinearPart& part,
                      const Column& column, bool is_there, int row, float sum, const Extras& extras,
                      int cache_block) {
    sum = finished(a, part, column, sum, extras);
    if (is_there) put_result(a, s, part, column, row, sum, cache_block);
}

// A block has a tile of weights, a slice for each warp, and kCols tiles of rows or half of one.
// kRoom blocks of a slice are on their way at once, as many as the registers have room for; or, of
// matrices with many blocks for each multiprocessor, fewer of more blocks.
template <int kCols, int kHalves, int kSlices, int kRoom, bool kOfHalves = false>
DEV void linear(const LinearArgs& a) {
    constexpr int kShownRows = kHalves == 1 ? 8 : kTileRows;
    SHARED float shown[kSlices][kShownRows][kTileRows + 1];  // (slice, row of x, row of weight)
    const LinearPart& part = part_of(a, block_x());
    const int tile = block_x() - part.first_tile;
    TilePlace place = tile_place<kOfHalves>(a, part, tile);
    if (kCols <= 2 && block_y() == 0) {
        begin_tile<kSlices * kWarp>(a, place, launch_shared());
        place = staged_place(a, place, launch_shared());
        prefetch_ahead(a);
    }
    const Step& step = *a.step;
    const int n_rows = rows_of(step, a.is_selected), first_col = block_y() * kCols;
    const int mine_row = thread_index() >> 4;
    const Column column = column_of(a, part, tile, thread_index() & 15);
    const bool is_mine = mine_row < kTileRows && column.n < part.n_out;
    // On their way while the products are added up, where there are registers for it.
    constexpr bool kIsEarly = kCols <= (kOfHalves ? 1 : 2);
    Extras extras[kCols];
    const auto load_constants = [&](int col) {
        const int row = (first_col + col) * kTileRows + mine_row;
        extras[col] = constants_of(a, step, part, column, row, is_mine && row < n_rows);
    };
    const auto load_residual = [&](int col) {
        const int row = (first_col + col) * kTileRows + mine_row;
        if (is_mine && part.residual && row < n_rows)
            extras[col].residual = part.residual[int64(row) * part.n_out + column.n];
    };
#pragma unroll
    for (int col = 0; kIsEarly && col < kCols; ++col) load_constants(col);
    begin_after_others();
    if (first_col * kTileRows >= n_rows) return;
#pragma unroll
    for (int col = 0; kIsEarly && col < kCols; ++col) load_residual(col);
    if (kCols <= 2 && kCopiesAhead) {
        groups_left<0>();
        block_sync();
    }
    const LanePlace<kOfHalves> at{
        place.quants,
        place.scales,
        static_cast<const uint32*>(a.x) + int64(first_col) * a.n_blocks * kXWords<kOfHalves>,
        reinterpret_cast<const RowScale*>(a.x_scales) + int64(first_col) * a.n_blocks * kTileRows,
        int64(a.n_blocks) * kXWords<kOfHalves>,
        int64(a.n_blocks) * kTileRows};
    Slice<kCols, kHalves> slice = {};
    add_slice_of<kSlices, kRoom>(slice, part.format, a.n_blocks, warp_index(), at);
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
        if (col > 0) block_sync();
#pragma unroll
        for (int i = 0; i < 4 * kHalves; ++i)
            shown[warp_index()][tile_col(i)][tile_row(i)] = slice.acc[col][i];
        block_sync();
        if (mine_row >= kShownRows) continue;  // whole warps
        if (!kIsEarly) load_constants(col), load_residual(col);
        const int row = (first_col + col) * kTileRows + mine_row, mine = thread_index() & 15;
        float sum = shown[0][mine_row][mine];
#pragma unroll
        for (int i = 1; i < kSlices; ++i) sum += shown[i][mine_row][mine];
        const bool is_there = is_mine && row < n_rows;
        write_result(a, step, part, column, is_there, row, sum, extras[col],
                     is_there ? cache_block_of(step, part, row) : 0);
    }
}

KERNEL(linear_8, kFewSlices* kWarp, LinearArgs) {
    linear<1, kFewHalves, kFewSlices, kFewHalves == 1 ? 4 : 2>(a);
}
DENSE_KERNEL(linear_16, kFewSlices* kWarp, 3, LinearArgs) {
    linear<1, 2, kFewSlices, 2>(a);
}
DENSE_KERNEL(linear_wide_16, kFewSlices* kWarp, 4, LinearArgs) {
    linear<1, 2, kFewSlices, 1>(a);
}
KERNEL(linear_32, kFewSlices* kWarp, LinearArgs) {
    linear<2, 2, kFewSlices, 2>(a);
}
DENSE_KERNEL(linear_wide_32, kFewSlices* kWarp, 3, LinearArgs) {
    linear<2, 2, kFewSlices, 1>(a);
}
KERNEL(linear_64, kFewSlices* kWarp, LinearArgs) {
    linear<4, 2, kFewSlices, 1>(a);
}
KERNEL(linear_tall_8, kManySlices* kWarp, LinearArgs) {
    linear<1, kFewHalves, kManySlices, kFewHalves == 1 ? 4 : 2>(a);
}
KERNEL(linear_tall_16, kManySlices* kWarp, LinearArgs) {
    linear<1, 2, kManySlices, 2>(a);
}
KERNEL(linear_tall_32, kManySlices* kWarp, LinearArgs) {
    linear<2, 2, kManySlices, 2>(a);
}
KERNEL(linear_half_8, kFewSlices* kWarp, LinearArgs) {
    linear<1, kFewHalves, kFewSlices, kFewHalves == 1 ? 4 : 2, true>(a);
}
KERNEL(linear_half_16, kFewSlices* kWarp, LinearArgs) {
    linear<1, 2, kFewSlices, 2, true>(a);
}
KERNEL(linear_half_32, kFewSlices* kWarp, LinearArgs) {
    linear<2, 2, kFewSlices, 2, true>(a);
}
KERNEL(linear_half_64, kFewSlices* kWarp, LinearArgs) {
    linear<4, 2, kFewSlices, 1, true>(a);
}
KERNEL(linear_tall_half_8, kManySlices* kWarp, LinearArgs) {
    linear<1, kFewHalves, kManySlices, kFewHalves == 1 ? 4 : 2, true>(a);
}
KERNEL(linear_tall_half_16, kManySlices* kWarp, LinearArgs) {
    linear<1, 2, kManySlices, 2, true>(a);
}
KERNEL(linear_tall_half_32, kManySlices* kWarp, LinearArgs) {
    linear<2, 2, kManySlices, 2, true>(a);
}
