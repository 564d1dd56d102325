#include "plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "error.h"
#include "ops.h"
#include "sparse_blocks.h"

namespace native::cpu {

namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kMostElements = int64_t(1) << 40;

std::string number(int64_t value) {
    return std::to_string(value);
}

int64_t aligned(int64_t bytes) {
    return (bytes + kAlign - 1) / kAlign * kAlign;
}

}  // namespace

Plan::Plan(std::shared_ptr<ThreadPool> pool, const char* isa, int64_t max_rows,
           int64_t max_out_rows, int64_t arena_bytes)
    : pool_(std::move(pool)),
      kernels_(native::cpu::kernels(isa)),
      max_rows_(max_rows),
      max_out_rows_(max_out_rows),
      arena_bytes_(aligned(arena_bytes)) {
    require(max_rows > 0 && max_rows <= 65536 && max_out_rows > 0 && max_out_rows <= max_rows,
            "plan", "rows must be positive and out rows at most rows");
    require(arena_bytes > 0, "plan", "arena must not be empty");
    // calloc leaves the pages of a large area untouched until an op writes them.
    memory_.reset(std::calloc(size_t(arena_bytes_ + kAlign), 1));
    require(memory_ != nullptr, "plan", "could not allocate " + number(arena_bytes_) + " bytes");
    arena_ = reinterpret_cast<uint8_t*>(aligned(reinterpret_cast<intptr_t>(memory_.get())));
    argmax_.resize(size_t(max_out_rows));
    step_.depth.resize(size_t(max_rows));
    step_.path.resize(size_t(max_rows * max_rows));
}

Plan::~Plan() = default;

void Plan::Free::operator()(void* memory) const {
    std::free(memory);
}

// ---- buffers ----

BufferId Plan::add_buffer(Buffer buffer) {
    if (buffer.kind == Buffer::Kind::kActivation || buffer.kind == Buffer::Kind::kQuantized) {
        require(buffer.offset >= 0 && buffer.offset % kAlign == 0 &&
                    buffer.n_bytes <= arena_bytes_ &&
                    buffer.offset <= arena_bytes_ - buffer.n_bytes,
                "plan",
                "buffer at " + number(buffer.offset) + " of " + number(buffer.n_bytes) +
                    " bytes lies outside the arena of " + number(arena_bytes_));
    }
    buffers_.push_back(buffer);
    return BufferId(buffers_.size() - 1);
}

BufferId Plan::add_weight(const uint8_t* data, int64_t n_bytes, WeightType type, int64_t n_out,
                          int64_t n_cols) {
    require(n_out > 0 && n_out < kMostElements / std::max<int64_t>(n_cols, 1), "weight",
            "shape (" + number(n_out) + ", " + number(n_cols) + ") is not sane");
    const int64_t expected = row_bytes(type, n_cols) * n_out;
    require(n_bytes == expected, "weight",
            "got " + number(n_bytes) + " bytes, expected " + number(expected));
    Buffer buffer{Buffer::Kind::kWeight};
    buffer.weight = data;
    buffer.n_bytes = n_bytes;
    buffer.type = type;
    buffer.n_out = n_out;
    buffer.n_cols = n_cols;
    return add_buffer(buffer);
}

BufferId Plan::add_activation(int64_t offset, int64_t n_cols, bool is_out) {
    require(n_cols > 0 && n_cols < kMostElements, "activation", "width must be positive");
    Buffer buffer{Buffer::Kind::kActivation};
    buffer.n_cols = n_cols;
    buffer.offset = offset;
    buffer.is_out = is_out;
    buffer.n_bytes = (is_out ? max_out_rows_ : max_rows_) * n_cols * int64_t(sizeof(float));
    return add_buffer(buffer);
}

