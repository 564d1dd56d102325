// The ops a Plan runs. Each splits its work over threads without any effect on its results.
#pragma once

#include "plan.h"

namespace native::cpu {

struct Range {
    int64_t begin, end;
};

// The part's share of n items, boundaries at multiples of `unit`.
inline Range share(int64_t n, int64_t unit, const Part& part) {
    const int64_t n_units = (n + unit - 1) / unit;
    const int64_t begin = n_units * part.idx / part.n * unit;
    const int64_t end = n_units * (part.idx + 1) / part.n * unit;
    return {begin < n ? begin : n, end < n ? end : n};
}

// Work of an op that shares out its rows.
inline Work row_work(int64_t n_rows, int64_t n_cols) {
    return {n_rows * n_cols, n_rows};
}

struct EmbedOp : Op {
    BufferId out, table;
    EmbedOp(BufferId out, BufferId table) : out(out), table(table) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
};

struct RmsNormOp : Op {
    BufferId out, x, weight;
    float eps;
    RmsNormOp(BufferId out, BufferId x, BufferId weight, float eps)
        : out(out), x(x), weight(weight), eps(eps) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
    bool is_row_local() const override { return true; }
};

struct QuantizeOp : Op {
    BufferId out, x;
    QuantizeOp(BufferId out, BufferId x) : out(out), x(x) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
    bool is_row_local() const override { return true; }
};

struct LinearOp : Op {
    BufferId out, x, weight, bias, residual;  // bias and residual may be -1
    LinearOp(BufferId out, BufferId x, BufferId weight, BufferId bias, BufferId residual)
        : out(out), x(x), weight(weight), bias(bias), residual(residual) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
};

struct RopeOp : Op {
    BufferId x;
    size_t table;
    int64_t head_dim;
    bool is_neox;
    RopeOp(BufferId x, size_t table, int64_t head_dim, bool is_neox)
        : x(x), table(table), head_dim(head_dim), is_neox(is_neox) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
    bool is_row_local() const override { return true; }
};

struct KvWriteOp : Op {
    BufferId k, v;
    int64_t layer;
    KvShape kv;
    KvWriteOp(BufferId k, BufferId v, int64_t layer, KvShape kv)
        : k(k), v(v), layer(layer), kv(kv) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
    bool is_row_local() const override { return true; }
};

struct AttentionOp : Op {
    BufferId out, q;
    int64_t layer, n_head;
    KvShape kv;
    float scale;
    AttentionMask mask;
    SparseBlocks sparse;
    AttentionOp(BufferId out, BufferId q, int64_t layer, int64_t n_head, KvShape kv, float scale,
                AttentionMask mask, SparseBlocks sparse)
        : out(out),
          q(q),
          layer(layer),
          n_head(n_head),
          kv(kv),
          scale(scale),
          mask(mask),
          sparse(sparse) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
};

struct SiluMulOp : Op {
    BufferId out, gate, up;
    SiluMulOp(BufferId out, BufferId gate, BufferId up) : out(out), gate(gate), up(up) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
    bool is_row_local() const override { return true; }
};

struct SelectRowsOp : Op {
    BufferId out, x;
    SelectRowsOp(BufferId out, BufferId x) : out(out), x(x) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
};

struct TopKOp : Op {
    BufferId x;
    explicit TopKOp(BufferId x) : x(x) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
};

struct ConcatOp : Op {
    BufferId out;
    std::vector<BufferId> parts;
    ConcatOp(BufferId out, std::vector<BufferId> parts) : out(out), parts(std::move(parts)) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
    bool is_row_local() const override { return true; }
};

struct ArgmaxOp : Op {
    BufferId x;
    explicit ArgmaxOp(BufferId x) : x(x) {}
    Work work(const Plan& plan, const Step& step) const override;
    void run(Plan& plan, const Step& step, const Part& part) override;
};

}  // namespace native::cpu
