#include "occurrences.h"

#include <algorithm>
#include <cstdlib>

#include "error.h"

namespace native::cpu {
namespace {

// How many tokens before `start` are the latest ones.
int64_t length_at(const int32_t* ids, int64_t n, int64_t start, int64_t most) {
    int64_t length = 0;
    while (length < most && ids[start - 1 - length] == ids[n - 1 - length] &&
           ids[start - 1 - length] != kSeparator)
        ++length;
    return length;
}

}  // namespace

Occurrences find_occurrences(const int32_t* ids, int64_t n, int64_t low, int64_t high, int64_t near,
                             int64_t most) {
    require(n > 0 && ids[0] == kSeparator && low >= 0, "find_occurrences",
            "a text that does not begin with a separator");
    Occurrences found = {};
    const auto each = [&](const auto& take) {
        for (int64_t start = low + 1; start <= std::min(high, n - 1); ++start)
            if (ids[start - 1] == ids[n - 1] && ids[start] != kSeparator)
                take(start, length_at(ids, n, start, most));
    };
    each([&](int64_t start, int64_t length) {
        if (length == 0 || length < found.length) return;
        const bool is_nearer = std::abs(start - near) < std::abs(found.nearest - near);
        if (length > found.length || is_nearer) found.nearest = start;
        found.length = length;
        found.latest = start;
    });
    if (found.length == 0) return found;
    each([&](int64_t start, int64_t length) {
        if (ids[start] == ids[found.latest] || length < found.other_length || length == 0) return;
        found.other_length = length;
        found.other = start;
    });
    return found;
}

}  // namespace native::cpu