int64_t Plan::quantized_bytes(ActivationFormat format, int64_t n_rows, int64_t n_cols) {
    const bool is_q8 = format == ActivationFormat::kQ8;
    const int64_t block = is_q8 ? kBlock : kSuperBlock, sum_bytes = is_q8 ? 4 : 32;
    require(format != ActivationFormat::kF32, "quantized", "f32 is not a quantized format");
    require(n_rows > 0 && n_cols > 0 && n_cols < kMostElements && n_cols % block == 0, "quantized",
            "width " + number(n_cols) + " is not a multiple of " + number(block));
    const int64_t n_blocks = n_rows * (n_cols / block);
    return aligned(n_blocks * block) + aligned(n_blocks * 4) + aligned(n_blocks * sum_bytes);
}

BufferId Plan::add_quantized(int64_t offset, int64_t n_cols, ActivationFormat format, bool is_out) {
    Buffer buffer{Buffer::Kind::kQuantized};
    buffer.n_cols = n_cols;
    buffer.offset = offset;
    buffer.is_out = is_out;
    buffer.format = format;
    buffer.n_bytes = quantized_bytes(format, is_out ? max_out_rows_ : max_rows_, n_cols);
    return add_buffer(buffer);
}

BufferId Plan::add_kv_layer(int64_t layer, KvShape shape) {
    require(layer >= 0, "kv_layer", "layer " + number(layer) + " must not be negative");
    Buffer buffer{Buffer::Kind::kKvLayer};
    buffer.layer = layer;
    buffer.kv = shape;
    return add_buffer(buffer);
}

Activations Plan::quantized(BufferId id, int64_t n_rows) {
    const Buffer& b = buffer(id);
    const int64_t block = b.format == ActivationFormat::kQ8 ? kBlock : kSuperBlock;
    const int64_t n_blocks = n_rows * (b.n_cols / block);
    uint8_t* q = arena_ + b.offset;
    uint8_t* scale = q + aligned(n_blocks * block);
    return {reinterpret_cast<int8_t*>(q), reinterpret_cast<float*>(scale),
            scale + aligned(n_blocks * 4), n_rows};
}

const Plan::Buffer& Plan::expect(const char* op, const char* role, BufferId id,
                                 Buffer::Kind kind) const {
    require(id >= 0 && size_t(id) < buffers_.size(), op,
            std::string(role) + " is no buffer of this plan");
    require(buffers_[size_t(id)].kind == kind, op, std::string(role) + " is of the wrong kind");
    return buffers_[size_t(id)];
}

bool Plan::overlaps(int a, int b) const {
    const Buffer &x = buffer(a), &y = buffer(b);
    const auto in_arena = [](const Buffer& buffer) {
        return buffer.kind == Buffer::Kind::kActivation || buffer.kind == Buffer::Kind::kQuantized;
    };
    if (!in_arena(x) || !in_arena(y)) return a == b;
    return x.offset < y.offset + y.n_bytes && y.offset < x.offset + x.n_bytes;
}

// Whether the second access must wait until all parts of the first are done.
bool Plan::clash(const Access& a, const Access& b) const {
    if (!(a.is_write || b.is_write) || !overlaps(a.buffer, b.buffer)) return false;
    // Rows keep to their part, but only within one buffer: another one in the same place has its
    // rows elsewhere.
    return !(a.is_row_local && b.is_row_local && a.buffer == b.buffer);
}

void Plan::push(std::unique_ptr<Op> op, const std::vector<BufferId>& reads,
                const std::vector<BufferId>& writes) {
    std::vector<Access> accesses;
    for (BufferId id : reads) accesses.push_back({id, false, op->is_row_local()});
    for (BufferId id : writes) accesses.push_back({id, true, op->is_row_local()});
    bool must_wait = false;
    for (const Access& before : open_)
        for (const Access& now : accesses) must_wait |= clash(before, now);
    if (must_wait || stage_ends_.empty()) {
        open_.clear();
        stage_ends_.push_back(0);
    }
    open_.insert(open_.end(), accesses.begin(), accesses.end());
    ops_.push_back(std::move(op));
    stage_ends_.back() = ops_.size();
}

// ---- ops ----

