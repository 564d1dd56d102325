// Attention of many rows by the rule of split.h: warps of a block have queries of their own and
// share the keys and values, which are copied to shared memory while others are worked on, from a
// cache in q8_0 as the halves they stand for.
#pragma once

#include "split.h"

// A split is copied while the one before it is worked on, where copies run beside the work.
constexpr int kStages = kCopiesAhead ? 2 : 1;

template <int kDims>
struct PrefillShared {
    alignas(16) uint32 keys[kStages][kSplitKeys][stride_of(kDims / 2)];
    alignas(16) uint32 values[kStages][kSplitBlocks][kDims][stride_of(kKvBlock / 2)];
    int first[kAttentionWarps], end[kAttentionWarps];  // the keys any query of a warp sees
};

// Two stages may be more than a kernel can have of its own: they are the launch's.
template <int kDims>
DEV PrefillShared<kDims>& prefill_shared() {
    if constexpr (kStages == 2) {
        return *reinterpret_cast<PrefillShared<kDims>*>(launch_shared());
    } else {
        SHARED PrefillShared<kDims> shared;
        return shared;
    }
}

// A split in shared memory (split.h's sources).
template <int kDims>
struct FromShared {
    static constexpr int n_left = kSplitKeys;  // what is behind the end is 0 there
    const PrefillShared<kDims>& shared;
    int stage;

    DEV_MEMBER void keys(int block, int c, int d, KeyPiece<kDims>& to) const {
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i)
            load_run<kDims / 2>(shared.keys[stage][block * kKvBlock + run_row(c, i)], d, i, to);
    }
    DEV_MEMBER void values(int block, int d, LaneHalves (&to)[2]) const {
#pragma unroll
        for (int i = 0; i < kLaneRows; ++i)
            load_run<kKvBlock / 2>(shared.values[stage][block][16 * d + lane_row(i)], 0, i, to);
    }
};

// Copies splits of one KV head; `end` is where the keys of the block's queries end. A split is
// there after begin, middle and finish, when copies that run beside the work have arrived and all
// have met.
template <int kDims>
struct Copier {
    static constexpr int kKeyPieces = kDims / 8, kValuePieces = kKvBlock / 8;  // of 16 bytes
    static constexpr int kKeys = kAttentionThreads / kKeyPieces;  // that all copy at once
    static constexpr int kValues = kAttentionThreads / kValuePieces;
    static constexpr int kKeyStride = stride_of(kDims / 2), kValueStride = stride_of(kKvBlock / 2);
    static constexpr int kUnrolled = kCopiesAhead ? 4 : 1;  // else what waits is in registers
    const AttentionArgs& a;
    const Step& step;
    PrefillShared<kDims>& shared;
    int kv_head_index, end;

    DEV_MEMBER void begin(int split, int stage) const {
        const int first = split * kSplitKeys, thread = thread_index();
        const uint16* from[kSplitBlocks];
#pragma unroll
        for (int block = 0; block < kSplitBlocks; ++block)
            from[block] = kv_head(a.kv, block_at(step, first + block * kKvBlock), kv_head_index);
#pragma unroll kUnrolled
        for (int block = 0; block < kSplitBlocks; ++block) {
            uint32* to = shared.keys[stage][block * kKvBlock + thread / kKeyPieces];
#pragma unroll kUnrolled
            for (int n = 0; n < kKvBlock / kKeys; ++n)
                copy_ahead(to + n * kKeys * kKeyStride + thread % kKeyPieces * 4,
                           from[block] + n * kKeys * kDims + 8 * thread);
        }
        if (first + kSplitKeys > end) return begin_last(from, end - first, stage);
#pragma unroll kUnrolled
        for (int block = 0; block < kSplitBlocks; ++block) {
            uint32* to = shared.values[stage][block][thread / kValuePieces];
#pragma unroll kUnrolled
            for (int n = 0; n < kDims / kValues; ++n)
                copy_ahead(to + n * kValues * kValueStride + thread % kValuePieces * 4,
                           from[block] + (kDims + n * kValues) * kKvBlock + 8 * thread);
        }
        end_of_group();
        keep_order();
    }

    // Of the last split the values that there are. What lies where there is no key would be
    // multiplied by weights of 0, and may be no number.
    DEV_MEMBER void begin_last(const uint16* const (&from)[kSplitBlocks], int n_left,
                               int stage) const {
        constexpr int kWords = kKvBlock / 2;
        for (int block = 0; block < kSplitBlocks; ++block, n_left -= kKvBlock) {
            const auto* words = reinterpret_cast<const uint32*>(from[block] + kKvBlock * kDims);
#pragma unroll 1
            for (int i = thread_index(); i < kDims * kWords; i += kAttentionThreads) {
                const int left = n_left - 2 * (i % kWords);
                shared.values[stage][block][i / kWords][i % kWords] =
                    left > 0 ? kept(words[i], left) : 0;
            }
        }
        end_of_group();
        keep_order();
    }
    DEV_MEMBER void middle(int, int) const {}
    DEV_MEMBER void finish(int, int) const {}
};

