#include "ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace native::cpu {

namespace {

struct Range {
    int64_t begin, end;
};

// The part's share of n items, boundaries at multiples of `unit`.
Range share(int64_t n, int64_t unit, const Part& part) {
    const int64_t n_units = (n + unit - 1) / unit;
    const int64_t begin = n_units * part.idx / part.n;
    const int64_t end = n_units * (part.idx + 1) / part.n;
    return {std::min(begin * unit, n), std::min(end * unit, n)};
}

// Work of an op that shares out its rows.
Work row_work(int64_t n_rows, int64_t n_cols) {
    return {n_rows * n_cols, n_rows};
}

// Adds one tile of keys to every query of one KV head, for the rows and query heads of one unit.
class TileAttention {
public:
    TileAttention(const AttentionOp& op, Plan& plan, const Step& step, int64_t kv_head,
                  float* scratch)
        : op_(op),
          plan_(plan),
          step_(step),
          kv_head_(kv_head),
          k_(scratch),
          v_(scratch + op.kv.head_dim * kKvBlock) {}

    void run(int64_t head_begin, int64_t head_end) {
        const int64_t n_rows = plan_.rows(op_.q, step_), n_heads = head_end - head_begin;
        max_.assign(size_t(n_rows * n_heads), -INFINITY);
        sum_.assign(size_t(n_rows * n_heads), 0.0f);
        int64_t most_keys = 0, first_key = INT64_MAX;
        for (int64_t t = 0; t < n_rows; ++t) {
            most_keys = std::max(most_keys, n_keys(t));
            first_key = std::min(first_key, n_hidden(t));
            std::memset(out(t, head_begin), 0, size_t(n_heads * op_.kv.head_dim) * sizeof(float));
        }
        for (int64_t first = first_key / kKvBlock * kKvBlock; first < most_keys;
             first += kKvBlock) {
            const bool is_shared =
                step_.is_chain || op_.mask.is_block || first + kKvBlock <= step_.in.n_past;
            if (is_shared) expand(first);
            for (int64_t t = 0; t < n_rows; ++t) {
                const int64_t n_valid = std::min<int64_t>(n_keys(t) - first, kKvBlock);
                const int64_t n_skip = std::max<int64_t>(n_hidden(t) - first, 0);
                if (n_valid <= n_skip) continue;
                for (int64_t h = head_begin; h < head_end; ++h) {
                    const size_t i = size_t(t * n_heads + h - head_begin);
                    queries_.push_back(
                        {query(t, h), n_skip, n_valid, &max_[i], &sum_[i], out(t, h)});
                }
                if (!is_shared) {
                    gather(row_of(t), first, n_valid);
                    attend();
                }
            }
            attend();
        }
        for (int64_t t = 0; t < n_rows; ++t)
            for (int64_t h = head_begin; h < head_end; ++h)
                plan_.kernels().finish_attention(
                    out(t, h), sum_[size_t(t * n_heads + h - head_begin)], op_.kv.head_dim);
    }

private:
    int64_t row_of(int64_t t) const { return plan_.step_row(op_.q, step_, t); }
    // The keys of row t end here; the first n_hidden of them lie before its window.
    int64_t n_keys(int64_t t) const {
        return op_.mask.is_block ? step_.in.n_past + step_.in.n_rows : step_.n_keys(row_of(t));
    }
    int64_t n_hidden(int64_t t) const {
        return op_.mask.window > 0 ? std::max<int64_t>(n_keys(t) - op_.mask.window, 0) : 0;
    }
    const float* query(int64_t t, int64_t h) {
        return plan_.f32(op_.q) + (t * op_.n_head + h) * op_.kv.head_dim;
    }
    float* out(int64_t t, int64_t h) {
        return plan_.f32(op_.out) + (t * op_.n_head + h) * op_.kv.head_dim;
    }
    int64_t block_of(int64_t slot) const { return step_.in.blocks[slot / kKvBlock]; }

    // Adds the present tile to the queries collected for it.
    void attend() {
        plan_.kernels().attend_tile(queries_.data(), int64_t(queries_.size()), k_, v_,
                                    op_.kv.head_dim, op_.scale);
        queries_.clear();
    }

    // Tiles of a straight sequence coincide with KV blocks.
    void expand(int64_t first) {
        const int64_t block = block_of(first);
        plan_.kernels().expand_tile({step_.in.kv->k(op_.layer, block, kv_head_),
                                     step_.in.kv->v(op_.layer, block, kv_head_)},
                                    op_.kv.head_dim, k_, v_);
    }

