// Cached keys and values of one head and KV block: rounding rows into them, and back to floats.
#pragma once

#include "../kernels.h"
#include "elementwise.h"
#include "wide.h"

namespace native::cpu::KERNEL_ISA {

struct HalfTile {
    const uint16_t *k, *v;  // (D, 32), (32, D)
    int64_t head_dim;
    HalfTile(const KvTile& tile, int64_t head_dim)
        : k(reinterpret_cast<const uint16_t*>(tile.k)),
          v(reinterpret_cast<const uint16_t*>(tile.v)),
          head_dim(head_dim) {}
};

// Eight numbers as floats, for heads whose size is no multiple of sixteen.
inline f32x8 load8(const float* p) {
    return load(p);
}
inline f32x8 load8(const uint16_t* halves) {
    return load_half(halves);
}

inline void expand_halves(const uint16_t* from, float* to, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) store16(to + i, load16(from + i));
}

// A key's scales lie 32 apart, one for each of its groups, so that 32 keys' lie side by side.
inline void expand_q8_keys(const uint8_t* from, float* to, int64_t head_dim) {
    const auto* q = reinterpret_cast<const int8_t*>(from);
    const auto* scales = reinterpret_cast<const uint16_t*>(from + head_dim * kKvBlock);
    for (int64_t d = 0; d < head_dim; ++d) {
        const uint16_t* scale = scales + d / kKvGroup * kKvBlock;
        for (int64_t j = d * kKvBlock; j < (d + 1) * kKvBlock; j += 16)
            store16(to + j, load16(q + j) * load16(scale + j % kKvBlock));
    }
}

// A value's scales lie side by side, as its numbers do.
inline void expand_q8_values(const uint8_t* from, float* to, int64_t head_dim) {
    const auto* q = reinterpret_cast<const int8_t*>(from);
    const auto* halves = reinterpret_cast<const uint16_t*>(from + head_dim * kKvBlock);
    float scales[kMostHeadDim / kKvGroup * kKvBlock];
    expand_halves(halves, scales, kv_groups(head_dim) * kKvBlock);
    const float* scale = scales;
    for (int64_t j = 0; j < kKvBlock; ++j, q += head_dim, to += head_dim)
        for (int64_t d = 0; d < head_dim; d += kKvGroup, ++scale)
            for (int64_t i = d; i < d + kKvGroup && i < head_dim; i += 8)
                store(to + i, load_bytes(q + i) * *scale);
}

inline void expand_tile(const KvTile& tile, const FloatTile& to) {
    if (tile.type == KvType::kQ8_0) {
        expand_q8_keys(tile.k, to.k, to.head_dim);
        expand_q8_values(tile.v, to.v, to.head_dim);
        return;
    }
    const HalfTile halves(tile, to.head_dim);
    expand_halves(halves.k, to.k, to.head_dim * kKvBlock);
    expand_halves(halves.v, to.v, to.head_dim * kKvBlock);
}

// y = H x * scale for every whole group of 32 of x (n), H the Walsh-Hadamard matrix, H H = 32; a
// shorter last group is copied.
inline void rotate_groups(const float* x, int64_t n, float scale, float* y) {
    for (; n >= kKvGroup; n -= kKvGroup, x += kKvGroup, y += kKvGroup) {
        float a[kKvGroup];
        std::memcpy(a, x, sizeof a);
        for (int half = kKvGroup / 2; half > 0; half /= 2)
            for (int first = 0; first < kKvGroup; first += 2 * half)
                for (int i = first; i < first + half; ++i) {
                    const float sum = a[i] + a[i + half], difference = a[i] - a[i + half];
                    a[i] = sum;
                    a[i + half] = difference;
                }
        for (int i = 0; i < kKvGroup; ++i) y[i] = a[i] * scale;
    }
    std::copy_n(x, n, y);
}

// Per group of 32 a scale that is a half, so that q * scale is exact as a float. A group that holds
// NaN or infinity gets scale NaN, so that the fault stays visible.
inline void quantize_kv(const float* x, int64_t n, int8_t* q, uint16_t* scales) {
    int32_t sums[kKvGroup / 16];
    for (; n >= kKvGroup; n -= kKvGroup, x += kKvGroup, q += kKvGroup)
        *scales++ = float_to_half(quantize_block<kKvGroup>(x, q, sums));
    if (n == 0) return;
    float group[kKvGroup] = {};
    int8_t group_q[kKvGroup];
    std::copy_n(x, n, group);
    *scales = float_to_half(quantize_block<kKvGroup>(group, group_q, sums));
    std::copy_n(group_q, n, q);
}

}  // namespace native::cpu::KERNEL_ISA
