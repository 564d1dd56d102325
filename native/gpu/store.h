// How keys and values become q8_0, by the rule of the processor's cache
// (native/cpu/kernels/kv_tile.h).
#pragma once

#include "kv.h"

// Stores turned keys and values (T, K * D), each 32 dimensions rounded by a scale of their own.
// Keys are rotated first, so that no single dimension takes all the range of its group, and queries
// (T or R, H * D) in place, which leaves their products as they were. Any of them may be missing.
struct KvStoreArgs {
    const Step* step;
    KvPlace kv;
    float* q;
    const float* k;
    const float* v;
    int n_head, is_q_selected;
};

// A warp's number as a Walsh-Hadamard transform has it: orthogonal but for a factor of 32, of which
// queries and keys take a share each that changes no digit.
constexpr float kQueryShare = 1.0f / 4, kKeyShare = 1.0f / 8;

DEV float rotated(float x) {
#pragma unroll
    for (int distance = kKvGroup / 2; distance > 0; distance /= 2) {
        const float other = shuffle_xor(x, distance);
        x = lane_index() & distance ? other - x : x + other;
    }
    return x;
}

// A number of a group as int8. A group with one that is none gets a scale that is none, too, so
// that the fault stays visible.
struct KvRounded {
    int8 number;
    uint16 scale;
};

DEV KvRounded kv_rounded(float x) {
    const float size = magnitude(x), most = warp_max(size < 3.0e38f ? size : 3.4e38f);
    if (!(most < 3.0e38f)) return {0, 0x7e00};
    const float factor = most >= 0x1p-120f ? 127.0f / most : 0.0f;
    return {int8(nearest(x * factor)), float_to_half(most / 127.0f)};
}

// A warp for each row and group of a head's dimensions: of the queries, of the keys, of the values.
KV_KERNEL(kv_store, kRowThreads, KvStoreArgs) {
    begin_after_others();
    const Step& s = *a.step;
    const int row = block_y(), dims = a.kv.head_dim, n_groups = dims / kKvGroup;
    const int n_of_q = a.n_head * n_groups, n_of_kv = a.kv.n_kv * n_groups;
    int i = block_x() * (kRowThreads / kWarp) + warp_index();
    if (i < n_of_q) {
        if (row >= rows_of(s, a.is_q_selected)) return;
        float* q = a.q + (int64(row) * n_of_q + i) * kKvGroup + lane_index();
        *q = rotated(*q) * kQueryShare;
        return;
    }
    i -= n_of_q;
    if (row >= s.n_rows || !a.k || i >= 2 * n_of_kv) return;
    const bool is_key = i < n_of_kv;
    if (!is_key) i -= n_of_kv;
    const float x = (is_key ? a.k : a.v)[(int64(row) * n_of_kv + i) * kKvGroup + lane_index()];
    const KvRounded rounded = kv_rounded(is_key ? rotated(x) * kKeyShare : x);
    const int slot = s.n_past + row, offset = slot % kKvBlock;
    const int dim = i % n_groups * kKvGroup + lane_index();
    uint16* head = kv_head(a.kv, s.blocks[slot / kKvBlock], i / n_groups);
    const int at = is_key ? key_at(a.kv, offset, dim) : value_at(a.kv, offset, dim);
    kv_numbers(head)[at] = KvNumber(rounded.number);
    if (lane_index() > 0) return;
    head[is_key ? key_scale_at(dims, offset, dim) : value_scale_at(dims, offset, dim)] =
        rounded.scale;
}