    // Collects a branch's keys and values in logical order.
    void gather(int64_t row, int64_t first, int64_t n_valid) {
        for (int64_t j = 0; j < n_valid; ++j) {
            const int64_t slot = step_.slot(row, first + j), lane = slot % kKvBlock;
            const uint16_t* k = step_.in.kv->k(op_.layer, block_of(slot), kv_head_);
            const uint16_t* v = step_.in.kv->v(op_.layer, block_of(slot), kv_head_);
            for (int64_t d = 0; d < op_.kv.head_dim; ++d) {
                k_[d * kKvBlock + j] = half_to_float(k[d * kKvBlock + lane]);
                v_[j * op_.kv.head_dim + d] = half_to_float(v[lane * op_.kv.head_dim + d]);
            }
        }
        for (int64_t j = n_valid; j < kKvBlock; ++j)  // keep stale lanes finite; they are masked
            for (int64_t d = 0; d < op_.kv.head_dim; ++d) k_[d * kKvBlock + j] = 0.0f;
    }

    const AttentionOp& op_;
    Plan& plan_;
    const Step& step_;
    const int64_t kv_head_;
    float *k_, *v_;  // (D, 32), (32, D)
    std::vector<float> max_, sum_;
    std::vector<TileQuery> queries_;
};

}  // namespace

Work EmbedOp::work(const Plan& plan, const Step& step) const {
    return row_work(step.in.n_rows, plan.buffer(out).n_cols);
}

void EmbedOp::run(Plan& plan, const Step& step, const Part& part) {
    const Plan::Buffer& weight = plan.buffer(table);
    const int64_t bytes = row_bytes(weight.type, weight.n_cols);
    const Range rows = share(step.in.n_rows, 1, part);
    for (int64_t t = rows.begin; t < rows.end; ++t)
        dequantize_row(weight.type, weight.weight + step.in.tokens[t] * bytes,
                       plan.f32(out) + t * weight.n_cols, weight.n_cols);
}

Work RmsNormOp::work(const Plan& plan, const Step& step) const {
    return row_work(plan.rows(x, step), plan.buffer(x).n_cols);
}

void RmsNormOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t width = plan.buffer(x).n_cols, n = plan.buffer(weight).n_cols;
    const auto* scale = reinterpret_cast<const float*>(plan.buffer(weight).weight);
    const Range rows = share(plan.rows(x, step), 1, part);
    for (int64_t i = rows.begin * width; i < rows.end * width; i += n)
        plan.kernels().rms_norm(plan.f32(x) + i, scale, eps, plan.f32(out) + i, n);
}

Work QuantizeOp::work(const Plan& plan, const Step& step) const {
    return row_work(plan.rows(x, step), plan.buffer(x).n_cols);
}

void QuantizeOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t n_cols = plan.buffer(x).n_cols, n_rows = plan.rows(x, step);
    const Activations target = plan.quantized(out, n_rows);
    const auto kernel = plan.buffer(out).format == ActivationFormat::kQ8
                            ? plan.kernels().quantize_q8
                            : plan.kernels().quantize_q8k;
    const Range rows = share(n_rows, 1, part);
    for (int64_t t = rows.begin; t < rows.end; ++t)
        kernel(plan.f32(x) + t * n_cols, n_cols, target, t);
}

// A weight costs its reading, and a multiplication per row.
Work LinearOp::work(const Plan& plan, const Step& step) const {
    const Plan::Buffer& w = plan.buffer(weight);
    const int64_t n_rows = plan.rows(x, step);
    if (n_rows == 0) return {};
    return {w.n_out * w.n_cols / 32 * (4 + n_rows), (w.n_out + kRowGroup - 1) / kRowGroup};
}

void LinearOp::run(Plan& plan, const Step& step, const Part& part) {
    const Plan::Buffer& w = plan.buffer(weight);
    LinearArgs args{};
    args.type = w.type;
    args.weight = w.weight;
    args.row_bytes = row_bytes(w.type, w.n_cols);
    args.n_cols = w.n_cols;
    args.n_out = w.n_out;
    args.n_rows = plan.rows(x, step);
    if (plan.buffer(x).kind == Plan::Buffer::Kind::kQuantized)
        args.activations = plan.quantized(x, args.n_rows);
    else
        args.x = plan.f32(x);
    if (bias >= 0) args.bias = reinterpret_cast<const float*>(plan.buffer(bias).weight);
    if (residual >= 0) args.residual = plan.f32(residual);
    args.out = plan.f32(out);
    const Range columns = share(w.n_out, kRowGroup, part);
    if (args.n_rows > 0 && columns.begin < columns.end)
        plan.kernels().linear(args, columns.begin, columns.end);
}

Work RopeOp::work(const Plan& plan, const Step& step) const {
    return row_work(plan.rows(x, step), plan.buffer(x).n_cols);
}

void RopeOp::run(Plan& plan, const Step& step, const Part& part) {
    const Plan::RopeTable& angles = plan.rope_table(table);
    const auto n_pairs = int64_t(angles.inverse_frequencies.size());
    const int64_t n = plan.buffer(x).n_cols;
    const Range rows = share(plan.rows(x, step), 1, part);
    for (int64_t t = rows.begin; t < rows.end; ++t) {
        const auto at = size_t(plan.step_row(x, step, t) * n_pairs);
        plan.kernels().rope(plan.f32(x) + t * n, &angles.cos[at], &angles.sin[at], n / head_dim,
                            head_dim, 2 * n_pairs, is_neox);
    }
}

