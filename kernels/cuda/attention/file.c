/*
 * Compiled plans kept in files, one per shape, device and version of cuDNN:
 *     libpar attention plan 1
 *     <everything the plan depends on, a line>
 *     <bytes> <hash> of what follows
 *     cuDNN's JSON
 * A file that differs in anything is ignored; a new one is written beside it and renamed, so that
 * ranks that start together see whole files. Files save time alone: none of their failures is an
 * error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/attention/plan.h"
#include "libpar/base/hash.h"

enum { LINE = 1024, LARGEST = 64 << 20 };

static bool read_line(FILE *file, char line[LINE]) {
    if (!fgets(line, LINE, file)) return false;
    line[strcspn(line, "\n")] = '\0';
    return true;
}

/* The JSON of a file whose head is as it must be, else NULL; free() it. */
static char *read_body(FILE *file, const char *wanted, size_t *nbytes) {
    char line[LINE];
    unsigned long long hash = 0;
    if (!read_line(file, line) || strcmp(line, "libpar attention plan 1") != 0) return NULL;
    if (!read_line(file, line) || strcmp(line, wanted) != 0) return NULL;
    if (!read_line(file, line) || sscanf(line, "%zu %llx", nbytes, &hash) != 2) return NULL;
    if (*nbytes == 0 || *nbytes > LARGEST) return NULL;
    char *body = malloc(*nbytes + 1);
    if (body && fread(body, 1, *nbytes + 1, file) == *nbytes &&
        par__fnv64(PAR__FNV64, body, *nbytes) == hash) {
        body[*nbytes] = '\0';
        return body;
    }
    free(body);
    return NULL;
}

static bool load(const par__fused_target *target, const char *path, const char *line,
                 par__fused_plan *out) {
    size_t nbytes = 0;
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    char *body = read_body(file, line, &nbytes);
    fclose(file);
    if (!body) return false;
    bool loaded = par__fused_plan_parse(target, body, nbytes, out) == PAR_OK;
    free(body);
    return loaded;
}

static void save(const par__fused_plan *plan, const char *path, const char *line) {
    char temporary[LINE + 32];
    char *text = NULL;
    size_t nbytes = 0;
    bool written = false;
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    if (par__fused_plan_text(plan, &text, &nbytes) != PAR_OK) return;
    FILE *file = fopen(temporary, "wb");
    if (file) {
        fprintf(file, "libpar attention plan 1\n%s\n%zu %016llx\n", line, nbytes,
                (unsigned long long)par__fnv64(PAR__FNV64, text, nbytes));
        written = fwrite(text, 1, nbytes, file) == nbytes && !ferror(file);
        written = fclose(file) == 0 && written;
    }
    if (!written || rename(temporary, path) != 0) remove(temporary);
    free(text);
}

par_status par__fused_plan_obtain(const par__fused_target *target, const char *folder,
                                  const par__fused_shape *s, par__fused_plan *out) {
    static const char *const kinds[PAR__FUSED_KINDS] = {"inference", "forward", "backward",
                                                        "backward-deterministic"};
    char line[LINE], path[LINE]; /* the line that the plan's file must have */
    int length = 0;
    snprintf(line, LINE,
             "cuDNN %zu, %.512s, %s %s B %lld T %lld H %lld K %lld D %lld ld %lld %lld %lld %lld "
             "%lld %lld "
             "%lld %lld",
             cudnnGetVersion(), target->name, kinds[s->kind],
             s->dtype == PAR_BF16 ? "bf16" : "fp16", (long long)s->B, (long long)s->T,
             (long long)s->H, (long long)s->K, (long long)s->D, (long long)s->ldq,
             (long long)s->ldk, (long long)s->ldv, (long long)s->ldo, (long long)s->ldd_o,
             (long long)s->lddq, (long long)s->lddk, (long long)s->lddv);
    if (folder)
        length = snprintf(path, LINE, "%s/attention-%016llx.plan", folder,
                          (unsigned long long)par__fnv64(PAR__FNV64, line, strlen(line)));
    if (length <= 0 || length >= LINE - 32) return par__fused_plan_create(target, s, out);
    if (load(target, path, line, out)) return PAR_OK;
    PAR_TRY(par__fused_plan_create(target, s, out));
    if (out->descriptor) save(out, path, line);
    return PAR_OK;
}
