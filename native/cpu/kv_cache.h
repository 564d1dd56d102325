// Keys and values of every layer in blocks of 32 positions, f16. Layers may differ in shape.
//
// Per layer and block: k (K, D, 32) with positions along the lanes, then v (K, 32, D).
// Which block holds which positions of which sequence is the caller's affair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace native::cpu {

struct KvShape {
    int64_t n_kv, head_dim;
    bool operator==(const KvShape&) const = default;
};

class KvCache {
public:
    // Reserves address space for `n_blocks` blocks; pages are committed when first written and read
    // as zero before that. Throws Error when the sizes make no sense or the reservation fails.
    KvCache(const std::vector<KvShape>& layers, int64_t n_blocks);
    ~KvCache();
    KvCache(const KvCache&) = delete;
    KvCache& operator=(const KvCache&) = delete;

    int64_t n_layers() const { return int64_t(layers_.size()); }
    const KvShape& shape(int64_t layer) const { return layers_[std::size_t(layer)].shape; }
    int64_t n_blocks() const { return n_blocks_; }
    int64_t block_bytes() const { return block_elements_ * int64_t(sizeof(uint16_t)); }

    uint16_t* k(int64_t layer, int64_t block, int64_t head);  // (D, 32)
    uint16_t* v(int64_t layer, int64_t block, int64_t head);  // (32, D)

    void copy_block(int64_t from, int64_t to);

    // Moves one position's keys and values, all layers. Positions are block * 32 + offset.
    void move_position(int64_t from, int64_t to);

private:
    struct Layer {
        KvShape shape;
        int64_t offset;  // of its keys within a block, in elements; its values follow them
    };
    void check_block(int64_t block) const;

    const int64_t n_blocks_;
    int64_t block_elements_ = 0;
    std::vector<Layer> layers_;
    uint16_t* memory_ = nullptr;  // (n_blocks, block_elements_)
};

}  // namespace native::cpu
