/*
 * What a power loss leaves of a folder. A disk holds what is safe, and behind it what was changed
 * since, in order; a sync makes a file's or a folder's changes safe, and nothing else does. Of a
 * folder's names any first part of the changes may have come to the disk, folder by folder. Of a
 * file's bytes any may have: none, the first changes, one of them in part, some sectors of some of
 * them in any order, and the length without the bytes, where zeros or old bytes of others lie.
 * Those are the rules of POSIX; file systems promise more. A rename within a folder is whole.
 */
#ifndef PAR_TESTS_CHECKPOINT_DISK_H
#define PAR_TESTS_CHECKPOINT_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

typedef struct disk disk;

/* All of the folder as it is now, safe. */
disk *disk_take(const char *folder);
void disk_free(disk *d);
/* False: a call that is not modelled. */
bool disk_apply(disk *d, const record *r);

/* A folder's files and folders, in the order in which they can be made. */
typedef struct {
    char path[256];
    bool folder;
    unsigned char *data; /* [n], owned */
    int64_t n;
} disk_item;

typedef struct {
    disk_item items[128];
    int n;
    uint64_t hash; /* whatever the order */
} disk_image;

void disk_write(const disk_image *image, const char *folder);

/* What a power loss may leave now: all states where they are at most `most`, torn files aside, and
 * where there are several so many at random, torn files among them. */
typedef void disk_try(void *user, const disk_image *image);
void disk_try_states(const disk *d, uint64_t seed, long most, disk_try *try, void *user);

/* The folder is what it would be without a power loss. */
bool disk_has(const disk *d, const char *folder);

/* Which states have been tried. */
enum { DISK_SEEN = 1 << 18 };
typedef struct {
    uint64_t seen[DISK_SEEN];
} disk_states;
bool disk_seen(disk_states *states, uint64_t key); /* it was before; now it is */

#endif
