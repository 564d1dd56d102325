// The one exception native code throws; bindings turn it into engine.errors.NativeError.
#pragma once

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

inline void require(bool holds, const char* op, const std::string& detail) {
    if (!holds) throw Error(op, detail);
}

}  // namespace native::cpu
