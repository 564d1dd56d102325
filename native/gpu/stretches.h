// The root of a row's mean square, which kernels of rows and of heads take alike.
//
// A warp takes a stretch of 256 columns, each lane eight neighbouring ones. Their squares are added
// up lane by lane and then over the lanes, stretches in order, whoever asks.
#pragma once

#include "threads.h"

constexpr int kRun = 8, kStretch = kRun * kWarp, kMostStretches = 128;

struct Stretch {
    float at[kRun];
};

DEV int n_stretches_of(int width) {
    return (width + kStretch - 1) / kStretch;
}

// What a lane has from column `col` on, of n columns; behind them there is nothing.
DEV Stretch stretch_of(const float* from, int col, int n) {
    Stretch x;
#pragma unroll
    for (int j = 0; j < kRun; ++j) x.at[j] = col + j < n ? from[col + j] : 0.0f;
    return x;
}

DEV float squares_of(const Stretch& x) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kRun; ++i) sum = multiply_add(x.at[i], x.at[i], sum);
    return warp_sum(sum);
}

DEV float inverse_of(const float* squares, int width, float eps) {
    constexpr int kAtOnce = 4;
    const int n = n_stretches_of(width);
    float sum = 0;
#pragma unroll 1
    for (int first = 0; first < n; first += kAtOnce) {
        float some[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) some[i] = first + i < n ? squares[first + i] : 0.0f;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) sum += some[i];
    }
    return inverse_root(multiply_add(sum, inverse(float(width)), eps));
}
