#include "kv_cache.h"

#include <cstdlib>
#include <cstring>

#include "error.h"
#include "kernels.h"

namespace native::cpu {

namespace {
constexpr int64_t kMostBytes = int64_t(1) << 40;
}

KvCache::KvCache(const std::vector<KvShape>& layers, int64_t n_blocks) : n_blocks_(n_blocks) {
    require(!layers.empty() && layers.size() <= 4096 && n_blocks > 0, "kv_cache",
            "layers and blocks must be positive and sane");
    for (const KvShape& shape : layers) {
        require(shape.n_kv > 0 && shape.n_kv <= 4096, "kv_cache",
                std::to_string(shape.n_kv) + " heads, expected 1..4096");
        require(shape.head_dim > 0 && shape.head_dim % 8 == 0 && shape.head_dim <= 1024, "kv_cache",
                "head_dim is " + std::to_string(shape.head_dim) +
                    ", expected a multiple of 8 up to 1024");
        layers_.push_back({shape, block_elements_});
        block_elements_ += 2 * shape.n_kv * shape.head_dim * kKvBlock;
    }
    require(n_blocks <= kMostBytes / block_bytes(), "kv_cache",
            std::to_string(n_blocks) + " blocks exceed the largest cache");
    // calloc of a large area is an anonymous mapping: zero pages until written.
    memory_ = static_cast<uint16_t*>(std::calloc(size_t(n_blocks), size_t(block_bytes())));
    require(memory_ != nullptr, "kv_cache",
            "could not reserve " + std::to_string(n_blocks * block_bytes()) + " bytes");
}

KvCache::~KvCache() {
    std::free(memory_);
}

void KvCache::check_block(int64_t block) const {
    require(block >= 0 && block < n_blocks_, "kv_cache",
            "block " + std::to_string(block) + " is not in 0.." + std::to_string(n_blocks_ - 1));
}

uint16_t* KvCache::k(int64_t layer, int64_t block, int64_t head) {
    const Layer& l = layers_[size_t(layer)];
    return memory_ + block * block_elements_ + l.offset + head * l.shape.head_dim * kKvBlock;
}

uint16_t* KvCache::v(int64_t layer, int64_t block, int64_t head) {
    return k(layer, block, shape(layer).n_kv + head);
}

void KvCache::copy_block(int64_t from, int64_t to) {
    check_block(from);
    check_block(to);
    std::memmove(k(0, to, 0), k(0, from, 0), size_t(block_bytes()));
}

void KvCache::move_position(int64_t from, int64_t to) {
    check_block(from / kKvBlock);
    check_block(to / kKvBlock);
    const int64_t from_lane = from % kKvBlock, to_lane = to % kKvBlock;
    for (int64_t layer = 0; layer < n_layers(); ++layer) {
        const auto [n_kv, head_dim] = shape(layer);
        for (int64_t head = 0; head < n_kv; ++head) {
            const uint16_t* k_from = k(layer, from / kKvBlock, head);
            uint16_t* k_to = k(layer, to / kKvBlock, head);
            for (int64_t d = 0; d < head_dim; ++d)
                k_to[d * kKvBlock + to_lane] = k_from[d * kKvBlock + from_lane];
            std::memmove(v(layer, to / kKvBlock, head) + to_lane * head_dim,
                         v(layer, from / kKvBlock, head) + from_lane * head_dim,
                         size_t(head_dim) * sizeof(uint16_t));
        }
    }
}

}  // namespace native::cpu
