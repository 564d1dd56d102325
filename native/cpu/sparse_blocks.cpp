#include "sparse_blocks.h"

#include <algorithm>
#include <cmath>

namespace native::cpu {

void BlockSelection::select(const AttentionOp& op, Plan& plan, const Step& step, int64_t kv_head,
                            const FloatTile& tile) {
    block_ = op.sparse.block;
    n_blocks_ = step.in.n_past / block_;
    const int64_t group = op.n_head / op.kv.n_kv;
    means_.assign(size_t(op.kv.head_dim * n_blocks_), 0.0f);
    weights_.resize(size_t(n_blocks_));
    query_.resize(size_t(op.kv.head_dim));
    selected_.assign(size_t(group * n_blocks_), 0);
    if (n_blocks_ == 0) return;
    average_keys(op, plan, step, kv_head, tile);
    for (int64_t g = 0; g < group; ++g) select_for(op, plan, step, kv_head, g);
}

void BlockSelection::average_keys(const AttentionOp& op, Plan& plan, const Step& step,
                                  int64_t kv_head, const FloatTile& tile) {
    const float share = 1.0f / float(block_);
    for (int64_t first = 0; first < n_blocks_ * block_; first += kKvBlock) {
        const KvTile cached = step.in.kv->tile(op.layer, step.in.blocks[first / kKvBlock], kv_head);
        plan.kernels().expand_tile(cached, tile);
        const int64_t block = first / block_;
        for (int64_t d = 0; d < op.kv.head_dim; ++d) {
            float sum = 0;
            for (int64_t j = 0; j < kKvBlock; ++j) sum += tile.k[d * kKvBlock + j];
            means_[size_t(d * n_blocks_ + block)] += sum * share;
        }
    }
}

void BlockSelection::select_for(const AttentionOp& op, Plan& plan, const Step& step,
                                int64_t kv_head, int64_t g) {
    const int64_t head_dim = op.kv.head_dim, head = kv_head * (op.n_head / op.kv.n_kv) + g;
    const auto n = size_t(n_blocks_);
    scores_.assign(n, 0.0f);
    for (int64_t t = 0; t < plan.rows(op.q, step); ++t) {
        const float* q = plan.f32(op.q) + (t * op.n_head + head) * head_dim;
        if (step.in.kv->type() != KvType::kF16) {  // its keys are rotated before they are rounded
            plan.kernels().rotate_groups(q, head_dim, 1.0f / kKvGroup, query_.data());
            q = query_.data();
        }
        std::fill(weights_.begin(), weights_.end(), 0.0f);
        for (int64_t d = 0; d < head_dim; ++d) {
            const float factor = q[d] * op.scale;
            const float* means = means_.data() + size_t(d) * n;
            for (size_t i = 0; i < n; ++i) weights_[i] += factor * means[i];
        }
        const float peak = *std::max_element(weights_.begin(), weights_.end());
        float sum = 0;
        for (float& weight : weights_) sum += weight = std::exp(weight - peak);
        for (size_t i = 0; i < n; ++i) scores_[i] += weights_[i] / sum;
    }
    const float least = op.sparse.alpha * *std::max_element(scores_.begin(), scores_.end());
    for (int64_t i = 0; i < n_blocks_; ++i) {
        const bool is_near = i < op.sparse.n_sink || n_blocks_ - i < op.sparse.n_window;
        selected_[size_t(g * n_blocks_ + i)] =
            is_near || !(scores_[size_t(i)] < least);  // NaN is kept, to be seen
    }
}

}  // namespace native::cpu