Work KvWriteOp::work(const Plan& plan, const Step& step) const {
    return row_work(step.in.n_rows, 2 * plan.buffer(k).n_cols);
}

void KvWriteOp::run(Plan& plan, const Step& step, const Part& part) {
    const Range rows = share(step.in.n_rows, 1, part);
    for (int64_t t = rows.begin; t < rows.end; ++t) {
        const int64_t slot = step.in.n_past + t, lane = slot % kKvBlock;
        const int64_t block = step.in.blocks[slot / kKvBlock];
        for (int64_t head = 0; head < kv.n_kv; ++head) {
            const int64_t at = (t * kv.n_kv + head) * kv.head_dim;
            uint16_t key[1024];
            plan.kernels().to_half(plan.f32(k) + at, key, kv.head_dim);
            uint16_t* target = step.in.kv->k(layer, block, head) + lane;
            for (int64_t d = 0; d < kv.head_dim; ++d) target[d * kKvBlock] = key[d];
            plan.kernels().to_half(plan.f32(v) + at,
                                   step.in.kv->v(layer, block, head) + lane * kv.head_dim,
                                   kv.head_dim);
        }
    }
}

// Work units are (KV head, split of its query heads): enough of them for all threads, each reading
// its keys once for all rows of the step.
int64_t AttentionOp::splits(const Plan& plan) const {
    return std::min<int64_t>(n_head / kv.n_kv, (plan.n_threads() + kv.n_kv - 1) / kv.n_kv);
}

Work AttentionOp::work(const Plan& plan, const Step& step) const {
    const int64_t n_keys = step.in.n_past + step.in.n_rows;
    const int64_t n_queries = plan.rows(q, step) * n_head;
    return {n_keys * kv.head_dim * (2 * kv.n_kv + n_queries / 4), kv.n_kv * splits(plan)};
}

void AttentionOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t group = n_head / kv.n_kv, n_splits = splits(plan);
    const Range units = share(kv.n_kv * n_splits, 1, part);
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
        const int64_t kv_head = unit / n_splits, split = unit % n_splits;
        TileAttention attention(*this, plan, step, kv_head, plan.scratch(part.thread_idx));
        attention.run(kv_head * group + group * split / n_splits,
                      kv_head * group + group * (split + 1) / n_splits);
    }
}

Work SiluMulOp::work(const Plan& plan, const Step& step) const {
    return row_work(plan.rows(out, step), 2 * plan.buffer(out).n_cols);
}

void SiluMulOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t n = plan.buffer(out).n_cols;
    const Range rows = share(plan.rows(out, step), 1, part);
    plan.kernels().silu_mul(plan.f32(gate) + rows.begin * n, plan.f32(up) + rows.begin * n,
                            plan.f32(out) + rows.begin * n, (rows.end - rows.begin) * n);
}

Work SelectRowsOp::work(const Plan& plan, const Step& step) const {
    return row_work(step.in.n_out_rows, plan.buffer(x).n_cols);
}

void SelectRowsOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t n = plan.buffer(x).n_cols;
    const Range rows = share(step.in.n_out_rows, 1, part);
    for (int64_t r = rows.begin; r < rows.end; ++r)
        std::memcpy(plan.f32(out) + r * n, plan.f32(x) + step.in.out_rows[r] * n,
                    size_t(n) * sizeof(float));
}

Work TopKOp::work(const Plan& plan, const Step& step) const {
    return row_work(step.in.n_out_rows, 2 * plan.buffer(x).n_cols);
}

void TopKOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t n = plan.buffer(x).n_cols;
    TopK& top = plan.top_k_result();
    const Range rows = share(step.in.n_out_rows, 1, part);
    for (int64_t r = rows.begin; r < rows.end; ++r)
        plan.kernels().top_k(plan.f32(x) + r * n, n, top.k, &top.ids[size_t(r * top.k)],
                             &top.log_probs[size_t(r * top.k)]);
}

Work ConcatOp::work(const Plan& plan, const Step& step) const {
    return row_work(plan.rows(out, step), plan.buffer(out).n_cols);
}

void ConcatOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t width = plan.buffer(out).n_cols;
    const Range rows = share(plan.rows(out, step), 1, part);
    for (int64_t t = rows.begin; t < rows.end; ++t) {
        float* target = plan.f32(out) + t * width;
        for (BufferId part : parts) {
            const int64_t n = plan.buffer(part).n_cols;
            target = std::copy_n(plan.f32(part) + t * n, n, target);
        }
    }
}

Work ArgmaxOp::work(const Plan& plan, const Step& step) const {
    return row_work(step.in.n_out_rows, plan.buffer(x).n_cols);
}

void ArgmaxOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t n = plan.buffer(x).n_cols;
    const Range rows = share(step.in.n_out_rows, 1, part);
    for (int64_t r = rows.begin; r < rows.end; ++r)
        plan.set_argmax(r, int32_t(plan.kernels().argmax(plan.f32(x) + r * n, n)));
}

}  // namespace native::cpu
