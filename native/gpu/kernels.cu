// All kernels in one translation unit, for every platform (platform.h).
#include "attention.h"
#include "choose.h"
#include "linear.h"
#include "platform.h"
#include "prefill.h"
#include "rows.h"
#include "sparse.h"
#include "split.h"
