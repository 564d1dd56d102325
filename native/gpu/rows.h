// Ops that work on rows of activations alone, one block of threads per row and 256 columns.
#pragma once

#include "quants.h"
#include "step.h"
#include "stretches.h"

struct EmbedArgs {
    const Step* step;
    const uint8* quants;
    const uint32* scales;
    float* out;
    int format, n_cols;
};

DEV void embed_at(const EmbedArgs& a, int row, int token) {
    const int col = block_x() * kRowThreads + thread_index();
    if (col >= a.n_cols) return;
    if (a.format == kFloat) {
        a.out[int64(row) * a.n_cols + col] =
            reinterpret_cast<const float*>(a.quants)[int64(token) * a.n_cols + col];
        return;
    }
    const int64 block = int64(token / kTileRows) * (a.n_cols / kBlock) + col / kBlock;
    const int bytes = a.format == kHalf ? kHalfBlockBytes : block_bytes_of(a.format);
    a.out[int64(row) * a.n_cols + col] =
        weight_value(a.format, a.quants + block * bytes, a.scales + block * kTileRows,
                     token % kTileRows, col % kBlock);
}

KERNEL(embed, kRowThreads, EmbedArgs) {
    begin_after_others();
    const Step& s = *a.step;
    const int row = block_y();
    if (row < s.n_rows) embed_at(a, row, s.tokens[row]);
}

// Makes of a step of one row the one that follows it: the next position, of the token just chosen,
// which is looked up.
struct AdvanceArgs {
    EmbedArgs embed;
    Step* step;
    const int* chosen;
    int* told;  // where the host reads what that one chooses
};

KERNEL(advance, kRowThreads, AdvanceArgs) {
    begin_after_others();
    const int chosen = a.chosen[0];  // -1 where the logits were no numbers
    const int token = chosen < 0 ? 0 : chosen;
    embed_at(a.embed, 0, token);
    if (block_x() != 0 || thread_index() != 0) return;
    Step& s = *a.step;
    ++s.n_past;
    ++const_cast<int*>(s.positions)[0];
    const_cast<int*>(s.tokens)[0] = token;
    s.told = a.told;
}

struct NormArgs {
    const Step* step;
    const float* x;
    const float* weight;
    float* out;
    int width, group, is_selected;  // `group` numbers are normalized together: a row, or a head
    float eps;
};

KERNEL(rms_norm, kRowThreads, NormArgs) {
    SHARED float squares[kMostStretches];
    begin_after_others();
    const Step& s = *a.step;
    const int64 row = block_y();
    if (row >= rows_of(s, a.is_selected)) return;
    const int64 first = row * a.width + block_x() * a.group;
    for (int i = warp_index(); i < n_stretches_of(a.group); i += kRowThreads / kWarp) {
        const int col = i * kStretch + kRun * lane_index();
        const float sum = squares_of(stretch_of(a.x + first, col, a.group));
        if (lane_index() == 0) squares[i] = sum;
    }
    block_sync();
    const float inverse = inverse_of(squares, a.group, a.eps);
    for (int i = thread_index(); i < a.group; i += kRowThreads)
        a.out[first + i] = a.x[first + i] * inverse * a.weight[i];
}

DEV float silu(float x) {
    return x * inverse(1.0f + exp_of(-x));
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

// Of several x side by side, each from its column on.
constexpr int kMostCopies = 8;

struct CopyPart {
    const float* x;
    int width, first;
};

// out[row, first + i] = x[row, i] of each part; or the selected rows of x, where `takes_selected`.
struct CopyArgs {
    const Step* step;
    float* out;
    int n_parts, out_width, is_selected, takes_selected;
    CopyPart parts[kMostCopies];
};

KERNEL(copy_rows, kRowThreads, CopyArgs) {
    begin_after_others();
    const Step& s = *a.step;
    const int col = block_x() * kRowThreads + thread_index();
    const int64 row = block_y();
    if (row >= rows_of(s, a.is_selected)) return;
    const int64 from = a.takes_selected ? s.out_rows[row] : row;
    for (int i = 0; i < a.n_parts; ++i) {
        const CopyPart& part = a.parts[i];
        const int at = col - part.first;
        if (at >= 0 && at < part.width)
            a.out[row * a.out_width + col] = part.x[from * part.width + at];
    }
}
