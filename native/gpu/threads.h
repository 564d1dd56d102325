// What the threads of a block do together, and how they load.
#pragma once

#include "platform.h"

constexpr int kRowThreads = 256;

// Numbers that lie side by side, loaded at once.
template <int n>
struct alignas(4 * n) Floats {
    float at[n];
};

struct RowShared {
    float of_warp[kRowThreads / kWarp];
};

// What every warp of a block has, combined in their order; the same for all threads.
template <class Combine>
DEV float over_warps(RowShared& shared, float of_warp, const Combine& combine) {
    block_sync();
    if (lane_index() == 0) shared.of_warp[warp_index()] = of_warp;
    block_sync();
    float all = shared.of_warp[0];
    for (int w = 1; w < kRowThreads / kWarp; ++w) all = combine(all, shared.of_warp[w]);
    return all;
}

DEV float block_sum(RowShared& shared, float v) {
    return over_warps(shared, warp_sum(v), [](float a, float b) { return a + b; });
}

DEV float block_max(RowShared& shared, float v) {
    return over_warps(shared, warp_max(v), [](float a, float b) { return larger(a, b); });
}