using Kind = Plan::Buffer::Kind;

void Plan::embed(BufferId out, BufferId table) {
    const Buffer& o = expect("embed", "out", out, Kind::kActivation);
    const Buffer& w = expect("embed", "table", table, Kind::kWeight);
    require(o.n_cols == w.n_cols && !o.is_out, "embed", "out and table differ in width");
    require(n_vocab_ == 0 || n_vocab_ == w.n_out, "embed", "two tables differ in vocabulary");
    n_vocab_ = w.n_out;
    push(std::make_unique<EmbedOp>(out, table), {}, {out});
}

void Plan::rms_norm(BufferId out, BufferId x, BufferId weight, float eps) {
    const Buffer& o = expect("rms_norm", "out", out, Kind::kActivation);
    const Buffer& i = expect("rms_norm", "x", x, Kind::kActivation);
    const Buffer& w = expect("rms_norm", "weight", weight, Kind::kWeight);
    require(o.n_cols == i.n_cols && o.is_out == i.is_out && w.type == WeightType::kF32 &&
                i.n_cols % (w.n_out * w.n_cols) == 0,
            "rms_norm", "x and out must have one width, a multiple of that of weight (F32)");
    require(eps >= 0, "rms_norm", "eps must not be negative");
    push(std::make_unique<RmsNormOp>(out, x, weight, eps), {x}, {out});
}

void Plan::quantize(BufferId out, BufferId x) {
    const Buffer& o = expect("quantize", "out", out, Kind::kQuantized);
    const Buffer& i = expect("quantize", "x", x, Kind::kActivation);
    require(o.n_cols == i.n_cols && o.is_out == i.is_out, "quantize", "x and out differ in shape");
    push(std::make_unique<QuantizeOp>(out, x), {x}, {out});
}

void Plan::linear(BufferId out, BufferId x, BufferId weight, BufferId bias, BufferId residual) {
    const Buffer& o = expect("linear", "out", out, Kind::kActivation);
    const Buffer& w = expect("linear", "weight", weight, Kind::kWeight);
    const ActivationFormat format = traits(w.type).activation;
    require(x >= 0 && size_t(x) < buffers_.size(), "linear", "x is no buffer of this plan");
    const bool is_float = buffer(x).kind == Kind::kActivation;
    const Buffer& i = expect("linear", "x", x, is_float ? Kind::kActivation : Kind::kQuantized);
    require(is_float || i.format == format, "linear",
            "x is not in the format the weight type needs");
    require(i.n_cols == w.n_cols && o.n_cols == w.n_out && o.is_out == i.is_out, "linear",
            "x (T, " + number(i.n_cols) + ") and out (T, " + number(o.n_cols) +
                ") do not match weight (" + number(w.n_out) + ", " + number(w.n_cols) + ")");
    std::vector<int> reads{x};
    if (bias >= 0) {
        const Buffer& b = expect("linear", "bias", bias, Kind::kWeight);
        require(b.type == WeightType::kF32 && b.n_out * b.n_cols == w.n_out, "linear",
                "bias must be F32 of width " + number(w.n_out));
    }
    if (residual >= 0) {
        const Buffer& r = expect("linear", "residual", residual, Kind::kActivation);
        require(r.n_cols == o.n_cols && r.is_out == o.is_out, "linear",
                "residual differs from out");
        reads.push_back(residual);
    }
    push(std::make_unique<LinearOp>(out, x, weight, bias, residual), reads, {out});
}

void Plan::rope(BufferId x, std::vector<float> inverse_frequencies, int64_t head_dim,
                bool is_neox) {
    const Buffer& i = expect("rope", "x", x, Kind::kActivation);
    const auto n_rot = int64_t(inverse_frequencies.size()) * 2;
    require(head_dim > 0 && i.n_cols % head_dim == 0 && n_rot > 0 && n_rot <= head_dim, "rope",
            "width " + number(i.n_cols) + " and " + number(n_rot) +
                " rotary dimensions do not fit heads of " + number(head_dim));
    size_t table = 0;
    while (table < rope_tables_.size() &&
           rope_tables_[table].inverse_frequencies != inverse_frequencies)
        ++table;
    if (table == rope_tables_.size()) {
        const size_t n = size_t(max_rows_) * inverse_frequencies.size();
        rope_tables_.push_back(
            {std::move(inverse_frequencies), std::vector<float>(n), std::vector<float>(n)});
    }
    push(std::make_unique<RopeOp>(x, table, head_dim, is_neox), {x}, {x});
}

