// Keys and values of every layer in blocks of 32 positions, f16.
//
// Per layer and block: k (K, D, 32) with positions along the lanes, then v (K, 32, D).
// Which block holds which positions of which sequence is the caller's affair.
#pragma once

#include <cstdint>
#include <memory>

namespace native::cpu {

class KvCache {
public:
    // Reserves address space for `n_blocks` blocks; pages are committed when first written and read
    // as zero before that. Throws Error when the sizes make no sense or the reservation fails.
    KvCache(int64_t n_layers, int64_t n_kv, int64_t head_dim, int64_t n_blocks);
    ~KvCache();
    KvCache(const KvCache&) = delete;
    KvCache& operator=(const KvCache&) = delete;

    int64_t n_layers() const { return n_layers_; }
    int64_t n_kv() const { return n_kv_; }
    int64_t head_dim() const { return head_dim_; }
    int64_t n_blocks() const { return n_blocks_; }
    int64_t block_bytes() const { return n_layers_ * layer_block_bytes(); }

    uint16_t* k(int64_t layer, int64_t block, int64_t head);  // (D, 32)
    uint16_t* v(int64_t layer, int64_t block, int64_t head);  // (32, D)

    void copy_block(int64_t from, int64_t to);

    // Moves one position's keys and values, all layers. Positions are block * 32 + offset.
    void move_position(int64_t from, int64_t to);

private:
    int64_t layer_block_bytes() const { return 2 * n_kv_ * head_dim_ * 32 * 2; }
    void check_block(int64_t block) const;

    const int64_t n_layers_, n_kv_, head_dim_, n_blocks_;
    uint16_t* memory_ = nullptr;  // (n_blocks, L, 2, K, D * 32)
};

}  // namespace native::cpu
