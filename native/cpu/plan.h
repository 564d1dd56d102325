// A validated list of ops over one arena of activations; `step` runs them all on every thread.
//
// Built once per model. Everything that changes from step to step arrives in StepInputs.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "kv_cache.h"
#include "thread_pool.h"

namespace native::cpu {

// One step over T rows. Row i continues row parents[i], or the committed sequence when that is -1;
// parents precede their children. Row i is stored at slot n_past + i of the sequence whose KV
// blocks are `blocks`; it sees the committed slots, its ancestors and itself, in that order.
struct StepInputs {
    const int32_t* tokens;     // (T)
    const int32_t* positions;  // (T)
    const int32_t* parents;    // (T)
    int64_t n_rows;            // T
    const int32_t* blocks;     // (n_blocks)
    int64_t n_blocks;
    int64_t n_past;
    const int32_t* out_rows;  // (R) rows whose results are wanted, ascending
    int64_t n_out_rows;       // R
    KvCache* kv;
};

// What the ops of one step share, derived from StepInputs once.
struct Step {
    StepInputs in;
    bool is_chain;  // every row continues the one before it
    // For trees, (T, T): path[i * T + d] is the row at depth d above row i.
    std::vector<int32_t> path;
    std::vector<int32_t> depth;  // (T) rows above row i within the step

    // Number of keys up to and including row i's own, and the slot of the j-th of them.
    int64_t n_keys(int64_t row) const { return in.n_past + depth[row] + 1; }
    int64_t slot(int64_t row, int64_t j) const {
        if (j < in.n_past) return j;
        return in.n_past + (is_chain ? j - in.n_past : path[row * in.n_rows + (j - in.n_past)]);
    }
};

// Which keys a row sees: the last `window` of those up to its own (0: all of them), or, when
// `is_block`, all committed keys and those of every row of the step, whatever its parents.
struct AttentionMask {
    int64_t window = 0;
    bool is_block = false;
};

// Block-sparse attention (SPEC C.6), for steps that are chains: of the whole blocks of `block` keys
// before the step, the rows see the first `n_sink`, the last `n_window` and those whose score is at
// least `alpha` times the best; and all keys after these blocks. A block's score is the sum over
// the step's rows of a softmax over the blocks of q . mean(keys) * scale. `block` 0: all keys.
struct SparseBlocks {
    int64_t block = 0, n_sink = 0, n_window = 0;
    float alpha = 0;
};

// The likeliest k of each selected row, by descending probability.
struct TopK {
    int64_t k = 0;
    std::vector<int32_t> ids;      // (R, k)
    std::vector<float> log_probs;  // (R, k)
};

class BlockSelection;

// What one thread works with during an attention op, allocated with the plan.
struct AttentionScratch {
    struct alignas(64) Line {
        float numbers[16];
    };
    std::vector<Line> lines;         // float tiles, each k (D, 32) then v (32, D)
    std::vector<float> rotated;      // (most queries, D)
    std::vector<TileQuery> queries;  // (most rows * query heads of a KV head)
    std::vector<int32_t> heads;      // of these queries, within their group
    std::shared_ptr<BlockSelection> selection;

    FloatTile tile(int64_t i, int64_t head_dim) {
        float* k = lines.data()->numbers + i * 2 * head_dim * kKvBlock;
        return {k, k + head_dim * kKvBlock, head_dim};
    }
};

class Plan;

// What an op has to do in a step: `cost` in thirds of a nanosecond or so, a cheap element's worth,
// and the most parts it can be cut into.
struct Work {
    int64_t cost = 0, most_parts = 0;
};

// Part `idx` of `n` of an op, on the thread that runs it. Shares follow from idx and n alone.
struct Part {
    int idx, n, thread_idx;
};

class Op {
public:
    virtual ~Op() = default;
    virtual Work work(const Plan& plan, const Step& step) const = 0;
    virtual void run(Plan& plan, const Step& step, const Part& part) = 0;

    // Whether the part that computes row t of this op touches row t of its buffers only, by the
    // split all such ops share. Two of them in a row may run part by part, in one stage.
    virtual bool is_row_local() const { return false; }
};

using BufferId = int;

class Plan : private Job {
public:
    Plan(std::shared_ptr<ThreadPool> pool, const char* isa, int64_t max_rows, int64_t max_out_rows,
         int64_t arena_bytes);
    ~Plan() override;

    // ---- buffers: rows are T, or R when `is_out` ----
    BufferId add_weight(const uint8_t* data, int64_t n_bytes, WeightType type, int64_t n_out,
                        int64_t n_cols);
    BufferId add_activation(int64_t offset, int64_t n_cols, bool is_out);
    BufferId add_quantized(int64_t offset, int64_t n_cols, ActivationFormat format, bool is_out);
    BufferId add_kv_layer(int64_t layer, KvShape shape);

