/*
 * How a function stands before NCCL's of the same name: BEGIN, CALL, and then what is to be
 * recorded if `counted`. What NCCL calls itself is its own affair (record_inside).
 */
#ifndef NCCL_RECORD_WRAP_H
#define NCCL_RECORD_WRAP_H

#include "record.h"

#define EXPORT __attribute__((visibility("default")))

/* Per thread: calls of NCCL that are under way; open groups, and the calls in the outermost one. */
extern _Thread_local int record_inside, record_group_depth;
extern _Thread_local uint64_t record_group_calls;

/* What NCCL returned; a refusal is counted. */
bool record_taken(ncclResult_t result);

#define BEGIN(name)                                                                                \
    static _Atomic(void *) place;                                                                  \
    __typeof__(&name) call;                                                                        \
    *(void **)(void *)&call = record_real_kept(&place, #name, __builtin_return_address(0));        \
    if (!call) return ncclInvalidUsage;                                                            \
    bool counted = record_inside == 0 && record_wanted();

#define CALL(arguments)                                                                            \
    record_inside++;                                                                               \
    ncclResult_t result = call arguments;                                                          \
    record_inside--;

#endif
