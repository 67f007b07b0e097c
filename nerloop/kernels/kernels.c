/* All CPU kernels as one unit, which compiles in a second: `compile.py` builds it once for each number type (BF16 is 1
 * or 0) for the machine at hand.
 *
 * Each kernel makes one pass over memory where PyTorch's operations make several. All arithmetic is in float32; results
 * are rounded once, at the end. The result of a row or sequence depends neither on the number of threads nor on the
 * other rows. Only sums over rows, which the threads share, depend on the number of threads.
 */
#include "common.h"

#include "activations.c"
#include "adamw.c"
#include "attention.c"
