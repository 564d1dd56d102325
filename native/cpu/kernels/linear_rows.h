// Where the weight rows of a group lie, and their way into the cache. Part of linear_lanes.h.
#pragma once

#include "../kernels.h"
#if NATIVE_AVX512
#include "lanes_avx512.h"
#elif NATIVE_AVX2
#include "lanes_avx2.h"
#else
#include "lanes_neon.h"
#endif

namespace native::cpu::KERNEL_ISA {

// A number the compiler must not take apart again.
inline int64_t opaque(int64_t value) {
    asm("" : "+r"(value));
    return value;
}

// Where the rows of a group lie: row r of 8 at base + r * stride. With the odd multiples at hand
// every row is an address of its own, without a table of pointers to be read.
struct RowStride {
    int64_t x1, x3, x5, x7;
    explicit RowStride(int64_t stride)
        : x1(opaque(stride)),
          x3(opaque(3 * stride)),
          x5(opaque(5 * stride)),
          x7(opaque(7 * stride)) {}
    int64_t times(int row) const {
        if (row % 2 == 0) return row == 6 ? 2 * x3 : row * x1;
        return row == 1 ? x1 : row == 3 ? x3 : row == 5 ? x5 : x7;
    }
};

// The same block of every row of a group.
template <class Block>
struct BlockRows {
    const uint8_t *low, *high;  // of rows 0..7 and 8..15
    RowStride stride;

    BlockRows(const void* first, RowStride row_stride)
        : low(static_cast<const uint8_t*>(first)),
          high(low + 8 * row_stride.x1),
          stride(row_stride) {}

    const uint8_t* at(int row, int64_t offset) const {
        return (row < 8 ? low : high) + stride.times(row % 8) + offset;
    }
};

// The weight rows from r0 on, block by block; rows past the end are zero.
template <class Block>
class WeightRows {
public:
    WeightRows(const LinearArgs& a, int64_t r0)
        : first_(a.weight + r0 * a.row_bytes),
          n_rows_(a.n_out - r0),
          stride_(a.row_bytes),
          has_bytes_before_(r0 > 0 || sizeof(Block) >= 32) {}

    // Block b of the i-th group. Up to 32 bytes that end with a block may be read.
    BlockRows<Block> block(int64_t b, int i) {
        const uint8_t* first = first_ + i * kLanes * stride_.x1 + b * int64_t(sizeof(Block));
        const bool may_read_before = has_bytes_before_ || i > 0 || b > 0;
        if (n_rows_ >= (i + 1) * kLanes && may_read_before) [[likely]]
            return {first, stride_};
        const int64_t n_rows = n_rows_ - i * kLanes < kLanes ? n_rows_ - i * kLanes : kLanes;
        for (int64_t r = 0; r < n_rows; ++r)
            std::memcpy(spare_ + r + kSpareBefore, first + r * stride_.x1, sizeof(Block));
        return {spare_ + kSpareBefore, RowStride(sizeof(Block))};
    }

private:
    static constexpr int kSpareBefore = 1;
    const uint8_t* first_;
    int64_t n_rows_;
    RowStride stride_;
    bool has_bytes_before_;
    Block spare_[kSpareBefore + kLanes] = {};
};

// The n rows of a group are more streams than the hardware's prefetcher follows, so the functions
// below say what comes next. What is fetched and what is in use should fit in L1.

// For short rows: fetches block b's share of the n rows behind the group, in the order of the file.
template <class Block>
inline void prefetch_next_group(const LinearArgs& a, int64_t r0, int64_t b, int n) {
    const uint8_t* next = a.weight + (r0 + n) * a.row_bytes;
    const int64_t begin = b * n * int64_t(sizeof(Block));
    for (int64_t i = begin; i < begin + n * int64_t(sizeof(Block)); i += 64)
        __builtin_prefetch(next + i);
}

// For a thread's first group, which nobody has fetched: keeps every row a few lines ahead of block
// b; n_fetched bytes of each have been fetched before.
template <class Block>
inline void prefetch_this_group(const LinearArgs& a, int64_t r0, int64_t b, int n,
                                int64_t* n_fetched) {
    constexpr int64_t kBytesAhead = 128, kBytes = sizeof(Block);
    for (; *n_fetched < (b + 1) * kBytes + kBytesAhead; *n_fetched += 64)
        for (int r = 0; r < n; ++r)
            __builtin_prefetch(a.weight + (r0 + r) * a.row_bytes + *n_fetched);
}

// For large blocks: fetches the share-th of n_shares parts of the blocks that come a while after
// block b. Shares spread over the work on a block, since fetches that come at once wait for each
// other.
template <class Block>
inline void prefetch_ahead(const LinearArgs& a, int64_t r0, int64_t b, int n, int share,
                           int n_shares) {
    constexpr int64_t kBytesAhead = 16 * 1024, kBytes = sizeof(Block);
    const int64_t n_blocks = a.row_bytes / kBytes;
    int64_t at = b + (kBytesAhead / n + kBytes - 1) / kBytes;
    for (; at >= n_blocks; at -= n_blocks) r0 += n;
    for (int64_t r = r0 + n * share / n_shares; r < r0 + n * (share + 1) / n_shares; ++r)
        for (int64_t i = 0; i < kBytes; i += 64)
            __builtin_prefetch(a.weight + r * a.row_bytes + at * kBytes + i);
}

}  // namespace native::cpu::KERNEL_ISA