// The same from a cache in q8_0. What a thread copies is asked for, and becomes halves in shared
// memory when the work beside it is done; or part by part, where work leaves no registers.
template <int kDims>
struct ScaledCopier {
    static constexpr bool kWaits = kDims <= 64;
    static constexpr int kRuns = kSplitKeys * kDims / 8 / kAttentionThreads;  // of a thread
    static constexpr int kHeld = kWaits ? kRuns : kCopiesAhead ? 2 : 1;
    const AttentionArgs& a;
    const Step& step;
    PrefillShared<kDims>& shared;
    int kv_head_index, end;
    KvRun held[kHeld];

    // A thread's r-th run: of which row of a block of them, and from which number on.
    struct Place {
        int block, row, number;
    };
    template <int kRows, int kNumbers>
    DEV_MEMBER static Place place(int r) {
        const int i = thread_index() + r * kAttentionThreads, row = i / (kNumbers / 8);
        return {row / kRows, row % kRows, i % (kNumbers / 8) * 8};
    }
    DEV_MEMBER const uint16* head(int split, int block) const {
        return kv_head(a.kv, step.blocks[split * kSplitBlocks + block], kv_head_index);
    }

    DEV_MEMBER void begin(int split, int stage) {
#pragma unroll 1
        for (int first = 0; first < kRuns; first += kHeld) {
#pragma unroll
            for (int r = 0; r < kHeld; ++r) {
                const Place at = place<kKvBlock, kDims>(first + r);
                if (split * kSplitKeys + at.block * kKvBlock < end)
                    held[r] = key_run<kDims>(head(split, at.block), at.row, at.number);
            }
            if (!kWaits) put_keys(stage, first);
        }
    }
    DEV_MEMBER void put_keys(int stage, int first) {
#pragma unroll
        for (int r = 0; r < kHeld; ++r) {
            const Place at = place<kKvBlock, kDims>(first + r);
            uint32* key = shared.keys[stage][at.block * kKvBlock + at.row];
            *reinterpret_cast<Words*>(key + at.number / 2) = held[r].words();
        }
        keep_order();
    }

    DEV_MEMBER void middle(int split, int stage) {
        if (kWaits) put_keys(stage, 0);
#pragma unroll 1
        for (int first = 0; first < kRuns; first += kHeld) {
#pragma unroll
            for (int r = 0; r < kHeld; ++r) {
                const Place at = place<kDims, kKvBlock>(first + r);
                held[r] = {};
                if (split * kSplitKeys + at.block * kKvBlock + at.number < end)
                    held[r] = value_run<kDims>(head(split, at.block), at.number, at.row / kKvGroup,
                                               at.row);
            }
            if (!kWaits) put_values(split, stage, first);
        }
    }
    DEV_MEMBER void finish(int split, int stage) {
        if (kWaits) put_values(split, stage, 0);
    }
    DEV_MEMBER void put_values(int split, int stage, int first) {
#pragma unroll
        for (int r = 0; r < kHeld; ++r) {
            const Place at = place<kDims, kKvBlock>(first + r);
            const int n_left = end - split * kSplitKeys - at.block * kKvBlock - at.number;
            Words words = held[r].words();
#pragma unroll
            for (int n = 0; n < 4; ++n) words.at[n] = kept(words.at[n], n_left - 2 * n);
            uint32* dim = shared.values[stage][at.block][at.row];
            *reinterpret_cast<Words*>(dim + at.number / 2) = words;
        }
        keep_order();
    }
};

template <int kDims>
using CopierOf = typename OfCache<ScaledCopier<kDims>, const Copier<kDims>>::Type;

// The keys that any query of the block sees.
template <int kDims>
DEV Keys keys_of_block(const Asked<kDims>& asked, PrefillShared<kDims>& shared) {
    if (lane_index() == 0) {
        shared.first[warp_index()] = asked.first;
        shared.end[warp_index()] = asked.end;
    }
    block_sync();
    Keys keys{0, shared.first[0], shared.end[0]};
    for (int w = 1; w < kAttentionWarps; ++w) {
        keys.first = shared.first[w] < keys.first ? shared.first[w] : keys.first;
        keys.end = shared.end[w] > keys.end ? shared.end[w] : keys.end;
    }
    return keys;
}

// A warp's merged splits.
template <int kDims>
struct Running {
    Sums all;
    float out[kDims / 16][8];
};

