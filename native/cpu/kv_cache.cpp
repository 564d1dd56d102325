#include "kv_cache.h"

#include <cstdlib>
#include <cstring>

#include "error.h"

namespace native::cpu {

namespace {

constexpr int64_t kMostBytes = int64_t(1) << 40;
constexpr int64_t kAlign = 64;

// One position's numbers among a block's keys (columns, 32 apart) or values (rows).
template <class Number>
void copy_column(const Number* from, Number* to, int64_t n) {
    for (int64_t i = 0; i < n; ++i) to[i * kKvBlock] = from[i * kKvBlock];
}
template <class Number>
void copy_row(const Number* from, Number* to, int64_t n) {
    std::memmove(to, from, size_t(n) * sizeof(Number));
}

uint16_t* halves(uint8_t* bytes) {
    return reinterpret_cast<uint16_t*>(bytes);
}

}  // namespace

KvCache::KvCache(const std::vector<KvShape>& layers, KvType type, int64_t n_blocks)
    : type_(type), n_blocks_(n_blocks) {
    require(!layers.empty() && layers.size() <= 4096 && n_blocks > 0, "kv_cache",
            "layers and blocks must be positive and sane");
    for (const KvShape& shape : layers) {
        require(shape.n_kv > 0 && shape.n_kv <= 4096, "kv_cache",
                std::to_string(shape.n_kv) + " heads, expected 1..4096");
        require(shape.head_dim > 0 && shape.head_dim % 8 == 0 && shape.head_dim <= kMostHeadDim,
                "kv_cache",
                "head_dim is " + std::to_string(shape.head_dim) +
                    ", expected a multiple of 8 up to " + std::to_string(kMostHeadDim));
        const int64_t n_bytes = type == KvType::kF16
                                    ? 2 * shape.head_dim
                                    : shape.head_dim + 2 * kv_groups(shape.head_dim);
        layers_.push_back({shape, block_bytes_, n_bytes * kKvBlock});
        block_bytes_ += 2 * shape.n_kv * n_bytes * kKvBlock;
    }
    require(n_blocks <= kMostBytes / block_bytes(), "kv_cache",
            std::to_string(n_blocks) + " blocks exceed the largest cache");
    // calloc of a large area is an anonymous mapping: zero pages until written.
    allocated_ = std::calloc(size_t(n_blocks * block_bytes() + kAlign), 1);
    require(allocated_ != nullptr, "kv_cache",
            "could not reserve " + std::to_string(n_blocks * block_bytes()) + " bytes");
    const auto address = reinterpret_cast<intptr_t>(allocated_);
    memory_ = reinterpret_cast<uint8_t*>((address + kAlign - 1) / kAlign * kAlign);
}

KvCache::~KvCache() {
    std::free(allocated_);
}

void KvCache::check_block(int64_t block) const {
    require(block >= 0 && block < n_blocks_, "kv_cache",
            "block " + std::to_string(block) + " is not in 0.." + std::to_string(n_blocks_ - 1));
}

uint8_t* KvCache::k(int64_t layer, int64_t block, int64_t head) const {
    const Layer& l = layers_[size_t(layer)];
    return memory_ + block * block_bytes_ + l.offset + head * l.head_bytes;
}

uint8_t* KvCache::v(int64_t layer, int64_t block, int64_t head) const {
    return k(layer, block, shape(layer).n_kv + head);
}

void KvCache::write(const Kernels& kernels, int64_t layer, int64_t position, int64_t head,
                    const float* key, const float* value) {
    const int64_t head_dim = shape(layer).head_dim, n_groups = kv_groups(head_dim);
    const int64_t n = head_dim * kKvBlock, lane = position % kKvBlock;
    uint8_t* keys = k(layer, position / kKvBlock, head);
    uint8_t* values = v(layer, position / kKvBlock, head);
    if (type_ == KvType::kF16) {
        uint16_t numbers[kMostHeadDim];
        kernels.to_half(key, numbers, head_dim);
        for (int64_t d = 0; d < head_dim; ++d) halves(keys)[d * kKvBlock + lane] = numbers[d];
        kernels.to_half(value, halves(values) + lane * head_dim, head_dim);
        return;
    }
    int8_t numbers[kMostHeadDim];
    uint16_t scales[kMostHeadDim / kKvGroup];
    float rotated[kMostHeadDim];
    kernels.rotate_groups(key, head_dim, 1.0f, rotated);
    kernels.quantize_kv(rotated, head_dim, numbers, scales);
    for (int64_t d = 0; d < head_dim; ++d) keys[d * kKvBlock + lane] = uint8_t(numbers[d]);
    for (int64_t g = 0; g < n_groups; ++g) halves(keys + n)[g * kKvBlock + lane] = scales[g];
    kernels.quantize_kv(value, head_dim, reinterpret_cast<int8_t*>(values) + lane * head_dim,
                        halves(values + n) + lane * n_groups);
}

void KvCache::copy_block(int64_t from, int64_t to) {
    check_block(from);
    check_block(to);
    std::memmove(k(0, to, 0), k(0, from, 0), size_t(block_bytes()));
}

uint8_t* KvCache::bytes(int64_t block) const {
    check_block(block);
    return k(0, block, 0);
}

void KvCache::move_position(int64_t from, int64_t to) {
    check_block(from / kKvBlock);
    check_block(to / kKvBlock);
    const int64_t from_lane = from % kKvBlock, to_lane = to % kKvBlock;
    for (int64_t layer = 0; layer < n_layers(); ++layer) {
        const auto [n_kv, head_dim] = shape(layer);
        const int64_t n = head_dim * kKvBlock, n_groups = kv_groups(head_dim);
        for (int64_t head = 0; head < n_kv; ++head) {
            uint8_t *k_from = k(layer, from / kKvBlock, head),
                    *k_to = k(layer, to / kKvBlock, head);
            uint8_t *v_from = v(layer, from / kKvBlock, head),
                    *v_to = v(layer, to / kKvBlock, head);
            if (type_ == KvType::kF16) {
                copy_column(halves(k_from) + from_lane, halves(k_to) + to_lane, head_dim);
                copy_row(halves(v_from) + from_lane * head_dim, halves(v_to) + to_lane * head_dim,
                         head_dim);
            } else {
                copy_column(k_from + from_lane, k_to + to_lane, head_dim);
                copy_column(halves(k_from + n) + from_lane, halves(k_to + n) + to_lane, n_groups);
                copy_row(v_from + from_lane * head_dim, v_to + to_lane * head_dim, head_dim);
                copy_row(halves(v_from + n) + from_lane * n_groups,
                         halves(v_to + n) + to_lane * n_groups, n_groups);
            }
        }
    }
}

}  // namespace native::cpu
