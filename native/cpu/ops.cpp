#include "ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace native::cpu {

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
