// One instruction set's kernel table. Built once per set with KERNEL_ISA and the compiler's flags
// for it.
#include "attention.h"
#include "elementwise.h"
#include "linear.h"

#define KERNEL_STRING_OF(name) #name
#define KERNEL_STRING(name) KERNEL_STRING_OF(name)

namespace native::cpu::KERNEL_ISA {

extern const Kernels table;
const Kernels table = {
    .isa = KERNEL_STRING(KERNEL_ISA),
    .rms_norm = rms_norm,
    .rope = rope,
    .silu_mul = silu_mul,
    .quantize_q8 = quantize_q8,
    .quantize_q8k = quantize_q8k,
    .linear = linear,
    .expand_tile = expand_tile,
    .attend_tile = attend_tile,
    .attend_kv_tile = attend_kv_tile,
    .finish_attention = finish_attention,
    .to_half = to_half,
    .rotate_groups = rotate_groups,
    .quantize_kv = quantize_kv,
    .argmax = argmax,
    .top_k = top_k,
};

}  // namespace native::cpu::KERNEL_ISA
