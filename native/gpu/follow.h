// What the rows of a verified tree decide, followed down from its root on the device, so that a
// step may go on below it before the host knows.
#pragma once

#include "kv.h"

struct FollowArgs {
    const Step* tree;   // the step before, all of whose rows are selected
    const int* chosen;  // (T) each row's likeliest token
    Step* next;      // a chain below what is decided: of its first row the token is not known yet
    uint16* memory;  // of the cache that both work in, as in KvMoveArgs
    const int64* layers;
    int64 block_stride;
};

struct Followed {
    int tokens[kMostTree], parents[kMostTree], chosen[kMostTree];
    int path[kMostTree];  // the rows that were right
    int n, last;          // and what the last of them chose
};

DEV int parent_of(const Step& s, int row) {
    return s.is_chain ? row - 1 : s.depth[row] ? s.path[row * kMostTree + s.depth[row] - 1] : -1;
}

// As engine/decode.py walks. Rows come after their parents.
DEV void follow_down(const FollowArgs& a, const Step& tree, Followed& f) {
    const int row = thread_index();
    if (row < tree.n_rows && row < kMostTree) {
        f.tokens[row] = tree.tokens[row];
        f.parents[row] = parent_of(tree, row);
        f.chosen[row] = a.chosen[row];
    }
    block_sync();
    if (row == 0) {
        int n = 0, at = 0;
        f.path[n++] = 0;
        for (int child = 1; child < tree.n_rows && child < kMostTree; ++child)
            if (f.parents[child] == at && f.tokens[child] == f.chosen[at]) f.path[n++] = at = child;
        f.n = n;
        f.last = f.chosen[at] < 0 ? 0 : f.chosen[at];  // where the logits were no numbers
    }
    block_sync();
}

// A block for each layer. The first one tells the next step where it is.
KV_KERNEL(follow, kRowThreads, FollowArgs) {
    SHARED Followed f;
    begin_after_others();
    const Step& tree = *a.tree;
    follow_down(a, tree, f);
    const int64* layer = a.layers + 3 * block_x();
    const KvPlace kv{a.memory, a.block_stride, layer[0], int(layer[1]), int(layer[2])};
    const auto place = [&](int row) {
        const int slot = tree.n_past + row;
        return tree.blocks[slot / kKvBlock] * kKvBlock + slot % kKvBlock;
    };
#pragma unroll 1
    for (int depth = 1; depth < f.n; ++depth) {
        if (f.path[depth] == depth) continue;
        const int from = place(f.path[depth]), to = place(depth);
        for (int i = thread_index(); i < kv.n_kv * kv.head_dim; i += kRowThreads)
            move_number(kv, from, to, i / kv.head_dim, i % kv.head_dim);
    }
    if (block_x() != 0) return;
    Step& next = *a.next;
    for (int i = thread_index(); i < next.n_rows; i += kRowThreads)
        const_cast<int*>(next.positions)[i] += f.n;
    if (thread_index() != 0) return;
    next.n_past += f.n;
    const_cast<int*>(next.tokens)[0] = f.last;
}
