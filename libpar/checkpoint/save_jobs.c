/*
 * What a save does with files once they are there: their data, the index and the manifest, names,
 * reading back, tidying; and taking it all back. A thread may do it: see save.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libpar/base/file.h"
#include "libpar/checkpoint/save.h"

par_status par__save_write(par__saving *s) {
    if (s->jobs_lay_out) PAR_TRY(par__save_shard(s));
    return par__shard_fill(s->shard_path, s->runs, &s->shard, &s->pulse);
}

par_status par__save_contents(const par__saving *s, par_checkpoint **out) {
    const char *directory = s->params.directory;
    PAR_TRY(par__contents_of(directory, s->parts, par_comm_size(s->world), out));
    return par__copies_check(directory, *out, s->parts, (*out)->n_files);
}

par_status par__save_index(const par__saving *s) {
    char path[PAR__PATH];
    par_checkpoint *contents = NULL;
    PAR_TRY(par__path(path, s->temporary, "index.h5"));
    par_status st = par__save_contents(s, &contents);
    if (st == PAR_OK) st = par__index_layout(path, contents);
    par_checkpoint_close(&contents);
    return st;
}

/* What libhdf5 has written goes to the disk; its size and digest. */
static par_status sync_index(const par__saving *s, par__index *out) {
    char path[PAR__PATH], *image = NULL;
    size_t nbytes = 0;
    PAR_TRY(par__path(path, s->temporary, "index.h5"));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return par__write_error(path, "opened");
    par_status st = fsync(fd) == 0 ? PAR_OK : par__write_error(path, "synced");
    PAR_TRY(par__close(fd, path, st));
    PAR_TRY(par__read_file(path, PAR__MANIFEST_MAX, &image, &nbytes));
    par__hash(image, nbytes, out->hash);
    out->nbytes = (int64_t)nbytes;
    free(image);
    return PAR_OK;
}

par_status par__save_commit(par__saving *s) {
    char path[PAR__PATH], *text = NULL;
    par__index index = {0};
    if (s->jobs_lay_out) PAR_TRY(par__save_index(s));
    PAR_TRY(sync_index(s, &index));
    PAR_TRY(par__path(path, s->temporary, "manifest.json"));
    PAR_TRY(par__manifest_make(&s->params, &index, par_comm_size(s->world), s->parts, &text));
    par_status st = par__write_file(path, text, strlen(text));
    free(text);
    PAR_TRY(st);
    /* The files are synced; now their names, then the directory's own. */
    PAR_TRY(par__sync_directory(s->temporary));
    PAR_TRY(par__owner_check(s->params.directory, s->params.owner));
    bool there;
    PAR_TRY(par__directory_exists(s->final, &there));
    if (there) {
        if (rename(s->final, s->aside) != 0) return par__write_error(s->final, "set aside");
        s->named = PAR__SET_ASIDE;
    }
    if (rename(s->temporary, s->final) != 0) return par__write_error(s->final, "given its name");
    s->named = s->named == PAR__SET_ASIDE ? PAR__REPLACED : PAR__NAMED;
    return par__sync_directory(s->params.directory);
}

par_status par__save_read_back(par__saving *s) {
    char name[PAR__NAME], path[PAR__PATH], *text = NULL;
    par__shard_name(par_comm_rank(s->world), name);
    PAR_TRY(par__path(path, s->final, name));
    PAR_TRY(par__shard_verify(path, &s->shard, &s->pulse));
    if (!s->first) return PAR_OK; /* rank 0: the manifest and the index, too */
    size_t nbytes;
    par_checkpoint *contents = NULL;
    PAR_TRY(par__manifest_read(s->final, &text, &nbytes));
    par_status st = par__contents_parse(s->final, text, nbytes, &contents);
    free(text);
    if (st == PAR_OK) st = par__index_verify_digest(contents);
    par_checkpoint_close(&contents);
    return st;
}

par_status par__save_tidy(par__saving *s) {
    const par_checkpoint_params *p = &s->params;
    if (p->check_only) {
        for (int i = 0; i < 2; i++) PAR_TRY(par__write_latest(s->final, s->name)); /* and again */
        par__remove_directory(s->final);
        s->named = PAR__UNNAMED;
        return PAR_OK;
    }
    if (par__owner_check(p->directory, p->owner) != PAR_OK) { /* lost since the name was given */
        par_problem(&s->result.notes, "%s", par_error());
        return PAR_OK;
    }
    if (s->named == PAR__REPLACED && par__settle_aside(p->directory, s->name, &s->pulse) != PAR_OK)
        par_problem(&s->result.notes, "%s", par_error());
    if (par__write_latest(p->directory, s->name) != PAR_OK)
        par_problem(&s->result.notes, "%s", par_error());
    par__prune(p, &s->result.notes);
    s->tidies = par__sync_directory(p->directory) == PAR_OK; /* names first, then files */
    if (!s->tidies) par_problem(&s->result.notes, "%s", par_error());
    return PAR_OK;
}

par_status par__save_empty(par__saving *s) {
    if (s->tidies)
        par__empty_renamed(s->params.directory, par_comm_rank(s->world), par_comm_size(s->world));
    return PAR_OK;
}

par_status par__save_remove(par__saving *s) {
    if (s->tidies) par__remove_temporary(s->params.directory, false, &s->result.notes);
    return PAR_OK;
}

par_status par__save_withdraw(par__saving *s, par_status st) {
    char why[PAR__TEXT];
    if (!*s->temporary) return st;
    snprintf(why, sizeof why, "%s", par_error());
    bool is_there = s->named == PAR__NAMED || s->named == PAR__REPLACED;
    if (is_there && rename(s->final, s->temporary) != 0)
        PAR_FAIL(st, "%s\nand %s could not be withdrawn: %s; remove it%s", why, s->final,
                 strerror(errno),
                 s->named == PAR__REPLACED ? ", and an older one of this step is found beside it"
                                           : "");
    if ((s->named == PAR__SET_ASIDE || s->named == PAR__REPLACED) &&
        rename(s->aside, s->final) != 0)
        PAR_FAIL(st, "%s\nand %s could not be given the name %s again: %s; it is found there, too",
                 why, s->aside, s->final, strerror(errno));
    if (s->named != PAR__UNNAMED) par__sync_directory(s->params.directory);
    par__remove_directory(s->temporary);
    if (s->params.check_only || st == PAR_ERR_NUMERIC) PAR_FAIL(st, "%s", why);
    PAR_FAIL(
        st, "%s\nthe checkpoint of step %lld (%.1f MiB) was not saved; older ones are as they were",
        why, (long long)s->params.step, (double)s->need / 1048576);
}
