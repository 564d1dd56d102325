#include "kv_cache.h"

#include <cstdlib>
#include <cstring>

#include "error.h"
#include "kernels.h"

namespace native::cpu {

namespace {
constexpr int64_t kMostBytes = int64_t(1) << 40;
}

KvCache::KvCache(int64_t n_layers, int64_t n_kv, int64_t head_dim, int64_t n_blocks)
    : n_layers_(n_layers), n_kv_(n_kv), head_dim_(head_dim), n_blocks_(n_blocks) {
    require(n_layers > 0 && n_kv > 0 && n_blocks > 0 && n_layers <= 4096 && n_kv <= 4096,
            "kv_cache", "layers, heads and blocks must be positive and sane");
    require(head_dim > 0 && head_dim % 8 == 0 && head_dim <= 1024, "kv_cache",
            "head_dim is " + std::to_string(head_dim) + ", expected a multiple of 8 up to 1024");
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
    return memory_ + ((block * n_layers_ + layer) * 2 * n_kv_ + head) * head_dim_ * kKvBlock;
}

uint16_t* KvCache::v(int64_t layer, int64_t block, int64_t head) {
    return memory_ + (((block * n_layers_ + layer) * 2 + 1) * n_kv_ + head) * head_dim_ * kKvBlock;
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
    for (int64_t layer = 0; layer < n_layers_; ++layer)
        for (int64_t head = 0; head < n_kv_; ++head) {
            const uint16_t* k_from = k(layer, from / kKvBlock, head);
            uint16_t* k_to = k(layer, to / kKvBlock, head);
            for (int64_t d = 0; d < head_dim_; ++d)
                k_to[d * kKvBlock + to_lane] = k_from[d * kKvBlock + from_lane];
            std::memmove(v(layer, to / kKvBlock, head) + to_lane * head_dim_,
                         v(layer, from / kKvBlock, head) + from_lane * head_dim_,
                         size_t(head_dim_) * sizeof(uint16_t));
        }
}

}  // namespace native::cpu
