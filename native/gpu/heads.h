// Queries and keys whose heads are normalized each for itself, turned and stored with the values,
// by one kernel: what rms_norm and rope_write do one after the other, to the bit.
#pragma once

#include "kv.h"
#include "stretches.h"

// As RopeWriteArgs; queries and keys come from elsewhere, and go through their norms.
struct HeadsArgs {
    RopeWriteArgs turning;
    const float* q_from;    // like turning.q
    const float* k_from;    // like turning.k
    const float* q_weight;  // (D)
    const float* k_weight;
    float eps;
    int pad;
};

// A warp has a head of one stretch at most.
constexpr int kMostHeadDims = kStretch, kHeadWarps = kRowThreads / kWarp;

DEV void normalize_head(const float* from, const float* weight, int dims, float eps, float* to) {
    const int first = kRun * lane_index();
    const Stretch x = stretch_of(from, first, dims);
    const float squares = squares_of(x);
    const float inverse = inverse_of(&squares, dims, eps);
#pragma unroll
    for (int j = 0; j < kRun; ++j)
        if (first + j < dims) to[first + j] = x.at[j] * inverse * weight[first + j];
    warp_sync();
}

// A normalized head, turned: write(dim, value) has each of its numbers.
template <class Write>
DEV void turn_head(const RopeWriteArgs& a, const float* head, int position, const Write& write) {
    const float* table = a.table + int64(position) * a.n_pairs * 2;
    for (int pair = lane_index(); pair < a.n_pairs; pair += kWarp) {
        const Pair p = turned(head, pair, a.n_pairs, a.is_neox, table + 2 * pair);
        write(p.first, p.x);
        write(p.second, p.y);
    }
    for (int dim = 2 * a.n_pairs + lane_index(); dim < a.kv.head_dim; dim += kWarp)
        write(dim, head[dim]);
}

KV_KERNEL(heads_write, kRowThreads, HeadsArgs) {
    SHARED float heads[kHeadWarps][kMostHeadDims];
    begin_after_others();
    const RopeWriteArgs& t = a.turning;
    const Step& s = *t.step;
    const int row = block_y(), dims = t.kv.head_dim, n_kv = t.kv.n_kv;
    float* mine = heads[warp_index()];
    int head = block_x() * kHeadWarps + warp_index();
    if (head < t.n_head) {
        if (row >= rows_of(s, t.is_q_selected)) return;
        const int64 at = (int64(row) * t.n_head + head) * dims;
        normalize_head(a.q_from + at, a.q_weight, dims, a.eps, mine);
        const int position = s.positions[t.is_q_selected ? s.out_rows[row] : row];
        turn_head(t, mine, position, [&](int dim, float value) { t.q[at + dim] = value; });
        return;
    }
    head -= t.n_head;
    if (row >= s.n_rows) return;
    const int slot = s.n_past + row, offset = slot % kKvBlock, block = s.blocks[slot / kKvBlock];
    if (head < n_kv) {
        const int64 at = (int64(row) * n_kv + head) * dims;
        normalize_head(a.k_from + at, a.k_weight, dims, a.eps, mine);
        uint16* to = kv_head(t.kv, block, head);
        turn_head(t, mine, s.positions[row], [&](int dim, float value) {
            if (kIsBytes)
                t.k[at + dim] = value;
            else
                to[key_at(t.kv, offset, dim)] = float_to_half(value);
        });
        return;
    }
    head -= n_kv;
    if (kIsBytes || head >= n_kv) return;
    const float* v = t.v + (int64(row) * n_kv + head) * dims;
    uint16* to = kv_head(t.kv, block, head);
    for (int dim = lane_index(); dim < dims; dim += kWarp)
        to[value_at(t.kv, offset, dim)] = float_to_half(v[dim]);
}
