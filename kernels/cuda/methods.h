/*
 * By what the work is computed: lines that prepare notes, in their order, for par_backend_method. A
 * line that is there already is not noted again. They stay until the process ends.
 */
#ifndef PAR__CUDA_METHODS_H
#define PAR__CUDA_METHODS_H

#include "par/kernels.h"

/* work: a literal. slower: NULL, or why something faster is not used, with the remedy. format: what
 * computes it. */
PAR_PRINTF(3, 4)
void par__method_note(const char *work, const char *slower, const char *format, ...);
/* The i-th of them; false: there are fewer. */
bool par__method_get(int i, par_method *out);

#endif
