// Quantized linear in plain C++: the definition that faster paths must equal.
#pragma once

#include "../kernels.h"
#include "simd.h"

namespace native::cpu::KERNEL_ISA {

template <class Block>
constexpr bool kHasMinimum = requires(Block b) { b.m; } || requires(Block b) { b.dmin; };

inline int fifth_bit(const uint8_t* qh, int i) {
    return ((qh[i / 8] >> (i % 8)) & 1) << 4;
}

// Signed values of a 32-element block.
inline void values(const BlockQ4_0& b, int8_t* q) {
    for (int i = 0; i < 16; ++i) {
        q[i] = int8_t((b.qs[i] & 15) - 8);
        q[i + 16] = int8_t((b.qs[i] >> 4) - 8);
    }
}
inline void values(const BlockQ4_1& b, int8_t* q) {
    for (int i = 0; i < 16; ++i) {
        q[i] = int8_t(b.qs[i] & 15);
        q[i + 16] = int8_t(b.qs[i] >> 4);
    }
}
template <class Block>
inline void values_of_five_bits(const Block& b, int offset, int8_t* q) {
    for (int i = 0; i < 16; ++i) {
        q[i] = int8_t(((b.qs[i] & 15) | fifth_bit(b.qh, i)) - offset);
        q[i + 16] = int8_t(((b.qs[i] >> 4) | fifth_bit(b.qh, i + 16)) - offset);
    }
}
inline void values(const BlockQ5_0& b, int8_t* q) {
    values_of_five_bits(b, 16, q);
}
inline void values(const BlockQ5_1& b, int8_t* q) {
    values_of_five_bits(b, 0, q);
}
inline void values(const BlockQ8_0& b, int8_t* q) {
    std::memcpy(q, b.qs, 32);
}

inline void values(const BlockIQ4_NL& b, int8_t* q) {
    for (int i = 0; i < 16; ++i) {
        q[i] = kCodebook[b.qs[i] & 15];
        q[i + 16] = kCodebook[b.qs[i] >> 4];
    }
}

// Values, scales and minima of a super-block in sub-blocks of 16.
inline void values(const BlockQ4_K& b, int8_t* q, int* scale, int* minimum) {
    for (int s = 0; s < 8; ++s) {
        unpack_scale_min(b.scales, s, &scale[2 * s], &minimum[2 * s]);
        scale[2 * s + 1] = scale[2 * s];
        minimum[2 * s + 1] = minimum[2 * s];
        for (int i = 0; i < 32; ++i)
            q[32 * s + i] = int8_t((b.qs[32 * (s / 2) + i] >> (s % 2 ? 4 : 0)) & 15);
    }
}
inline void values(const BlockQ5_K& b, int8_t* q, int* scale, int* minimum) {
    for (int s = 0; s < 8; ++s) {
        unpack_scale_min(b.scales, s, &scale[2 * s], &minimum[2 * s]);
        scale[2 * s + 1] = scale[2 * s];
        minimum[2 * s + 1] = minimum[2 * s];
        for (int i = 0; i < 32; ++i) {
            const int low = (b.qs[32 * (s / 2) + i] >> (s % 2 ? 4 : 0)) & 15;
            q[32 * s + i] = int8_t(low | (((b.qh[i] >> s) & 1) << 4));
        }
    }
}
inline void values(const BlockQ6_K& b, int8_t* q, int* scale, int* minimum) {
    for (int s = 0; s < 16; ++s) {
        scale[s] = b.scales[s];
        minimum[s] = 0;
    }
    for (int e = 0; e < kSuperBlock; ++e) {
        const int half = e / 128, quarter = (e / 32) % 4, i = e % 32;
        const uint8_t low = b.ql[64 * half + 32 * (quarter % 2) + i];
        const int nibble = quarter < 2 ? low & 15 : low >> 4;
        q[e] = int8_t((nibble | (((b.qh[32 * half + i] >> (2 * quarter)) & 3) << 4)) - 32);
    }
}

inline int dot(const int8_t* a, const int8_t* b, int n) {
    int total = 0;
    for (int i = 0; i < n; ++i) total += a[i] * b[i];
    return total;
}

template <class Block>
inline void linear_q8(const LinearArgs& a, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
        const auto* row = reinterpret_cast<const Block*>(a.weight + r * a.row_bytes);
        for (int64_t t = 0; t < a.n_rows; ++t) {
            float acc = 0;
            for (int64_t b = 0; b < a.n_cols / kBlock; ++b) {
                int8_t q[kBlock];
                values(row[b], q);
                const int64_t slot = b * a.n_rows + t;
                const int isum = dot(q, a.activations.q + slot * kBlock, kBlock);
                const float scale = a.activations.scale[slot];
                acc = fma(float(isum), half_to_float(row[b].d) * scale, acc);
                if constexpr (kHasMinimum<Block>) {
                    const int total = static_cast<const int32_t*>(a.activations.sum)[slot];
                    acc = fma(float(total), half_to_float(row[b].m) * scale, acc);
                }
            }
            write_group(a, &acc, 1, t, 1, r, 1);
        }
    }
}

template <class Block>
inline void linear_q8k(const LinearArgs& a, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
        const auto* row = reinterpret_cast<const Block*>(a.weight + r * a.row_bytes);
        for (int64_t t = 0; t < a.n_rows; ++t) {
            float acc = 0;
            for (int64_t b = 0; b < a.n_cols / kSuperBlock; ++b) {
                int8_t q[kSuperBlock];
                int scale[16], minimum[16];
                values(row[b], q, scale, minimum);
                const int64_t slot = b * a.n_rows + t;
                const int8_t* x = a.activations.q + slot * kSuperBlock;
                const int16_t* sums = static_cast<const int16_t*>(a.activations.sum) + slot * 16;
                int isum = 0, msum = 0;
                for (int s = 0; s < 16; ++s) {
                    isum += scale[s] * dot(q + 16 * s, x + 16 * s, 16);
                    msum += minimum[s] * sums[s];
                }
                const float d = a.activations.scale[slot];
                acc = fma(float(isum), half_to_float(row[b].d) * d, acc);
                if constexpr (kHasMinimum<Block>)
                    acc = fma(float(msum), -(half_to_float(row[b].dmin) * d), acc);
            }
            write_group(a, &acc, 1, t, 1, r, 1);
        }
    }
}

}  // namespace native::cpu::KERNEL_ISA
