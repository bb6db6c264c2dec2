/*
 * The directory that a run leaves: its options, log, curve, and what others put there by
 * llm_run_file. Rank 0 makes it before the first step and alone writes into it; all ranks know its
 * name. A directory that is a run's already is taken only by a run that goes on in it: of two
 * starts at once, the one that makes the first file has it. A start that fails before the first
 * step leaves nothing of it.
 */
#define _XOPEN_SOURCE 700
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "train_llm.h"

enum { NAMES = 16, MAX_STEPS = 10000000 };

/* What this process made, on rank 0: to be removed if the run does not begin. */
static struct {
    const llm_run *run; /* NULL: it goes on in a directory, and nothing is to be removed */
    const char *directory;
    bool made, made_above, had_checkpoints; /* of the folder, of runs/ */
    bool files;                             /* what has one of the names below */
} kept;

static const char *const names[] = {"config", "log.jsonl", "curve.svg", "memory.json"};

static bool by_hand(const llm_settings *s) {
    return s->run && strcmp(s->run, "none") != 0;
}

void llm_run_settle(llm_run *r, par_problems *problems) {
    static char given[LLM_DIRECTORY], save[LLM_DIRECTORY + 16];
    llm_settings *s = &r->set;
    bool saves = !s->save || strcmp(s->save, "none") != 0;
    if (!saves) s->save = NULL;
    if (!by_hand(s)) return;
    size_t n = strlen(s->run);
    while (n > 1 && s->run[n - 1] == '/') n--;
    if (n == 0 || n >= LLM_DIRECTORY)
        par_problem(problems, "--run: has %zu characters; legal: 1 to %d", n, LLM_DIRECTORY - 1);
    snprintf(given, sizeof given, "%.*s", (int)n, s->run);
    s->run = given;
    if (s->save || !saves || par_checkpoint_missing()) return;
    snprintf(save, sizeof save, "%s/checkpoints", given);
    s->save = save;
}

const char *llm_run_file(const llm_run *r, const char *name) {
    static char paths[NAMES][LLM_DIRECTORY + 64], known[NAMES][64];
    int i = 0;
    if (!*r->directory) return NULL;
    while (i < NAMES - 1 && *known[i] && strcmp(known[i], name) != 0) i++;
    snprintf(known[i], sizeof known[i], "%.63s", name);
    snprintf(paths[i], sizeof paths[i], "%s/%.63s", r->directory, name);
    return paths[i];
}

/* And those above it. */
static bool make_directories(const char *path) {
    char part[LLM_DIRECTORY];
    for (const char *end = path; *end;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
        if (mkdir(part, 0777) != 0 && errno != EEXIST) return false;
    }
    return true;
}

/* A file in it can be made and filled with more than a run's first records. */
static bool can_hold(const char *directory) {
    static const char bytes[65536];
    char path[LLM_DIRECTORY + 64];
    snprintf(path, sizeof path, "%s/.probe", directory);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) return false;
    errno = ENOSPC; /* a short write sets none */
    bool whole = write(file, bytes, sizeof bytes) == (ssize_t)sizeof bytes;
    int error = errno;
    if (close(file) != 0 && whole) whole = false, error = errno;
    unlink(path);
    errno = error;
    return whole;
}

/* A path to something in it. */
static bool holds(const char *directory, const char *path) {
    char outer[PATH_MAX], inner[PATH_MAX];
    if (!path || !realpath(path, inner) || !realpath(directory, outer)) return false;
    size_t n = strlen(outer);
    return strncmp(inner, outer, n) == 0 && inner[n] == '/';
}

bool llm_run_holds(const llm_run *r, const char *path) {
    return *r->directory && holds(r->directory, path);
}

