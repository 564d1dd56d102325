// Keys and values in blocks of 32 positions, and what writes them.
//
// A block holds every layer's numbers: of each head the keys [32][D], then the values turned
// [D][32], so that the matrix units read whole words of both: two dimensions of a key, two
// positions of a dimension. In f16 they are halves. In q8_0 they are int8, and behind them lie as
// halves the scales of the keys [D / 32][32] and of the values [D / 32][32], of 32 dimensions of a
// position; store.h makes them.
//
// Which of them is known when a kernel is compiled: kernels.cu has those of f16, kernels_q8.cu
// those of q8_0, which are called so.
#pragma once

#include "step.h"
#include "threads.h"

#if defined(KV_Q8_0)
constexpr bool kIsBytes = true;
using KvNumber = int8;
#define KV_KERNEL(name, threads, Args) KERNEL(name##_q8, threads, Args)
#define DENSE_KV_KERNEL(name, threads, n_blocks, Args) \
    DENSE_KERNEL(name##_q8, threads, n_blocks, Args)
#else
constexpr bool kIsBytes = false;
using KvNumber = uint16;
#define KV_KERNEL(name, threads, Args) KERNEL(name, threads, Args)
#define DENSE_KV_KERNEL(name, threads, n_blocks, Args) DENSE_KERNEL(name, threads, n_blocks, Args)
#endif

// What a kernel takes of two kinds.
template <class OfBytes, class OfHalves, bool kOfBytes = kIsBytes>
struct OfCache {
    using Type = OfHalves;
};
template <class OfBytes, class OfHalves>
struct OfCache<OfBytes, OfHalves, true> {
    using Type = OfBytes;
};

constexpr int kKvGroup = 32;  // dimensions that share a scale
// What a head's dimension takes of a block: engine/backends/gpu/kv.py.
constexpr int kDimHalves = kIsBytes ? kKvBlock + 2 : 2 * kKvBlock;

struct KvPlace {
    uint16* memory;
    int64 block_stride, layer_offset;  // in halves
    int n_kv, head_dim;
};

// Where a head's keys of a block begin.
DEV uint16* kv_head(const KvPlace& kv, int block, int head) {
    return kv.memory + block * kv.block_stride + kv.layer_offset +
           int64(head) * kDimHalves * kv.head_dim;
}
DEV KvNumber* kv_numbers(uint16* head) {
    return reinterpret_cast<KvNumber*>(head);
}

DEV int key_at(const KvPlace& kv, int offset, int dim) {
    return offset * kv.head_dim + dim;
}
DEV int value_at(const KvPlace& kv, int offset, int dim) {
    return (kv.head_dim + dim) * kKvBlock + offset;
}

// Where the scale lies, in halves from the head on.
DEV int key_scale_at(int dims, int offset, int dim) {
    return kKvBlock * dims + dim / kKvGroup * kKvBlock + offset;
}
DEV int value_scale_at(int dims, int offset, int dim) {
    return dims / kKvGroup * kKvBlock + key_scale_at(dims, offset, dim);
}

// Turns queries (T or R, H * D) in place, and keys (T, K * D) on their way into the cache with the
// values; in q8_0, whose scales are known when all of a key is, in place, too, and no more. Without
// queries, or without pairs to turn, it does the rest.
struct RopeWriteArgs {
    const Step* step;
    KvPlace kv;
    float* q;
    float* k;
    const float* v;
    const float* table;  // (positions, n_pairs, 2): cosine and sine
    int n_head, n_pairs, is_neox, is_q_selected;
};

// One pair of dimensions of a head, turned by its row's position.
struct Pair {
    int first, second;
    float x, y;
};

DEV Pair turned(const float* head, int pair, int n_pairs, int is_neox, const float* turn) {
    const int first = is_neox ? pair : 2 * pair, second = is_neox ? pair + n_pairs : 2 * pair + 1;
    const float x = head[first], y = head[second];
    return {first, second, multiply_add(x, turn[0], -(y * turn[1])),
            multiply_add(x, turn[1], y * turn[0])};
}

KV_KERNEL(rope_write, kRowThreads, RopeWriteArgs) {
    begin_after_others();
    const Step& s = *a.step;
    const int row = block_y(), dims = a.kv.head_dim, n_kv = a.kv.n_kv;
    int i = block_x() * kRowThreads + thread_index();
    const int n_turned = a.n_pairs, n_kept = dims - 2 * n_turned;
    if (i < a.n_head * n_turned) {  // a pair of a query
        if (row >= rows_of(s, a.is_q_selected)) return;
        const int position = s.positions[a.is_q_selected ? s.out_rows[row] : row];
        float* head = a.q + (int64(row) * a.n_head + i / n_turned) * dims;
        const Pair p = turned(head, i % n_turned, n_turned, a.is_neox,
                              a.table + (int64(position) * n_turned + i % n_turned) * 2);
        head[p.first] = p.x;
        head[p.second] = p.y;
        return;
    }
    i -= a.n_head * n_turned;
    if (row >= s.n_rows) return;
    const int slot = s.n_past + row, offset = slot % kKvBlock, block = s.blocks[slot / kKvBlock];
    if (i < n_kv * n_turned) {  // a pair of a key
        const int head = i / n_turned, pair = i % n_turned;
        float* k = a.k + (int64(row) * n_kv + head) * dims;
        const Pair p = turned(k, pair, n_turned, a.is_neox,
                              a.table + (int64(s.positions[row]) * n_turned + pair) * 2);
        if (kIsBytes) {
            k[p.first] = p.x;
            k[p.second] = p.y;
            return;
        }
        uint16* to = kv_head(a.kv, block, head);
        to[key_at(a.kv, offset, p.first)] = float_to_half(p.x);
        to[key_at(a.kv, offset, p.second)] = float_to_half(p.y);
        return;
    }
    i -= n_kv * n_turned;
    if (kIsBytes) return;
    if (i < n_kv * n_kept) {  // a key's dimension that is not turned
        const int head = i / n_kept, dim = 2 * n_turned + i % n_kept;
        const float value = a.k[(int64(row) * n_kv + head) * dims + dim];
        kv_head(a.kv, block, head)[key_at(a.kv, offset, dim)] = float_to_half(value);
        return;
    }
    i -= n_kv * n_kept;
    if (i >= n_kv * dims) return;
    const float value = a.v[int64(row) * n_kv * dims + i];
    kv_head(a.kv, block, i / dims)[value_at(a.kv, offset, i % dims)] = float_to_half(value);
}

// Moves positions of every layer, one after another; positions are block * 32 + offset.
constexpr int kMostMoves = 64;

struct KvMoveArgs {
    uint16* memory;
    const int64* layers;  // (n_layers, 3): offset in halves, heads, D
    int64 block_stride;
    int n_moves;
    int moves[kMostMoves][2];  // from, to
    int pad;
};

// A dimension of a head, and what belongs to it; no other thread reads or writes the same.
DEV void move_number(const KvPlace& kv, int first, int second, int head, int dim) {
    uint16* source = kv_head(kv, first / kKvBlock, head);
    uint16* target = kv_head(kv, second / kKvBlock, head);
    const int from = first % kKvBlock, to = second % kKvBlock, dims = kv.head_dim;
    kv_numbers(target)[key_at(kv, to, dim)] = kv_numbers(source)[key_at(kv, from, dim)];
    kv_numbers(target)[value_at(kv, to, dim)] = kv_numbers(source)[value_at(kv, from, dim)];
    if (!kIsBytes || dim % kKvGroup > 0) return;
    target[key_scale_at(dims, to, dim)] = source[key_scale_at(dims, from, dim)];
    target[value_scale_at(dims, to, dim)] = source[value_scale_at(dims, from, dim)];
}

KV_KERNEL(kv_move, kRowThreads, KvMoveArgs) {
    begin_after_others();
    const int64* layer = a.layers + 3 * block_x();
    const KvPlace kv{a.memory, a.block_stride, layer[0], int(layer[1]), int(layer[2])};
    for (int i = thread_index(); i < kv.n_kv * kv.head_dim; i += kRowThreads) {
        const int head = i / kv.head_dim, dim = i % kv.head_dim;
#pragma unroll 1
        for (int n = 0; n < a.n_moves; ++n)
            move_number(kv, a.moves[n][0], a.moves[n][1], head, dim);
    }
}
