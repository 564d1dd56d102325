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

// The sum over a block's threads, the same for all.
DEV float block_sum(RowShared& shared, float v) {
    float (&of_warp)[kRowThreads / kWarp] = shared.of_warp;
    v = warp_sum(v);
    block_sync();
    if (lane_index() == 0) of_warp[warp_index()] = v;
    block_sync();
    float sum = of_warp[0];
    for (int w = 1; w < kRowThreads / kWarp; ++w) sum += of_warp[w];
    return sum;
}

DEV float block_max(RowShared& shared, float v) {
    float (&of_warp)[kRowThreads / kWarp] = shared.of_warp;
    v = warp_max(v);
    block_sync();
    if (lane_index() == 0) of_warp[warp_index()] = v;
    block_sync();
    float best = of_warp[0];
    for (int w = 1; w < kRowThreads / kWarp; ++w) best = larger(best, of_warp[w]);
    return best;
}
