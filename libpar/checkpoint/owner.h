/* Who owns a directory: the file that says so, and whether its owner lives (claim.c); the owner
 * itself (owner.c), and what it sets aside (owner_resume.c). */
#ifndef PAR__OWNER_H
#define PAR__OWNER_H

#include <pthread.h>
#include <stdbool.h>

#include "libpar/base/directory.h"
#include "libpar/checkpoint/checkpoint.h"
#include "par/owner.h"

/* The process that an owner's file describes. */
typedef struct {
    char host[256], boot[64], space[64]; /* boot: of the machine; space: of process numbers */
    long pid;
    unsigned long long started; /* of the process, in ticks since the boot */
    double beat_s;
    char token[PAR_RUN_ID]; /* of this claim */
    unsigned long long beat;
} par__claimant;

enum { PAR__CLAIM_TEXT = 1024 };

void par__claimant_self(par__claimant *out);
/* 32 random hexadecimal digits. */
par_status par__random_id(char out[PAR_RUN_ID]);

/* The owner's files of a directory: the number of the highest one (0: none), and how many. */
par_status par__claim_highest(const char *directory, int *number, int *n);
par_status par__claim_path(const char *directory, int number, char out[PAR__PATH]);
/* *read false: it is not there. The text also where it cannot be parsed: half written. */
par_status par__claim_read(const char *path, bool *read, char text[PAR__CLAIM_TEXT],
                           par__claimant *out);
/* *made false: there is one of this name already. */
par_status par__claim_create(const char *path, const par__claimant *c, bool *made);
/* Written anew, by a temporary name; in its place on file systems that give no name that is taken
 * (EEXIST), where half of it may be read. */
par_status par__claim_renew(const char *path, const par__claimant *c);

typedef enum { PAR__DEAD, PAR__ALIVE, PAR__GONE } par__life;

/* Beats that a claim which is watched misses before its owner counts as dead. */
enum { PAR__BEATS = 9 };
/* Whether an owner lives: by its process where that can be seen, else by watching whether its file
 * changes; print (or NULL) says so before the wait. PAR__GONE: the file vanished meanwhile. `text`:
 * the file's at the first look. A file that cannot be read is PAR_ERR_IO: nobody knows. */
par_status par__claim_judge(const char *path, const par_owner_params *params, par__life *life,
                            char text[PAR__CLAIM_TEXT], par__claimant *who);
/* The first part alone: dead for certain. */
bool par__claimant_dead(const par__claimant *c);
/* "process 123 on host x" */
const char *par__claimant_text(const par__claimant *c, char text[320]);

/* owner.c */
struct par_owner {
    bool first; /* rank 0; what follows `parent` is its alone */
    char directory[PAR__PATH], run[PAR_RUN_ID], parent[PAR_RUN_ID];
    char path[PAR__PATH]; /* of the file; "": none */
    int number;
    par__claimant self;
    double written;        /* the file, last, on the clock */
    int64_t written_date;  /* and by the date */
    pthread_mutex_t mutex; /* of what follows, and of the file */
    pthread_cond_t ends;
    pthread_t thread;
    bool beating, end;
    void (*print)(void *user, const char *line); /* as in par_owner_params */
    void *user;
};

#endif