static bool is_there(const char *directory, const char *name) {
    char path[LLM_DIRECTORY + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static par_status cannot(const char *directory, const char *verb) {
    return par_error_set(PAR_ERR_IO, "--run %s: cannot be %s: %s; legal: another DIR, or none",
                         directory, verb, strerror(errno));
}

static par_status another(const char *directory) {
    return par_error_set(PAR_ERR_IO,
                         "--run %s: is another run's; legal: --resume auto to go on in it, or "
                         "another name",
                         directory);
}

static par_status make_given(const llm_run *r, char *directory) {
    const llm_settings *s = &r->set;
    struct stat info;
    bool old = false;
    snprintf(directory, LLM_DIRECTORY, "%s", s->run);
    kept.made = stat(directory, &info) != 0;
    if (kept.made && !make_directories(directory)) return cannot(directory, "made");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) old |= is_there(directory, names[i]);
    kept.run = old ? NULL : r;
    kept.had_checkpoints = is_there(directory, "checkpoints");
    if (old && !llm_resume_is_auto(s) && !holds(s->run, s->resume)) return another(directory);
    if (stat(directory, &info) == 0 && !S_ISDIR(info.st_mode)) {
        errno = ENOTDIR;
        return cannot(directory, "used");
    }
    return can_hold(directory) ? PAR_OK : cannot(directory, "written to");
}

/* "runs/20261127-114600-gpt2-124m", and -2, -3 ... behind it where that is there; false: not, with
 * errno. */
static bool make_named(const llm_run *r, char *directory) {
    char stamp[32], model[64];
    const char *name = r->set.import ? strrchr(r->set.import, '/') : NULL;
    time_t t = time(NULL);
    struct tm local;
    name = name && name[1] ? name + 1 : r->set.import ? r->set.import : r->config.name;
    snprintf(model, sizeof model, "%.48s", name);
    for (char *c = model; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c)) *c = '-';
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", localtime_r(&t, &local));
    kept.made_above = mkdir("runs", 0777) == 0;
    for (int i = 1; i < 100000; i++) {
        char again[16] = "";
        if (i > 1) snprintf(again, sizeof again, "-%d", i);
        snprintf(directory, LLM_DIRECTORY, "runs/%s-%s%s", stamp, model, again);
        if (mkdir(directory, 0777) == 0) {
            kept.made = true;
            kept.run = r;
            return can_hold(directory);
        }
        if (errno != EEXIST) return false;
    }
    return false;
}

/* What rank 0 tells the others. */
static struct {
    par_status st;
    char directory[LLM_DIRECTORY], why[LLM_DIRECTORY + 256]; /* why there is none, or the error */
} told;

par_status llm_run_make(llm_run *r, const llm_world *w) {
    llm_settings *s = &r->set;
    bool trains = !(s->dry_run || s->sample || s->eval_only || s->verify_parallel || s->show_mesh ||
                    s->gantt);
    if (!trains || (s->run && !by_hand(s))) return PAR_OK;
    if (w->rank == 0) kept.directory = told.directory;
    if (w->rank == 0 && by_hand(s)) {
        told.st = make_given(r, told.directory);
        if (told.st != PAR_OK) snprintf(told.why, sizeof told.why, "%s", par_error());
    } else if (w->rank == 0 && !make_named(r, told.directory)) {
        snprintf(told.why, sizeof told.why, "no directory for this run, as %s: %s; --run DIR",
                 told.directory, strerror(errno));
        llm_run_leave();
        *told.directory = 0;
    }
    if (w->size > 1) llm_world_share(&told, sizeof told);
    if (told.st != PAR_OK) return par_error_set(told.st, "%s", told.why);
    snprintf(r->directory, sizeof r->directory, "%s", told.directory);
    if (!*r->directory) return PAR_OK;
    s->run = r->directory;
    if (!s->log) s->log = llm_run_file(r, "log.jsonl");
    /* a curve takes memory for every step */
    if (!s->curve && s->steps <= MAX_STEPS) s->curve = llm_run_file(r, "curve.svg");
    return PAR_OK;
}

par_status llm_run_take(const llm_run *r, llm_world *w) {
    char path[LLM_DIRECTORY + 64];
    par_status st = PAR_OK;
    if (w->rank == 0 && *r->directory && kept.run) {
        snprintf(path, sizeof path, "%s/%s", r->directory, names[0]);
        make_directories(r->directory); /* another start that failed may have removed it */
        int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        kept.files = file >= 0;
        if (file >= 0)
            close(file);
        else
            st = errno == EEXIST ? another(r->directory) : cannot(r->directory, "written to");
    }
    return llm_world_agree(w, st);
}

void llm_run_print(const llm_run *r) {
    if (*r->directory)
        printf("run: %s\n", r->directory);
    else if (*told.why)
        printf("note: %s\n", told.why);
}

void llm_run_leave(void) {
    char path[LLM_DIRECTORY + 64];
    if (!kept.run || kept.run->trains) return;
    for (size_t i = 0; kept.files && i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", kept.directory, names[i]);
        unlink(path);
    }
    /* folders that are empty go, no others */
    snprintf(path, sizeof path, "%s/checkpoints", kept.directory);
    if (!kept.had_checkpoints) rmdir(path);
    if (kept.made) rmdir(kept.directory);
    if (kept.made_above) rmdir("runs");
    kept.run = NULL;
}
