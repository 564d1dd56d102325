#include "tree.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>

#include "error.h"

namespace native::cpu {
namespace {

constexpr int kOfChain = -1;    // the rank of what no block proposes
constexpr uint32_t kBlock = 1;  // its bit of a node's sources

struct Node {
    int32_t token;
    int parent, depth;
    double score;              // log-probability of the path
    uint32_t sources;          // who proposes the node's token after its parent
    std::vector<int> n_taken;  // of each chain, if the path is its beginning, or -1
    bool goes_on_in_block;     // whether the block's next depth may follow
};

// What may become a node; those of one score in the order in which they were found.
struct Candidate {
    double score;
    int order, parent;
    int32_t token;
    int rank;

    bool operator<(const Candidate& other) const {
        return score != other.score ? score < other.score : order > other.order;
    }
};

class Growth {
public:
    explicit Growth(const Sources& from) : from_(from) {
        const std::vector<int> n_taken(from.chains.size(), 0);
        nodes_.push_back({from.root, -1, 0, 0.0, 0, n_taken, from.n_depths > 0});
    }

    // Adds the block's likeliest chain; every sibling and chain on its way becomes a candidate.
    void seed(int64_t budget) {
        push_children(0, true);
        int node = 0;
        const int64_t n = std::min({from_.n_depths, budget, from_.max_depth});
        for (int64_t depth = 0; depth < n; ++depth) {
            const int parent = node;
            node = add(parent, id(depth, 0), nodes_[parent].score + log_prob(depth, 0));
            push_sibling(parent, 0);
            push_children(node, depth + 1 < budget);
        }
    }

    // Takes the likeliest candidates until there are enough, or none is worth its row.
    void fill(int64_t budget, const Costs& costs) {
        std::vector<double> seeds;  // those less likely than what is taken, likeliest last
        for (size_t i = nodes_.size(); i-- > 1;) seeds.push_back(std::exp(nodes_[i].score));
        size_t n_rows = 1;
        double n_expected = 1;  // tokens that a step of so many rows decides
        while (!candidates_.empty() && int64_t(nodes_.size()) <= budget) {
            const Candidate best = candidates_.top();
            candidates_.pop();
            const double probability = std::exp(best.score);
            for (; !seeds.empty() && seeds.back() >= probability; seeds.pop_back())
                ++n_rows, n_expected += seeds.back();
            if (costs.n && probability * costs.ms[n_rows] < n_expected * costs.least_row_ms[n_rows])
                return;
            if (best.rank != kOfChain) push_sibling(best.parent, best.rank);
            if (has(best.parent, best.token)) continue;
            ++n_rows, n_expected += probability;
            push_children(add(best.parent, best.token, best.score), false);
        }
    }

    Tree tree() const {
        // A child is never likelier than its parent, and the sort is stable: parents come first.
        std::vector<int> order(nodes_.size()), rows(nodes_.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](int a, int b) { return nodes_[a].score > nodes_[b].score; });
        Tree tree;
        for (size_t row = 0; row < order.size(); ++row) {
            const Node& node = nodes_[order[row]];
            rows[order[row]] = int(row);
            tree.tokens.push_back(node.token);
            tree.parents.push_back(node.parent < 0 ? -1 : rows[node.parent]);
            tree.log_probs.push_back(node.score);
            tree.sources.push_back(node.sources);
        }
        return tree;
    }

private:
    const Sources& from_;
    std::vector<Node> nodes_;
    std::priority_queue<Candidate> candidates_;
    int n_pushed_ = 0;

