/*
 * Counts heap allocations by who asked for them: malloc and its family are replaced in this
 * program, and the return address tells the library. Counting is off until it is switched on. Those
 * of some owners can be made to fail, and what they have not freed is known.
 */
#ifndef PAR_TESTS_ALLOCATIONS_H
#define PAR_TESTS_ALLOCATIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    BY_LIBPAR,
    BY_LIBC,
    BY_MPI,
    BY_ONEDNN,
    BY_JANSSON, /* and xxHash */
    BY_HDF5,
    BY_TEST,
    BY_OTHER,
    ALLOCATIONS_OWNERS
} allocations_owner;

typedef struct {
    int64_t n[ALLOCATIONS_OWNERS], nbytes[ALLOCATIONS_OWNERS];
    int64_t kept;             /* bytes of the heap in use at the end, less those at the beginning */
    int64_t live;             /* blocks of the chosen owners that were taken and not freed */
    const void *first_libpar; /* return address of libpar's first, to look up */
} allocations_count;

/* False where a sanitizer has replaced malloc itself. */
bool allocations_can_count(void);
/* List the libraries that are loaded now, set the counts to 0 and start. */
void allocations_begin(void);
void allocations_end(allocations_count *out);
/* Of these owners, as bits, allocations fail, with for_good also all behind the one that does; at
 * first libpar's, once. Before allocations_begin. */
void allocations_choose(unsigned owners, bool for_good);
/* While counting: the n-th allocation of the chosen owners from now on, from 1, fails; 0: none
 * does. True: the one that was asked for before has failed. */
bool allocations_fail(int64_t n);
const char *allocations_owner_name(allocations_owner owner);

#endif
