// Grows a tree of drafts (engine/speculation/tree.py; SPEC B.5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace native::cpu {

// Tokens that may follow the root one after another, and each one's log-probability given those
// before it.
struct Chain {
    std::vector<int32_t> tokens;
    std::vector<double> log_probs;
};

// Who proposes. A block has n_ranks tokens for each depth from 1 on, likeliest first.
struct Sources {
    int32_t root;
    const int32_t* ids;      // (n_depths, n_ranks)
    const float* log_probs;  // the same
    int64_t n_depths, n_ranks;
    std::vector<Chain> chains;
    int64_t max_depth;
};

// By number of rows from 0 to n - 1: what a step costs, and what a row more does at least from
// there on. Of no step there are none.
struct Costs {
    const double* ms;
    const double* least_row_ms;
    int64_t n;
};

// The root, then drafts in descending order of their path's probability. Bit 0 of `sources` is the
// block's, bit 1 + i chain i's.
struct Tree {
    std::vector<int32_t> tokens, parents;
    std::vector<double> log_probs;
    std::vector<uint32_t> sources;
};

constexpr size_t kMostChains = 31;

// At most `budget` drafts. With `costs` it ends where another row decides fewer tokens in its time
// than the tree does.
Tree grow_tree(const Sources& sources, int64_t budget, const Costs& costs);

// How many drafts of a tree to verify, at most `most_rows` rows with the root, so that the expected
// tokens per millisecond are the most; the rates with them and with none; and what all of those
// rows are expected to decide.
struct BestSize {
    int64_t n_drafts;
    double rate, rate_of_none, n_expected;
};
BestSize best_size(const std::vector<double>& log_probs, const Costs& costs, int64_t most_rows);

// The positions of n rows that come after `n_past` others, how deep each of n rows lies below the
// first, and, of rows that are no chain, which rows lie above it and itself, from the top, `stride`
// bytes a row (native/gpu/step.h). True where each row continues the one before it. A parent of -1
// is none.
bool fill_paths(const int32_t* parents, int64_t n, int64_t n_past, int32_t* positions,
                int32_t* depth, uint8_t* path, int64_t stride);

}  // namespace native::cpu
