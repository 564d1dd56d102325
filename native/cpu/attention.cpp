// The ops around the KV cache: how storing keys and values and attending to them are split.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "ops.h"
#include "sparse_blocks.h"

namespace native::cpu {

namespace {

// Attention of queries of one KV head; a row of the step has `group` of them, one after the other.
class HeadAttention {
public:
    HeadAttention(const AttentionOp& op, Plan& plan, const Step& step, int64_t kv_head,
                  AttentionScratch& scratch)
        : op_(op),
          plan_(plan),
          step_(step),
          kv_head_(kv_head),
          group_(op.n_head / op.kv.n_kv),
          scratch_(scratch) {}

    void run(int64_t begin, int64_t end) {
        if (is_sparse()) selection().select(op_, plan_, step_, kv_head_, tile(0));
        collect(begin, end);
        int64_t last_key = 0, first_key = INT64_MAX;
        for (const TileQuery& query : queries()) {
            last_key = std::max(last_key, query.end);
            first_key = std::min(first_key, query.begin);
        }
        const bool has_branches = !step_.is_chain && !op_.mask.is_block;
        if (has_branches) expand_step();
        for (int64_t first = first_key / kKvBlock * kKvBlock; first < last_key; first += kKvBlock) {
            if (has_branches && first + kKvBlock > step_.in.n_past)
                attend_branches(begin, first);
            else
                attend_shared(first);
        }
        for (const TileQuery& query : queries())
            plan_.kernels().finish_attention(query.out, query.sum, op_.kv.head_dim);
    }

private:
    bool is_sparse() const { return op_.sparse.block > 0 && step_.is_chain; }
    BlockSelection& selection() { return *scratch_.selection; }
    int32_t& heads_of_query(size_t i) { return scratch_.heads[i]; }
    std::span<TileQuery> queries() { return {scratch_.queries.data(), size_t(n_queries_)}; }

    void collect(int64_t begin, int64_t end) {
        n_queries_ = end - begin;
        // In sparse attention the queries of one head lie side by side: they see the same tiles.
        const int64_t n_passes = is_sparse() ? group_ : 1;
        size_t n = 0;
        for (int64_t j = 0; j < n_queries_ * n_passes; ++j) {
            const int64_t i = begin + j % n_queries_;
            if (n_passes > 1 && i % group_ != j / n_queries_) continue;
            const int64_t t = i / group_, head = kv_head_ * group_ + i % group_;
            heads_of_query(n) = int32_t(i % group_);
            const int64_t at = (t * op_.n_head + head) * op_.kv.head_dim;
            float* out = plan_.f32(op_.out) + at;
            std::memset(out, 0, size_t(op_.kv.head_dim) * sizeof(float));
            const int64_t last =
                op_.mask.is_block ? step_.in.n_past + step_.in.n_rows : step_.n_keys(row_of(i));
            const int64_t window = op_.mask.window > 0 ? op_.mask.window : last;
            scratch_.queries[n++] = {query(at, i - begin),
                                     out,
                                     std::max<int64_t>(last - window, 0),
                                     last,
                                     -INFINITY,
                                     0.0f};
        }
    }

    // Query i of those collected, as the keys of the cache need it.
    const float* query(int64_t at, int64_t i) {
        const float* q = plan_.f32(op_.q) + at;
        if (step_.in.kv->type() == KvType::kF16) return q;
        float* rotated = scratch_.rotated.data() + i * op_.kv.head_dim;
        plan_.kernels().rotate_groups(q, op_.kv.head_dim, 1.0f / kKvGroup, rotated);
        return rotated;
    }

    // The step's row that query i belongs to.
    int64_t row_of(int64_t i) const { return plan_.step_row(op_.q, step_, i / group_); }

    KvTile cached(int64_t first) const {
        return step_.in.kv->tile(op_.layer, step_.in.blocks[first / kKvBlock], kv_head_);
    }

    // A tile that is a KV block: runs of the queries that see any of it.
    void attend_shared(int64_t first) {
        const auto sees = [&](const TileQuery& query) {
            const bool is_visible = query.begin < first + kKvBlock && query.end > first;
            if (!is_visible || !is_sparse()) return is_visible;
            return selection().sees(heads_of_query(size_t(&query - queries().data())), first);
        };
        const std::span<TileQuery> all = queries();
        for (auto run = std::ranges::find_if(all, sees); run != all.end();) {
            const auto run_end = std::find_if_not(run, all.end(), sees);
            plan_.kernels().attend_kv_tile(&*run, run_end - run, cached(first), tile(0), first,
                                           op_.scale);
            run = std::find_if(run_end, all.end(), sees);
        }
    }

    // ---- branches of a tree: the keys of one row are not side by side ----

    FloatTile tile(int64_t i) const { return scratch_.tile(i, op_.kv.head_dim); }
    // The tile, as tile(1 + ...) of the scratch, that holds a slot of the step.
    FloatTile step_tile(int64_t slot) const {
        return tile(1 + slot / kKvBlock - step_.in.n_past / kKvBlock);
    }

