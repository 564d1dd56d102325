// What is chosen of each row of logits.
#pragma once

#include "rows.h"
#include "step.h"

constexpr int kChunk = 4096, kTopThreads = kRowThreads;

struct ChoiceShared {
    RowShared sums;
    float values[kTopThreads / kWarp];
    int indices[kTopThreads / kWarp];
};

// A number and where it stood; the lower index wins among equals, NaN wins over all.
struct Best {
    float value;
    int index;
};

DEV bool is_nan(float x) {
    return !(x == x);
}

DEV Best better(Best a, Best b) {
    if (is_nan(a.value) || is_nan(b.value)) return is_nan(a.value) ? a : b;
    if (a.value != b.value) return a.value > b.value ? a : b;
    return a.index < b.index ? a : b;
}

DEV Best block_best(ChoiceShared& shared, Best best) {
    float (&values)[kTopThreads / kWarp] = shared.values;
    int (&indices)[kTopThreads / kWarp] = shared.indices;
    for (int mask = 16; mask; mask >>= 1)
        best = better(best, {shuffle_xor(best.value, mask), shuffle_xor(best.index, mask)});
    block_sync();
    if (lane_index() == 0) values[warp_index()] = best.value, indices[warp_index()] = best.index;
    block_sync();
    for (int w = 0; w < kTopThreads / kWarp; ++w) best = better(best, {values[w], indices[w]});
    return best;
}

constexpr int kNoIndex = 0x7fffffff;

struct ArgmaxArgs {
    const Step* step;
    const float* x;  // (R, width)
    float* values;   // (R, chunks)
    int* indices;    // (R, chunks)
    int* out;        // (R), -1 where a number is not finite
    int width, n_chunks;
};

KERNEL(argmax_chunks, kTopThreads, ArgmaxArgs) {
    SHARED ChoiceShared shared;
    begin_after_others();
    const Step& s = *a.step;
    const int64 row = block_y();
    if (row >= s.n_out_rows) return;
    const int first = block_x() * kChunk + thread_index();
    Best best{-3.4e38f, kNoIndex};
    float values[kChunk / kTopThreads];
#pragma unroll
    for (int i = 0; i < kChunk / kTopThreads; ++i) {
        const int at_col = first + i * kTopThreads;
        values[i] = at_col < a.width ? a.x[row * a.width + at_col] : best.value;
    }
#pragma unroll
    for (int i = 0; i < kChunk / kTopThreads; ++i)
        if (first + i * kTopThreads < a.width)
            best = better(best, {values[i], first + i * kTopThreads});
    best = block_best(shared, best);
    if (thread_index() == 0) {
        a.values[row * a.n_chunks + block_x()] = best.value;
        a.indices[row * a.n_chunks + block_x()] = best.index;
    }
}

KERNEL(argmax, kTopThreads, ArgmaxArgs) {
    SHARED ChoiceShared shared;
    begin_after_others();
    const Step& s = *a.step;
    const int64 row = block_y();
    if (row >= s.n_out_rows) return;
    Best best{-3.4e38f, kNoIndex};
    for (int i = thread_index(); i < a.n_chunks; i += kTopThreads)
        best = better(best, {a.values[row * a.n_chunks + i], a.indices[row * a.n_chunks + i]});
    best = block_best(shared, best);
    const bool is_finite = best.value < 3.0e38f && best.value > -3.0e38f;
    if (thread_index() == 0) a.out[row] = is_finite ? best.index : -1;
}

// The likeliest k of each row in order, and their log-softmax.
struct TopKArgs {
    const Step* step;
    const float* x;  // (R, width)
    int* ids;        // (R, k), the first -1 where a number is not finite
    float* log_probs;
    int width, k;
};

KERNEL(top_k, kTopThreads, TopKArgs) {
    SHARED ChoiceShared shared;
    begin_after_others();
    const Step& s = *a.step;
    const int64 row = block_y();
    if (row >= s.n_out_rows) return;
    const float* x = a.x + row * a.width;
    Best last{bits_to_float(0x7f800000u), -1};  // whatever is found comes after it
    float most = 0, sum = 0;
    for (int n = 0; n < a.k; ++n) {
        Best best{-3.4e38f, kNoIndex};
        for (int i = thread_index(); i < a.width; i += kTopThreads) {
            const bool comes_after =
                x[i] < last.value || (x[i] == last.value && i > last.index) || is_nan(x[i]);
            if (comes_after) best = better(best, {x[i], i});
        }
        best = block_best(shared, best);
        if (n == 0) {
            most = best.value;
            for (int i = thread_index(); i < a.width; i += kTopThreads) sum += exp_of(x[i] - most);
            sum = log_of(block_sum(shared.sums, sum));
        }
        const bool is_finite = best.value < 3.0e38f && best.value > -3.0e38f;
        if (thread_index() == 0) {
            a.ids[row * a.k + n] = is_finite ? best.index : -1;
            a.log_probs[row * a.k + n] = best.value - most - sum;
        }
        last = best;
    }
}
