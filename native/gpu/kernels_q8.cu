// The kernels that read and write a KV cache, once more, for one in q8_0 (kv.h).
#define KV_Q8_0

#include "attention.h"
#include "follow.h"
#include "heads.h"
#include "kv.h"
#include "prefill.h"
#include "sparse.h"
#include "store.h"
