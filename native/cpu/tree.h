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

// By number of rows: what a step costs, and what a row more does at least from there on.
struct Costs {
    std::vector<double> ms, least_row_ms;
};

// The root, then drafts in descending order of their path's probability. Bit 0 of `sources` is the
// block's, bit 1 + i chain i's.
struct Tree {
    std::vector<int32_t> tokens, parents;
    std::vector<double> log_probs;
    std::vector<uint32_t> sources;
};

constexpr size_t kMostChains = 31;

// At most `budget` drafts. With `costs`, which may be null, it ends where another row decides fewer
// tokens in its time than the tree does.
Tree grow_tree(const Sources& sources, int64_t budget, const Costs* costs);

}  // namespace native::cpu
