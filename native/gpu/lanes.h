// How the products of queries and keys, and of their weights and values, lie in lanes, so that one
// kind of product becomes the operand of the next without leaving registers.
//
// Where lanes hold two rows (quads of lanes share eight; NVIDIA), queries are the rows of a tile;
// where they hold one (halves of a warp share 16; AMD), the columns. Either way a lane's products
// are of the queries that it holds as an operand.
#pragma once

#include "platform.h"

constexpr bool kIsQuads = kLaneRows == 2;

// tile += rows cols^T, of the lane's rows.
DEV void rows_add(float (&tile)[8], const LaneHalves& rows, const LaneHalves& cols) {
    if (kIsQuads)
        tile_add(tile, rows, cols);
    else
        tile_add(tile, cols, rows);
}

// Which of the lane's rows product i of a tile is of, and which of the 16 others.
DEV int element_row(int i) {
    return kIsQuads ? (i >> 1) & 1 : 0;
}
DEV int element_col(int i) {
    return kIsQuads ? tile_col(i) : tile_row(i);
}

// Over the lanes that have products of a row.
DEV float row_max(float v) {
    if (!kIsQuads) return maximum(v, shuffle_xor(v, 16));
    v = maximum(v, shuffle_xor(v, 1));
    return maximum(v, shuffle_xor(v, 2));
}
DEV float row_sum(float v) {
    if (!kIsQuads) return v + shuffle_xor(v, 16);
    v += shuffle_xor(v, 1);
    return v + shuffle_xor(v, 2);
}

// Products as halves, 16 columns of an operand.
DEV void as_rows(const float (&tile)[8], LaneHalves& rows) {
    if constexpr (kIsQuads) {
#pragma unroll
        for (int i = 0; i < 8; i += 2) rows[element_row(i)][i >> 2] = halves(tile[i], tile[i + 1]);
    } else if constexpr (kHalfWords == 4) {
#pragma unroll
        for (int j = 0; j < 4; ++j) rows[0][j] = halves(tile[2 * j], tile[2 * j + 1]);
    } else {  // even and odd products lie in two lanes
        const bool is_even = lane_index() < 16;
#pragma unroll
        for (int i = 0; i < 8; i += 2) {
            const uint32 mine = halves(tile[i], tile[i + 1]), other = from_other_half(mine);
            const uint32 even = is_even ? mine : other, odd = is_even ? other : mine;
            rows[0][i] = (even & 0xffff) | odd << 16;
            rows[0][i + 1] = even >> 16 | (odd & 0xffff0000u);
        }
    }
}

// Which of a row's n words a lane holds as its f-th, counted through tiles of 16 columns: runs of
// four lie side by side, to be loaded at once. Sums over columns may take them in any order that is
// the same on both sides.
DEV int run_word(int f, int n) {
    if (!kIsQuads) return kHalfWords == 8 ? f : 8 * (f >> 2) + 4 * (lane_index() >> 4) + (f & 3);
    const int quarter = lane_index() & 3;  // of 16 words, or of each 32
    return n == 16 ? 4 * quarter + f : 4 * (f & ~7) + 8 * quarter + (f & 7);
}

// Of 32 positions: which a lane's row i of tile c (0, 1) has to be so that as_rows of their
// products meets words of runs, and which one product i is of.
DEV int run_row(int c, int i) {
    if (!kIsQuads) return 16 * c + lane_row(i);
    return 8 * (lane_index() >> 3) + 4 * c + 2 * i + ((lane_index() >> 2) & 1);
}
DEV int run_col(int c, int i) {
    if (!kIsQuads) return 16 * c + element_col(i);
    return 8 * (lane_index() & 3) + 4 * c + 2 * (i >> 2) + (i & 1);
}

// Between rows of n words in shared memory, so that lanes that load runs at once use all banks.
constexpr int stride_of(int n) {
    return kIsQuads && n == 16 ? n : n + 4;
}