void Plan::kv_write(BufferId kv, BufferId k, BufferId v) {
    const Buffer& cache = expect("kv_write", "kv", kv, Kind::kKvLayer);
    const Buffer& key = expect("kv_write", "k", k, Kind::kActivation);
    const Buffer& value = expect("kv_write", "v", v, Kind::kActivation);
    const int64_t width = cache.kv.n_kv * cache.kv.head_dim;
    require(key.n_cols == width && value.n_cols == width && !key.is_out && !value.is_out,
            "kv_write", "k and v must be (T, " + number(width) + ")");
    push(std::make_unique<KvWriteOp>(k, v, cache.layer, cache.kv), {k, v}, {kv});
}

void Plan::attention(BufferId out, BufferId q, BufferId kv, int64_t n_head, float scale,
                     AttentionMask mask, SparseBlocks sparse) {
    const Buffer& o = expect("attention", "out", out, Kind::kActivation);
    const Buffer& query = expect("attention", "q", q, Kind::kActivation);
    const Buffer& cache = expect("attention", "kv", kv, Kind::kKvLayer);
    require(n_head > 0 && n_head % cache.kv.n_kv == 0 &&
                query.n_cols == n_head * cache.kv.head_dim && o.n_cols == query.n_cols &&
                o.is_out == query.is_out,
            "attention", "q and out must be (rows, n_head * head_dim), n_head a multiple of n_kv");
    require(mask.window >= 0 && !(mask.is_block && mask.window > 0), "attention",
            "a window must not be negative, and a block has none");
    require(sparse.block == 0 || (sparse.block > 0 && sparse.block % kKvBlock == 0 &&
                                  sparse.n_sink >= 0 && sparse.n_window >= 0 && sparse.alpha >= 0 &&
                                  sparse.alpha <= 1 && !mask.is_block && mask.window == 0),
            "attention",
            "sparse blocks must be multiples of 32 keys, alpha in 0..1, no other mask");
    reserve_scratch(cache.kv, n_head);
    push(std::make_unique<AttentionOp>(out, q, cache.layer, n_head, cache.kv, scale, mask, sparse),
         {q, kv}, {out});
}

// One tile to work on, and those that hold the rows of a tree.
void Plan::reserve_scratch(KvShape kv, int64_t n_head) {
    const int64_t n_tiles = 1 + (max_rows_ + 2 * kKvBlock - 2) / kKvBlock;
    const auto n_lines = size_t(n_tiles * 2 * kv.head_dim * kKvBlock / 16);
    const auto n_queries = size_t(max_rows_ * (n_head / kv.n_kv));
    scratch_.resize(size_t(pool_->n_threads()));
    for (AttentionScratch& scratch : scratch_) {
        if (scratch.lines.size() < n_lines) scratch.lines.resize(n_lines);
        if (scratch.rotated.size() < n_queries * size_t(kv.head_dim))
            scratch.rotated.resize(n_queries * size_t(kv.head_dim));
        if (scratch.queries.size() < n_queries) scratch.queries.resize(n_queries);
        if (scratch.heads.size() < n_queries) scratch.heads.resize(n_queries);
        if (!scratch.selection) scratch.selection = std::make_shared<BlockSelection>();
    }
}

