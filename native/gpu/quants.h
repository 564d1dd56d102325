// Quantized matrices as they lie on the device (written by engine/backends/gpu/packing.py).
//
// Tiles of 16 rows by blocks of 32 columns, all blocks of a tile in a row. The numbers of a block:
//   kInt4  [row][16]        low nibbles are columns 0..15, high ones 16..31; value d * q + m
//   kInt5  kInt4's, then [row] 32 bits: the fifth bit of each column;        value d * q + m
//   kInt6  kInt4's, then [row][half] 32 bits: two more bits of each column;  value d * (q - 32),
//          a d for each half of the columns
//   kInt8  [half][row][16];                                                  value d * q
//   kHalf  [row][column] of halves;                                          value d * q
//   kFloat [row][column] of floats, for embedding tables alone, without tiles
// and a word of scales for each row: two halves, (d, m), (d of each half) or (d, 0), or of kHalf
// the float d, a power of two by which the row's largest number is below 2^8: halves reach as far
// as floats do, with all their bits down to 2^-21 of it.
// Of the columns 4 j + c of a half h, byte c has a bit more as its bit 4 h + j, two as 2 j and
// next. So a warp's loads of one word a lane are of neighbouring words, whatever its lanes hold.
//
// Activations are rounded to int8 by the block, and lie as kInt8 does, with two floats a row and
// block: the scale, and the scale times the sum of the rounded numbers, for what minima cost. Those
// that meet kHalf are rounded to halves, and lie and are scaled as those do.
#pragma once

#include "platform.h"

constexpr int kTileRows = 16, kBlock = 32;
enum Format { kInt4 = 0, kInt5 = 1, kInt6 = 2, kInt8 = 3, kFloat = 4, kHalf = 5 };

// Of the formats that meet int8: their kernels have no halves to tell from them.
DEV constexpr int block_bytes_of(int format) {
    return kTileRows * (format == kInt4 ? 16 : format == kInt5 ? 20 : format == kInt6 ? 24 : 32);
}
constexpr int kHalfBlockBytes = kTileRows * kBlock * 2;

// Where the word lies that has word j of half h of one row, and the one with the rest of its bits.
DEV int low_word(int format, int row, int h, int j) {
    return format == kInt8 ? (h * kTileRows + row) * 4 + j : row * 4 + j;
}
DEV int more_word(int format, int row, int h) {
    return kTileRows * 4 + (format == kInt5 ? row : row * 2 + h);
}

// Word j of half h of one row of a block, of the words it lies in: four int8 columns, 16 h + 4 j
// and the next.
DEV uint32 weight_word(int format, uint32 word, uint32 more, int h, int j) {
    if (format == kInt8) return word;
    const uint32 low = word >> (4 * h) & 0x0f0f0f0fu;
    if (format == kInt4) return low;
    if (format == kInt5) return low | (more >> (4 * h + j) & 0x01010101u) << 4;
    const uint32 q = low | (more >> (2 * j) & 0x03030303u) << 4;
    // q - 32 in every byte: no byte borrows from its neighbour with the top bit set meanwhile.
    return ((q | 0x80808080u) - 0x20202020u) ^ 0x80808080u;
}

DEV float low_half(uint32 pair) {
    return half_to_float(uint16(pair));
}
DEV float high_half(uint32 pair) {
    return half_to_float(uint16(pair >> 16));
}

// Element (row, column) as a number.
DEV float weight_value(int format, const uint8* block, const uint32* scales, int row, int col) {
    if (format == kHalf) {
        const auto* numbers = reinterpret_cast<const uint16*>(block);
        return bits_to_float(scales[row]) * half_to_float(numbers[row * kBlock + col]);
    }
    const int h = col >> 4, j = col >> 2 & 3;
    const auto* words = reinterpret_cast<const uint32*>(block);
    const bool has_more = format == kInt5 || format == kInt6;
    const uint32 word = weight_word(format, words[low_word(format, row, h, j)],
                                    has_more ? words[more_word(format, row, h)] : 0, h, j);
    const float q = float(int8(word >> (8 * (col & 3))));
    const uint32 pair = scales[row];
    if (format == kInt6) return (h ? high_half(pair) : low_half(pair)) * q;
    return multiply_add(low_half(pair), q, high_half(pair));
}
