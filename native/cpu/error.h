// The one exception native code throws; bindings turn it into engine.errors.NativeError.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace native::cpu {

class Error : public std::runtime_error {
public:
    Error(std::string op, const std::string& detail)
        : std::runtime_error(detail), op_(std::move(op)) {}
    const std::string& op() const { return op_; }

private:
    std::string op_;
};

inline std::string in_words(int64_t number) {
    return std::to_string(number);
}

inline std::string in_words(std::string text) {
    return text;
}

// The detail's parts, texts and numbers, are put together only when it is thrown: checks of a step
// allocate nothing.
template <class... Parts>
inline void require(bool holds, const char* op, const Parts&... detail) {
    if (!holds) throw Error(op, (in_words(detail) + ...));
}

}  // namespace native::cpu