void Plan::silu_mul(BufferId out, BufferId gate, BufferId up) {
    const Buffer& o = expect("silu_mul", "out", out, Kind::kActivation);
    const Buffer& g = expect("silu_mul", "gate", gate, Kind::kActivation);
    const Buffer& u = expect("silu_mul", "up", up, Kind::kActivation);
    require(o.n_cols == g.n_cols && o.n_cols == u.n_cols && o.is_out == g.is_out &&
                o.is_out == u.is_out,
            "silu_mul", "gate, up and out differ in shape");
    push(std::make_unique<SiluMulOp>(out, gate, up), {gate, up}, {out});
}

void Plan::select_rows(BufferId out, BufferId x) {
    const Buffer& o = expect("select_rows", "out", out, Kind::kActivation);
    const Buffer& i = expect("select_rows", "x", x, Kind::kActivation);
    require(o.n_cols == i.n_cols && o.is_out && !i.is_out, "select_rows",
            "out must be (R, width of x)");
    push(std::make_unique<SelectRowsOp>(out, x), {x}, {out});
}

void Plan::argmax(BufferId x) {
    const Buffer& i = expect("argmax", "x", x, Kind::kActivation);
    require(i.is_out, "argmax", "x must have R rows");
    push(std::make_unique<ArgmaxOp>(x), {x}, {});
}

void Plan::top_k(BufferId x, int64_t k) {
    const Buffer& i = expect("top_k", "x", x, Kind::kActivation);
    require(i.is_out, "top_k", "x must have R rows");
    require(k > 0 && k <= i.n_cols && top_k_.k == 0, "top_k",
            "k is " + number(k) + ", expected 1.." + number(i.n_cols) + " and once in a plan");
    const auto n = size_t(max_out_rows_ * k);
    top_k_ = {k, std::vector<int32_t>(n), std::vector<float>(n)};
    push(std::make_unique<TopKOp>(x), {x}, {});
}

void Plan::concat(BufferId out, const std::vector<BufferId>& parts) {
    const Buffer& o = expect("concat", "out", out, Kind::kActivation);
    int64_t width = 0;
    for (BufferId part : parts) {
        const Buffer& p = expect("concat", "part", part, Kind::kActivation);
        require(p.is_out == o.is_out, "concat", "parts and out differ in rows");
        width += p.n_cols;
    }
    require(width == o.n_cols, "concat",
            "parts are " + number(width) + " wide, out " + number(o.n_cols));
    push(std::make_unique<ConcatOp>(out, parts), parts, {out});
}

// ---- stepping ----

void Plan::check_inputs(const StepInputs& in) const {
    require(in.n_rows > 0 && in.n_rows <= max_rows_, "step", in.n_rows, " rows, expected 1..",
            max_rows_);
    require(in.n_out_rows >= 0 && in.n_out_rows <= max_out_rows_, "step", in.n_out_rows,
            " out rows, expected 0..", max_out_rows_);
    require(in.n_past >= 0, "step", "n_past must not be negative");
    for (int64_t t = 0; t < in.n_rows; ++t) {
        require(in.tokens[t] >= 0 && (n_vocab_ == 0 || in.tokens[t] < n_vocab_), "step", "token ",
                in.tokens[t], " is not in 0..", n_vocab_ - 1);
        require(in.parents[t] >= -1 && in.parents[t] < t, "step", "parent ", in.parents[t],
                " of row ", t, " does not precede it");
        require(in.positions[t] >= 0, "step", "positions must not be negative");
    }
    for (int64_t r = 0; r < in.n_out_rows; ++r)
        require(in.out_rows[r] >= 0 && in.out_rows[r] < in.n_rows, "step", "out row ",
                in.out_rows[r], " is not a row of this step");
    bool has_kv = false;
    for (const Buffer& b : buffers_) {
        if (b.kind != Buffer::Kind::kKvLayer) continue;
        has_kv = true;
        require(in.kv != nullptr && b.layer < in.kv->n_layers() && in.kv->shape(b.layer) == b.kv,
                "step", "the KV cache does not have this model's shape");
    }
    if (!has_kv) return;
    require((in.n_past + in.n_rows + kKvBlock - 1) / kKvBlock <= in.n_blocks, "step", in.n_blocks,
            " blocks do not hold ", in.n_past + in.n_rows, " tokens");
    for (int64_t b = 0; b < in.n_blocks; ++b)
        require(in.blocks[b] >= 0 && in.blocks[b] < in.kv->n_blocks(), "step", "block ",
                in.blocks[b], " is not in the KV cache");
}

