/* All CPU kernels as one unit, which compiles in a second. `compile.py` builds it for the machine at hand, once for
 * each number type (BF16 is 1 or 0).
 *
 * Each kernel makes one pass over memory where PyTorch's operations make several. Tensors are computed in float32, and
 * results are rounded once, when they are stored. The result of a row or sequence depends neither on the number of
 * threads nor on the other rows. Only sums over rows, which the threads share, depend on the number of threads.
 */
#include "common.h"

#include "activations.c"
#include "adamw.c"
#include "attention.c"
