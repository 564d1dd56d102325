// Keys and values of every layer in blocks of 32 positions. Layers may differ in shape.
//
// Per layer and block: the keys of each of K heads, then their values, laid out as in KvTile.
// Which block holds which positions of which sequence is the caller's affair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace native::cpu {

struct KvShape {
    int64_t n_kv, head_dim;
    bool operator==(const KvShape&) const = default;
};

class KvCache {
public:
    // Reserves address space for `n_blocks` blocks; pages are committed when first written and read
    // as zero before that. Throws Error when the sizes make no sense or the reservation fails.
    KvCache(const std::vector<KvShape>& layers, KvType type, int64_t n_blocks);
    ~KvCache();
    KvCache(const KvCache&) = delete;
    KvCache& operator=(const KvCache&) = delete;

    KvType type() const { return type_; }
    int64_t n_layers() const { return int64_t(layers_.size()); }
    const KvShape& shape(int64_t layer) const { return layers_[std::size_t(layer)].shape; }
    int64_t n_blocks() const { return n_blocks_; }
    int64_t block_bytes() const { return block_bytes_; }

    // One head's numbers in one block, aligned to 64 bytes.
    KvTile tile(int64_t layer, int64_t block, int64_t head) const {
        return {type_, k(layer, block, head), v(layer, block, head)};
    }

    // Stores one head's key and value (D) at a position, which is block * 32 + offset.
    void write(const Kernels& kernels, int64_t layer, int64_t position, int64_t head,
               const float* key, const float* value);

    void copy_block(int64_t from, int64_t to);

    // All of a block's bytes, block_bytes() of them.
    uint8_t* bytes(int64_t block) const;

    // Moves one position's keys and values, all layers. Positions are block * 32 + offset.
    void move_position(int64_t from, int64_t to);

private:
    struct Layer {
        KvShape shape;
        int64_t offset;      // of its keys within a block, in bytes; its values follow them
        int64_t head_bytes;  // of one head's keys, or values
    };
    uint8_t* k(int64_t layer, int64_t block, int64_t head) const;
    uint8_t* v(int64_t layer, int64_t block, int64_t head) const;
    void check_block(int64_t block) const;

    const KvType type_;
    const int64_t n_blocks_;
    int64_t block_bytes_ = 0;
    std::vector<Layer> layers_;
    void* allocated_ = nullptr;
    uint8_t* memory_ = nullptr;  // (n_blocks, block_bytes_) in allocated_
};

}  // namespace native::cpu
