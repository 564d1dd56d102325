// Which blocks of keys the rows of a step see in block-sparse attention (SPEC C.6).
#pragma once

#include <vector>

#include "ops.h"

namespace native::cpu {

// The selection of one KV head's query heads. Its memory is kept from step to step.
class BlockSelection {
public:
    // Scores the blocks before the step and selects; `tile` is room for one expanded tile.
    void select(const AttentionOp& op, Plan& plan, const Step& step, int64_t kv_head,
                const FloatTile& tile);

    // Whether query head `g` of the group sees the tile of 32 keys that begins at `first`.
    bool sees(int64_t g, int64_t first) const {
        const int64_t block = first / block_;
        return block >= n_blocks_ || selected_[size_t(g * n_blocks_ + block)] != 0;
    }

private:
    void average_keys(const AttentionOp& op, Plan& plan, const Step& step, int64_t kv_head,
                      const FloatTile& tile);
    void select_for(const AttentionOp& op, Plan& plan, const Step& step, int64_t kv_head,
                    int64_t g);

    int64_t block_ = 1, n_blocks_ = 0;
    std::vector<float> means_;       // (D, blocks)
    std::vector<float> weights_;     // (blocks)
    std::vector<float> scores_;      // (blocks)
    std::vector<float> query_;       // (D)
    std::vector<uint8_t> selected_;  // (heads of the group, blocks)
};

}  // namespace native::cpu
