// What changes from step to step. It lies in device memory, so that a recorded graph of kernels can
// be run again for any step of as many rows or fewer.
#pragma once

#include "platform.h"

constexpr int kKvBlock = 32;   // positions of a KV block
constexpr int kMostTree = 64;  // rows of a step that is not a chain

// As native/cpu/plan.h's StepInputs: row i is stored at slot n_past + i of the sequence whose KV
// blocks are `blocks`, and sees the committed slots, the rows above it and itself, in that order.
struct Step {
    int n_rows;  // T
    int n_past;
    int n_out_rows;        // R
    int is_chain;          // every row continues the one before it
    const int* tokens;     // (T)
    const int* positions;  // (T)
    const int* depth;      // (T) rows above each within the step
    const int* out_rows;   // (R)
    const int* blocks;
    const uint8* path;  // of trees (T, kMostTree): the row at depth d above row i
    int* told;          // what is chosen (R, k), in memory that the host reads
};

DEV int rows_of(const Step& s, int is_selected) {
    return is_selected ? s.n_out_rows : s.n_rows;
}

DEV int slot_of(const Step& s, int row, int key) {
    if (key < s.n_past || s.is_chain) return key;
    return s.n_past + s.path[row * kMostTree + (key - s.n_past)];
}