    int32_t id(int64_t depth, int64_t rank) const {
        return from_.ids[depth * from_.n_ranks + rank];
    }
    double log_prob(int64_t depth, int64_t rank) const {
        return from_.log_probs[depth * from_.n_ranks + rank];
    }
    bool has(int parent, int32_t token) const {
        return std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& node) {
            return node.parent == parent && node.token == token;
        });
    }

    // A node of every source that proposes `token` after `parent`; the likeliest of them counts.
    int add(int parent, int32_t token, double score) {
        const Node& above = nodes_[parent];
        Node node{token, parent, above.depth + 1, score, 0, above.n_taken, false};
        if (above.goes_on_in_block) {
            const int32_t* ids = from_.ids + above.depth * from_.n_ranks;
            const bool is_proposed =
                std::find(ids, ids + from_.n_ranks, token) != ids + from_.n_ranks;
            if (is_proposed) node.sources |= kBlock;
            node.goes_on_in_block = is_proposed && node.depth < from_.n_depths;
        }
        for (size_t i = 0; i < from_.chains.size(); ++i) {
            const Chain& chain = from_.chains[i];
            int& n = node.n_taken[i];
            if (n >= 0 && size_t(n) < chain.tokens.size() && chain.tokens[n] == token) {
                node.score = std::max(node.score, above.score + chain.log_probs[n]);
                node.sources |= 2u << i;
                ++n;
            } else {
                n = -1;
            }
        }
        nodes_.push_back(std::move(node));
        return int(nodes_.size()) - 1;
    }

    // What each source proposes after a node; the block's first is left out where `seed` adds it.
    void push_children(int at, bool leaves_out_first) {
        const Node& node = nodes_[at];
        if (node.depth >= from_.max_depth) return;
        if (node.goes_on_in_block && !leaves_out_first)
            push(node.score + log_prob(node.depth, 0), at, id(node.depth, 0), 0);
        for (size_t i = 0; i < from_.chains.size(); ++i) {
            const Chain& chain = from_.chains[i];
            const int n = node.n_taken[i];
            if (n >= 0 && size_t(n) < chain.tokens.size())
                push(node.score + chain.log_probs[n], at, chain.tokens[n], kOfChain);
        }
    }

    void push_sibling(int parent, int rank) {
        const Node& above = nodes_[parent];
        if (++rank < from_.n_ranks)
            push(above.score + log_prob(above.depth, rank), parent, id(above.depth, rank), rank);
    }

    void push(double score, int parent, int32_t token, int rank) {
        candidates_.push({score, n_pushed_++, parent, token, rank});
    }
};

}  // namespace

Tree grow_tree(const Sources& sources, int64_t budget, const Costs& costs) {
    require(sources.chains.size() <= kMostChains, "grow_tree",
            "more chains than bits to mark them");
    for (const Chain& chain : sources.chains)
        require(chain.tokens.size() == chain.log_probs.size(), "grow_tree",
                "a chain whose tokens and log-probabilities differ in number");
    require(!costs.n || costs.n > budget + 1, "grow_tree",
            "costs of fewer rows than the tree may have");
    Growth growth(sources);
    if (budget > 0) {
        growth.seed(budget);
        growth.fill(budget, costs);
    }
    return growth.tree();
}

BestSize best_size(const std::vector<double>& log_probs, const Costs& costs, int64_t most_rows) {
    const int64_t n_rows = std::min({int64_t(log_probs.size()), most_rows, costs.n - 1});
    require(n_rows > 0, "best_size", "no rows, or no costs of them");
    BestSize best{0, 0, 0, 0};
    for (int64_t n = 1; n <= n_rows; ++n) {
        best.n_expected += std::exp(log_probs[n - 1]);
        const double rate = best.n_expected / costs.ms[n];
        if (n == 1) best.rate_of_none = rate;
        if (rate > best.rate) best.rate = rate, best.n_drafts = n - 1;
    }
    return best;
}

bool fill_paths(const int32_t* parents, int64_t n, int64_t n_past, int32_t* positions,
                int32_t* depth, uint8_t* path, int64_t stride) {
    bool is_chain = true;
    for (int64_t i = 0; i < n; ++i) {
        require(parents[i] >= -1 && parents[i] < i, "fill_paths", "a row before its parent");
        is_chain = is_chain && parents[i] == i - 1;
        depth[i] = parents[i] < 0 ? 0 : depth[parents[i]] + 1;
        positions[i] = int32_t(n_past) + depth[i];
    }
    if (is_chain) return true;
    require(n <= stride, "fill_paths", "more rows than a tree may have");
    for (int64_t i = 0; i < n; ++i) {
        uint8_t* to = path + i * stride;
        if (parents[i] >= 0) std::copy_n(path + parents[i] * stride, depth[i], to);
        to[depth[i]] = uint8_t(i);
    }
    return false;
}

}  // namespace native::cpu