    // ---- ops, in order; shapes are checked here ----
    void embed(BufferId out, BufferId table);
    void rms_norm(BufferId out, BufferId x, BufferId weight, float eps);
    void quantize(BufferId out, BufferId x);
    void linear(BufferId out, BufferId x, BufferId weight, BufferId bias, BufferId residual);
    void rope(BufferId x, std::vector<float> inverse_frequencies, int64_t head_dim, bool is_neox);
    void kv_write(BufferId kv, BufferId k, BufferId v);
    void attention(BufferId out, BufferId q, BufferId kv, int64_t n_head, float scale,
                   AttentionMask mask, SparseBlocks sparse = {});
    void silu_mul(BufferId out, BufferId gate, BufferId up);
    void select_rows(BufferId out, BufferId x);
    void argmax(BufferId x);
    void top_k(BufferId x, int64_t k);
    void concat(BufferId out, const std::vector<BufferId>& parts);

    // Runs all ops. Returns false if it was cancelled on the way: state beyond n_past is then
    // undefined, everything before it untouched. Throws Error on inputs that do not fit the plan.
    bool step(const StepInputs& inputs);

    // May be called from any thread; a running step ends with its present stage.
    void set_cancelled(bool is_cancelled) { cancelled_.store(is_cancelled); }

    const float* activation(BufferId id) const;  // (T or R, n_cols) after a step
    int64_t n_cols(BufferId id) const;
    const std::vector<int32_t>& argmax_result() const { return argmax_; }
    const TopK& top_k_result() const { return top_k_; }

    // Bytes a quantized buffer of `n_rows` rows takes in the arena.
    static int64_t quantized_bytes(ActivationFormat format, int64_t n_rows, int64_t n_cols);

    // ---- for ops ----
    struct Buffer {
        enum class Kind { kWeight, kActivation, kQuantized, kKvLayer } kind;
        int64_t n_cols = 0;
        int64_t n_out = 0;  // weights only
        int64_t offset = 0, n_bytes = 0;
        bool is_out = false;
        WeightType type = WeightType::kF32;
        ActivationFormat format = ActivationFormat::kF32;
        const uint8_t* weight = nullptr;
        int64_t layer = 0;  // KV layers only
        KvShape kv{};
    };
    struct RopeTable {
        std::vector<float> inverse_frequencies;
        std::vector<float> cos, sin;  // (max_rows, n_pairs), filled at the start of a step
    };
    const Buffer& buffer(BufferId id) const { return buffers_[size_t(id)]; }
    float* f32(BufferId id) { return reinterpret_cast<float*>(arena_ + buffer(id).offset); }
    Activations quantized(BufferId id, int64_t n_rows);
    int64_t rows(BufferId id, const Step& step) const {
        return buffer(id).is_out ? step.in.n_out_rows : step.in.n_rows;
    }
    // The row of the step that row `row` of the buffer belongs to.
    int64_t step_row(BufferId id, const Step& step, int64_t row) const {
        return buffer(id).is_out ? step.in.out_rows[row] : row;
    }
    const Kernels& kernels() const { return kernels_; }
    const RopeTable& rope_table(size_t index) const { return rope_tables_[index]; }
    int n_threads() const { return pool_->n_threads(); }
    AttentionScratch& attention_scratch(int thread_idx) { return scratch_[size_t(thread_idx)]; }
    void set_argmax(int64_t row, int32_t index) { argmax_[size_t(row)] = index; }
    TopK& top_k_result() { return top_k_; }

private:
    BufferId add_buffer(Buffer buffer);
    const Buffer& expect(const char* op, const char* role, BufferId id, Buffer::Kind kind) const;
    // One op's use of a buffer in the present stage, while the plan is built.
    struct Access {
        BufferId buffer;
        bool is_write, is_row_local;
    };
    void push(std::unique_ptr<Op> op, const std::vector<BufferId>& reads,
              const std::vector<BufferId>& writes);
    void reserve_scratch(KvShape kv, int64_t n_head);
    bool clash(const Access& a, const Access& b) const;
    void check_inputs(const StepInputs& in) const;
    void prepare(const StepInputs& in);
    int begin_stage() override;
    void run_part(int part, int thread_idx) override;
    int n_parts_of(size_t stage) const;
    bool overlaps(int a, int b) const;

    std::shared_ptr<ThreadPool> pool_;
    const Kernels& kernels_;
    const int64_t max_rows_, max_out_rows_, arena_bytes_;
    struct Free {
        void operator()(void* memory) const;
    };
    std::unique_ptr<void, Free> memory_;
    uint8_t* arena_ = nullptr;  // memory_, aligned
    std::vector<Buffer> buffers_;
    std::vector<std::unique_ptr<Op>> ops_;
    std::vector<size_t> stage_ends_;  // ops of a stage need not wait for each other
    std::vector<Access> open_;
    std::vector<RopeTable> rope_tables_;
    std::vector<AttentionScratch> scratch_;
    std::vector<int32_t> argmax_;
    TopK top_k_;
    int64_t n_vocab_ = 0;
    Step step_;
    std::atomic<bool> cancelled_{false};
    size_t next_stage_ = 0;
    int n_parts_ = 0;  // of the present stage
    bool was_cancelled_ = false;
};

}  // namespace native::cpu
