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

/* Decides between what may be: all cases one after the other, or at random. */
typedef struct {
    bool random;
    uint64_t seed, draws; /* random */
    int digits[256], radix[256], n, used;
} chooser;

/* The next case; false: that was the last one. */
bool chooser_advance(chooser *c);

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

/* One of the states after a power loss now; chooser NULL: the state without one. */
void disk_state(const disk *d, chooser *c, disk_image *out);
void disk_write(const disk_image *image, const char *folder);
void disk_clear(disk_image *image);

#endif
