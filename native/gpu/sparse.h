// Block-sparse attention (engine/ops.py: BlockSparse; SPEC C.6), by the rule of
// native/cpu/sparse_blocks.cpp: each query head sees, of the whole blocks of keys before the step,
// the first, the nearest and those that score at least alpha times the best. Blocks are whole
// splits: what is seen is merged as prefill.h merges all, so where every block is selected the bits
// are those of dense attention.
#pragma once

#include "prefill.h"

constexpr int kMostSparseBlocks = 1024;  // engine/backends/gpu/sparse.py

struct SparseArgs {
    AttentionArgs attention;
    float* means;   // (K, D, most_blocks) of the keys of each block
    float* shares;  // (T or R, H, most_blocks) of a row's attention, as the means tell it
    int* splits;    // (H, 1 + most_blocks * block / 64): how many are selected, and which
    int block, n_sink, n_window, most_blocks;
    float alpha;
    int pad;
};

DEV int sparse_blocks(const SparseArgs& a, const Step& s) {
    return s.n_past / a.block;
}

// Two dimensions of a key of a cache in q8_0.
DEV uint32 scaled_word(const uint16* head, int dims, int offset, int word) {
    const uint32 scale = head[key_scale_at(dims, offset, 2 * word)] * 0x10001u;
    return scaled_halves(head[offset * (dims / 2) + word], 0, scale);
}

// The mean of a block's keys: a warp for each KV head and block, a lane for every 32nd pair of
// dimensions; sums of 32 keys, in order.
KV_KERNEL(sparse_means, kRowThreads, SparseArgs) {
    const Step s = *a.attention.step;
    begin_after_others();
    const KvPlace& kv = a.attention.kv;
    constexpr int kWarps = kRowThreads / kWarp;
    const int head = block_y(), n_blocks = sparse_blocks(a, s), n_words = kv.head_dim / 2;
    const float share = 1.0f / float(a.block);
    for (int b = block_x() * kWarps + warp_index(); b < n_blocks; b += n_blocks_x() * kWarps)
        for (int word = lane_index(); word < n_words; word += kWarp) {
            float low = 0, high = 0;
            for (int first = b * a.block; first < (b + 1) * a.block; first += kKvBlock) {
                const uint16* tile = kv_head(kv, s.blocks[first / kKvBlock], head);
                const uint32* from = reinterpret_cast<const uint32*>(tile) + word;
                float low_sum = 0, high_sum = 0;
#pragma unroll 8
                for (int key = 0; key < kKvBlock; ++key) {
                    const uint32 two =
                        kIsBytes ? scaled_word(tile, kv.head_dim, key, word) : from[key * n_words];
                    low_sum += half_to_float(uint16(two & 0xffff));
                    high_sum += half_to_float(uint16(two >> 16));
                }
                low += low_sum * share;
                high += high_sum * share;
            }
            float* to = a.means + int64(head * kv.head_dim + 2 * word) * a.most_blocks + b;
            to[0] = low;
            to[a.most_blocks] = high;
        }
}

// A row's softmax over the means: a warp for each row and head, a lane for every 32nd block.
KV_KERNEL(sparse_shares, kRowThreads, SparseArgs) {
    const AttentionArgs& all = a.attention;
    const Step s = *all.step;
    begin_after_others();
    const int head = block_x() * (kRowThreads / kWarp) + warp_index(), row = block_y();
    if (row >= rows_of(s, all.is_selected) || head >= all.n_head) return;
    const int dims = all.kv.head_dim, n_blocks = sparse_blocks(a, s);
    const int64 at = int64(row) * all.n_head + head;
    const float* q = all.q + at * dims;
    const int64 of_kv = int64(head / (all.n_head / all.kv.n_kv)) * dims;
    float* shares = a.shares + at * a.most_blocks;
    float most = kNone, sum = 0;
    for (int b = lane_index(); b < n_blocks; b += kWarp) {
        const float* means = a.means + of_kv * a.most_blocks + b;
        float score = 0;
#pragma unroll 8
        for (int d = 0; d < dims; ++d)
            score = multiply_add(q[d] * all.scale, means[int64(d) * a.most_blocks], score);
        shares[b] = score;
        most = larger(most, score);
    }
    most = warp_max(most);
    for (int b = lane_index(); b < n_blocks; b += kWarp) {
        shares[b] = exp_of(shares[b] - most);
        sum += shares[b];
    }
    sum = warp_sum(sum);
    for (int b = lane_index(); b < n_blocks; b += kWarp) shares[b] /= sum;
}

