// Where the latest of a text's tokens occurred before (engine/speculation/corpus.py).
#pragma once

#include <cstdint>

namespace native::cpu {

constexpr int32_t kSeparator = -1;  // between texts; nothing is matched or copied across it

// The longest occurrences of the latest tokens, named by the index where each goes on: the latest
// of them, and the one nearest to a place. And the longest of those that go on otherwise than the
// latest does, the latest of them. Of none the length is 0.
struct Occurrences {
    int64_t length, latest, nearest;
    int64_t other_length, other;
};

// Among occurrences that end in [low, high); no longer than `most`. ids[0] is a separator.
Occurrences find_occurrences(const int32_t* ids, int64_t n, int64_t low, int64_t high, int64_t near,
                             int64_t most);

}  // namespace native::cpu
