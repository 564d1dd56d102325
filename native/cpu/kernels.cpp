#include "kernels.h"

#include <cstring>

#include "error.h"

namespace native::cpu {

namespace portable {
extern const Kernels table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels table;
}
#endif

namespace {

const Kernels* available(const char* isa) {
#if defined(__x86_64__)
    if (std::strcmp(isa, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                       __builtin_cpu_supports("f16c")
                   ? &avx2::table
                   : nullptr;
#endif
    return std::strcmp(isa, "portable") == 0 ? &portable::table : nullptr;
}

}  // namespace

const Kernels& kernels(const char* isa) {
    if (isa != nullptr) {
        const Kernels* chosen = available(isa);
        require(chosen != nullptr, "kernels",
                std::string("instruction set '") + isa + "' is unknown or not available here");
        return *chosen;
    }
    const Kernels* best = available("avx2");
    return best != nullptr ? *best : portable::table;
}

}  // namespace native::cpu