struct SelectShared {
    RowShared rows;
    float scores[kMostSparseBlocks];
};

// Each block's sum of shares, and from them the list of splits: a block of threads for each head.
KV_KERNEL(sparse_select, kRowThreads, SparseArgs) {
    SHARED SelectShared shared;
    const AttentionArgs& all = a.attention;
    const Step s = *all.step;
    begin_after_others();
    const int head = block_x(), n_rows = rows_of(s, all.is_selected);
    const int n_blocks = sparse_blocks(a, s), of_block = a.block / kSplitKeys;
    float best = 0;
    for (int b = thread_index(); b < n_blocks; b += kRowThreads) {
        const float* shares = a.shares + int64(head) * a.most_blocks + b;
        float score = 0;
#pragma unroll 8
        for (int row = 0; row < n_rows; ++row)
            score += shares[int64(row) * all.n_head * a.most_blocks];
        shared.scores[b] = score;
        best = larger(best, score);
    }
    const float least = a.alpha * block_max(shared.rows, best);
    if (warp_index() > 0) return;
    int* splits = a.splits + int64(head) * (1 + a.most_blocks * of_block);
    int n = 0;
    for (int first = 0; first < n_blocks; first += kWarp) {
        const int b = first + lane_index();
        const bool is_near = b < a.n_sink || n_blocks - b < a.n_window;
        // What is no number is kept, to be seen.
        const bool is_kept = b < n_blocks && (is_near || !(shared.scores[b] < least));
        int n_kept = is_kept;  // up to this lane
        for (int distance = 1; distance < kWarp; distance *= 2) {
            const bool is_behind = lane_index() >= distance;
            const int before = shuffle(n_kept, is_behind ? lane_index() - distance : 0);
            n_kept += is_behind ? before : 0;
        }
        int* to = splits + 1 + (n + n_kept - 1) * of_block;
        for (int i = 0; is_kept && i < of_block; ++i) to[i] = b * of_block + i;
        n += shuffle(n_kept, kWarp - 1);
    }
    if (lane_index() == 0) splits[0] = n * of_block;
}

// The selected splits, and all those after the last whole block.
struct SomeSplits {
    const int* selected;
    int n_selected, first_after, n;

    DEV_MEMBER int at(int i) const {
        return i < n_selected ? selected[i] : first_after + i - n_selected;
    }
};

// A block for each head and 64 rows, who see the same splits of what was before the step.
template <int kDims>
DEV void sparse_prefill(const SparseArgs& a) {
    const AttentionArgs& all = a.attention;
    const Step step = *all.step;
    begin_after_others();
    const int head = block_y(), of_block = a.block / kSplitKeys;
    const int* splits = a.splits + int64(head) * (1 + a.most_blocks * of_block);
    const int first_after = sparse_blocks(a, step) * of_block;
    const auto some = [&](const Keys& keys) {
        const int n_after = (keys.end + kSplitKeys - 1) / kSplitKeys - first_after;
        return SomeSplits{splits + 1, splits[0], first_after, splits[0] + n_after};
    };
    const Queries queries{1, rows_of(step, all.is_selected), 0, 0, 0};
    prefill_at<kDims>(all, step, queries, head, head / (all.n_head / all.kv.n_kv), block_z(), some);
}

DENSE_KV_KERNEL(sparse_prefill_32, kAttentionThreads, 2, SparseArgs) {
    sparse_prefill<32>(a);
}
DENSE_KV_KERNEL(sparse_prefill_64, kAttentionThreads, 2, SparseArgs) {
    sparse_prefill<64>(a);
}
DENSE_KV_KERNEL(sparse_prefill_128, kAttentionThreads, 2, SparseArgs) {
    sparse_prefill<128>(a);
}