template <int kDims>
DEV void begin(Running<kDims>& r) {
    r.all = no_sums();
#pragma unroll
    for (int d = 0; d < kDims / 16; ++d)
#pragma unroll
        for (int i = 0; i < 8; ++i) r.out[d][i] = 0;
}

template <int kDims>
DEV void merge_split(const Weighed& w, const FromShared<kDims>& from, Running<kDims>& r) {
    Factors factors[kLaneRows];
    r.all.add(w, factors);
#pragma unroll
    for (int d = 0; d < kDims / 16; ++d) {
        float sums[8] = {};
        add_values(w, from, d, sums);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const Factors& f = factors[element_row(i)];
            r.out[d][i] = multiply_add(r.out[d][i], f.mine, sums[i] * f.theirs);
        }
        keep_order();
    }
}

template <int kDims>
DEV void write_merged(const Running<kDims>& r, const RowPlaces& to) {
    OfRows shares;
#pragma unroll
    for (int row = 0; row < kLaneRows; ++row) shares[row] = inverse(r.all.sum[row]);
#pragma unroll
    for (int d = 0; d < kDims / 16; ++d)
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int row = element_row(i);
            if (to.at[row]) to.at[row][16 * d + element_col(i)] = r.out[d][i] * shares[row];
        }
}

// The splits that a block's queries may see, in order: all from the first on.
struct AllSplits {
    int first, n;

    DEV_MEMBER int at(int i) const { return first + i; }
};

// A block for each group of heads and tile of 16 queries for each of its warps; the last rows, who
// see the most, come first. The step's rows are a chain, or a block. `choose` says of keys which of
// their splits are taken.
template <int kDims, class Choose>
DEV void prefill_at(const AttentionArgs& a, const Step& step, const Queries& queries, int group,
                    int kv_head_index, int block, const Choose& choose) {
    PrefillShared<kDims>& shared = prefill_shared<kDims>();
    constexpr int kOfBlock = kQueries * kAttentionWarps;
    const int n_blocks = (queries.n_rows * queries.group + kOfBlock - 1) / kOfBlock;
    if (block >= n_blocks) return;
    const int tile = (n_blocks - 1 - block) * kAttentionWarps + warp_index();
    Asked<kDims> asked;
    ask(a, step, queries, a.q, group, tile, asked);
    const Keys keys = keys_of_block(asked, shared);
    const auto splits = choose(keys);
    CopierOf<kDims> copier{a, step, shared, kv_head_index, keys.end};
    Running<kDims> running;
    begin(running);
    const auto copy = [&](int i) {
        if (i >= splits.n) return;
        copier.begin(splits.at(i), i % kStages);
        copier.middle(splits.at(i), i % kStages);
        copier.finish(splits.at(i), i % kStages);
    };
    copy(0);
#pragma unroll 1
    for (int i = 0; i < splits.n; ++i) {
        const FromShared<kDims> from{shared, i % kStages};
        const int first = splits.at(i) * kSplitKeys, stage = (i + 1) % kStages;
        const bool is_seen = first < asked.end && first + kSplitKeys > asked.first;
        const bool copies = kStages == 2 && i + 1 < splits.n;
        const int next = copies ? splits.at(i + 1) : 0;
        Weighed w;
        groups_left<0>();
        block_sync();  // the split is there, and nobody reads the one before it any more
        if (copies) copier.begin(next, stage);
        if (is_seen) weigh(asked, from, first, a.scale * kLog2E, w);
        if (copies) copier.middle(next, stage);
        keep_order();
        if (is_seen) merge_split(w, from, running);
        if (copies) copier.finish(next, stage);
        if (kStages == 1) {
            block_sync();
            copy(i + 1);
        }
    }
    write_merged(running, places_of(a, queries, group, tile, a.out, kDims));
}

template <int kDims>
DEV void prefill(const AttentionArgs& a) {
    const Step step = *a.step;
    begin_after_others();
    const auto all = [](const Keys& keys) {
        const int first = keys.first / kSplitKeys, end = (keys.end + kSplitKeys - 1) / kSplitKeys;
        return AllSplits{first, end - first};
    };
    const Place at = block_place();
    prefill_at<kDims>(a, step, queries_of(a, step), at.y, at.y, at.z, all);
}

DENSE_KV_KERNEL(prefill_32, kAttentionThreads, 2, AttentionArgs) {
    prefill<32>(a);
}
DENSE_KV_KERNEL(prefill_64, kAttentionThreads, 2, AttentionArgs) {
    prefill<64>(a);
}
DENSE_KV_KERNEL(prefill_128, kAttentionThreads, 2, AttentionArgs) {
    prefill<128>(a);
}