    // Expands the KV blocks that hold the step's own keys.
    void expand_step() {
        const int64_t n_slots = step_.in.n_past + step_.in.n_rows;
        for (int64_t first = step_.in.n_past / kKvBlock * kKvBlock; first < n_slots;
             first += kKvBlock)
            plan_.kernels().expand_tile(cached(first), step_tile(first));
    }

    // A tile with keys of the step: each row puts its own branch in place. Most of it is already
    // there, for rows that follow each other share most of their ancestors.
    void attend_branches(int64_t begin, int64_t first) {
        int64_t slots[kKvBlock];  // what lies in the tile's lanes
        for (int64_t j = 0; j < kKvBlock; ++j) slots[j] = first + j;
        const int64_t n_numbers = op_.kv.head_dim * kKvBlock;
        std::copy_n(step_tile(first).k, n_numbers, tile(0).k);
        std::copy_n(step_tile(first).v, n_numbers, tile(0).v);
        for (int64_t i = begin; i < begin + n_queries_;) {
            const int64_t next = std::min((i / group_ + 1) * group_, begin + n_queries_);
            TileQuery* query = &scratch_.queries[size_t(i - begin)];
            if (query->begin < first + kKvBlock && query->end > first) {
                const int64_t n_valid = std::min<int64_t>(query->end - first, kKvBlock);
                for (int64_t j = 0; j < n_valid; ++j)
                    place(step_.slot(row_of(i), first + j), j, slots[j]);
                plan_.kernels().attend_tile(query, next - i, tile(0), first, op_.scale);
            }
            i = next;
        }
    }

    // Makes lane j of the tile hold the key and value of `slot`, a slot of the step.
    void place(int64_t slot, int64_t j, int64_t& held) {
        if (slot == held) return;
        held = slot;
        const int64_t head_dim = op_.kv.head_dim, lane = slot % kKvBlock;
        const FloatTile from = step_tile(slot), to = tile(0);
        for (int64_t d = 0; d < head_dim; ++d) to.k[d * kKvBlock + j] = from.k[d * kKvBlock + lane];
        std::copy_n(from.v + lane * head_dim, head_dim, to.v + j * head_dim);
    }

    const AttentionOp& op_;
    Plan& plan_;
    const Step& step_;
    const int64_t kv_head_, group_;
    AttentionScratch& scratch_;
    int64_t n_queries_ = 0;
};

}  // namespace

Work KvWriteOp::work(const Plan& plan, const Step& step) const {
    return row_work(step.in.n_rows, 2 * plan.buffer(k).n_cols);
}

void KvWriteOp::run(Plan& plan, const Step& step, const Part& part) {
    const Range rows = share(step.in.n_rows, 1, part);
    for (int64_t t = rows.begin; t < rows.end; ++t) {
        const int64_t slot = step.in.n_past + t;
        const int64_t position = step.in.blocks[slot / kKvBlock] * kKvBlock + slot % kKvBlock;
        for (int64_t head = 0; head < kv.n_kv; ++head) {
            const int64_t at = (t * kv.n_kv + head) * kv.head_dim;
            step.in.kv->write(plan.kernels(), layer, position, head, plan.f32(k) + at,
                              plan.f32(v) + at);
        }
    }
}

// Every part reads its keys anew, so a part has queries to make that worth while, unless threads
// would go without.
Work AttentionOp::work(const Plan& plan, const Step& step) const {
    constexpr int64_t kWorthAPart = 32;
    const int64_t n_keys = step.in.n_past + step.in.n_rows;
    if (sparse.block > 0)  // every part scores the blocks of its heads
        return {n_keys * kv.head_dim * (kv.n_kv + plan.rows(q, step) * n_head / 32),
                std::max<int64_t>(plan.n_threads(), kv.n_kv)};
    const int64_t n_seen =
        mask.window > 0 ? std::min(n_keys, mask.window + step.in.n_rows) : n_keys;
    const int64_t n_queries = plan.rows(q, step) * n_head, n_threads = plan.n_threads();
    const int64_t per_thread = std::max<int64_t>(n_queries / (n_threads * kWorthAPart), 1);
    return {n_seen * kv.head_dim * (kv.n_kv + n_queries / 8),
            std::min(n_threads * per_thread, n_queries)};
}

// Queries are counted by KV head, row and head of its group, so that a part reads the keys of few
// KV heads for many queries.
void AttentionOp::run(Plan& plan, const Step& step, const Part& part) {
    const int64_t n_per_head = plan.rows(q, step) * (n_head / kv.n_kv);
    const Range mine = share(kv.n_kv * n_per_head, 1, part);
    for (int64_t begin = mine.begin; begin < mine.end;) {
        const int64_t kv_head = begin / n_per_head, start = kv_head * n_per_head;
        const int64_t end = std::min(mine.end, start + n_per_head);
        HeadAttention attention(*this, plan, step, kv_head,
                                plan.attention_scratch(part.thread_idx));
        attention.run(begin - start, end - start);
        begin = end;
    }
}

}  // namespace native::cpu