void Plan::prepare(const StepInputs& in) {
    const int64_t n = in.n_rows;
    step_.in = in;
    step_.is_chain = true;
    for (int64_t t = 0; t < n; ++t) {
        step_.is_chain &= in.parents[t] == t - 1;
        step_.depth[size_t(t)] = in.parents[t] < 0 ? 0 : step_.depth[size_t(in.parents[t])] + 1;
    }
    if (!step_.is_chain) {
        for (int64_t t = 0; t < n; ++t) {
            const int64_t depth = step_.depth[size_t(t)];
            if (in.parents[t] >= 0)
                std::copy_n(&step_.path[size_t(in.parents[t] * n)], depth,
                            &step_.path[size_t(t * n)]);
            step_.path[size_t(t * n + depth)] = int32_t(t);
        }
    }
    for (RopeTable& table : rope_tables_) {
        const size_t n_pairs = table.inverse_frequencies.size();
        for (int64_t t = 0; t < n; ++t)
            for (size_t i = 0; i < n_pairs; ++i) {
                const double angle = double(in.positions[t]) * double(table.inverse_frequencies[i]);
                table.cos[size_t(t) * n_pairs + i] = float(std::cos(angle));
                table.sin[size_t(t) * n_pairs + i] = float(std::sin(angle));
            }
    }
}

bool Plan::step(const StepInputs& inputs) {
    check_inputs(inputs);
    prepare(inputs);
    next_stage_ = 0;
    was_cancelled_ = false;
    pool_->run(*this);
    return !was_cancelled_;
}

// A stage is worth a part for each thread, and more when they are long enough not to notice: the
// more parts, the less a thread matters that is late or slow.
int Plan::n_parts_of(size_t stage) const {
    constexpr int64_t kWorthAThread = 4096, kLongPart = 32768, kMostPartsPerThread = 8;
    Work total;
    for (size_t i = stage == 0 ? 0 : stage_ends_[stage - 1]; i < stage_ends_[stage]; ++i) {
        const Work work = ops_[i]->work(*this, step_);
        total.cost += work.cost;
        total.most_parts = std::max(total.most_parts, work.most_parts);
    }
    const int64_t n_threads = pool_->n_threads();
    const int64_t per_thread =
        std::clamp<int64_t>(total.cost / n_threads / kLongPart, 1, kMostPartsPerThread);
    const int64_t n_worth = std::min(total.cost / kWorthAThread + 1, n_threads * per_thread);
    return int(std::min({n_worth, total.most_parts, int64_t(kMostParts)}));
}

int Plan::begin_stage() {
    for (n_parts_ = 0; n_parts_ == 0; ++next_stage_) {
        if (next_stage_ == stage_ends_.size()) return 0;
        was_cancelled_ = cancelled_.load();
        if (was_cancelled_) return 0;
        n_parts_ = n_parts_of(next_stage_);
    }
    return n_parts_;
}

void Plan::run_part(int part, int thread_idx) {
    const size_t stage = next_stage_ - 1;
    for (size_t i = stage == 0 ? 0 : stage_ends_[stage - 1]; i < stage_ends_[stage]; ++i)
        ops_[i]->run(*this, step_, {part, n_parts_, thread_idx});
}

const float* Plan::activation(BufferId id) const {
    const Buffer& b = expect("activation", "buffer", id, Kind::kActivation);
    return reinterpret_cast<const float*>(arena_ + b.offset);
}

int64_t Plan::n_cols(BufferId id) const {
    return expect("n_cols", "buffer", id, Kind::kActivation).n_cols;
}

}  // namespace native::cpu
