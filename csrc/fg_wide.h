/* FG_WIDE: whether the loops for AVX2 and AVX-512 are compiled; the processor is asked before they run.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Elsewhere the baseline runs, which gives the same bits: clang ignores GCC's pragmas for a part of a file, and GCC for
 * Windows does not align the stack for wide registers. */
#ifndef FG_WIDE_H
#define FG_WIDE_H

#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
#define FG_WIDE
#endif

#endif
