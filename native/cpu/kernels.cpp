#include "kernels.h"

#include <cstring>

#include "error.h"
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace native::cpu {

namespace portable {
extern const Kernels table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#elif defined(__aarch64__)
namespace neon {
extern const Kernels table;
}
#endif

namespace {

#if defined(__aarch64__)
// Every Apple processor that runs macOS has the dot product; elsewhere the system must say so.
bool has_dot_product() {
#if defined(__APPLE__)
    return true;
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return false;
#endif
}
#endif

const Kernels* available(const char* isa) {
#if defined(__x86_64__)
    // Every processor with AVX2 has F16C, which clang cannot ask for by name.
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 =
        has_avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    if (std::strcmp(isa, "avx512") == 0) return has_avx512 ? &avx512::table : nullptr;
    if (std::strcmp(isa, "avx2") == 0) return has_avx2 ? &avx2::table : nullptr;
#elif defined(__aarch64__)
    if (std::strcmp(isa, "neon") == 0) return has_dot_product() ? &neon::table : nullptr;
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
    for (const char* name : {"avx512", "avx2", "neon"})
        if (const Kernels* best = available(name)) return *best;
    return portable::table;
}

}  // namespace native::cpu
