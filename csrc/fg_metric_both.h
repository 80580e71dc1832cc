/* fg_metric_loops.h for double and for float, given VECTOR_SIZE, STREAM_FENCE, row_f64 and row_f32.
 * SPDX-License-Identifier: Apache-2.0 */

#define REAL double
#define SIGNED int64_t
#define MASK uint64_t
#define REAL_MAX DBL_MAX
#define ROUND_OFF 0.0
#define NAME(noun) noun##_f64
#define ROW row_f64
#include "fg_metric_loops.h"

#define REAL float
#define SIGNED int32_t
#define MASK uint32_t
#define REAL_MAX FLT_MAX
#define ROUND_OFF (double)FLT_EPSILON
#define NAME(noun) noun##_f32
#define ROW row_f32
#include "fg_metric_loops.h"
