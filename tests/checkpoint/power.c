/*
 * The power fails while a checkpoint is saved. The save's own calls are recorded (record.h), and
 * after each of them states of the folder that a power loss may leave are made (disk.h): all of
 * them where they are few, and some at random. In each one a whole checkpoint loads, with its own
 * numbers: the older one until the new one gets its name, the new one from when that name is on the
 * disk, between them one of the two. Nothing damaged lies under a newer name, and `latest` names a
 * checkpoint that is there.
 *
 * PAR_POWER_STATES: tries at random per save, 1000 by default; the long form is 30000.
 * PAR_SEED repeats those at random. PAR_POWER_DROP drops a sync (record.h): cases then fail.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "disk.h"
#include "fixture.h"

enum { OLD = 1, NEW = 2, LATER = 3 }; /* versions of the contents */

typedef struct {
    int64_t step;
    int version;
} held;

/* One save, and the states that a power loss in it may leave. */
typedef struct {
    fixture f; /* its directory */
    held before, after;
    int keep;
    long draws;      /* states to try */
    int again_every; /* from one state in so many the next save is lost, too; 0: none */
    record *records;
    int n;
    int named, safe; /* records: the new checkpoint gets its name; and the sync after that */
    int done;        /* calls before the power loss */
    disk_states *seen;
    long n_states, n_old, n_new, n_bad, n_again;
    char why[1024]; /* of the first bad one */
} loss;

static uint64_t seed(void) {
    static uint64_t is;
    const char *text = getenv("PAR_SEED");
    if (!is) {
        is = text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
        printf("# power: PAR_SEED=%llu\n", (unsigned long long)is);
    }
    return is;
}

static long draws(void) {
    const char *text = getenv("PAR_POWER_STATES");
    return text ? atol(text) : 1000;
}

/* ---- what loads from a state ---- */

static bool is(const fixture *state, held what) {
    return state->result.step == what.step && fixture_holds(state, what.step, what.version);
}

/* Every byte that the manifest speaks of, index.h5 too. */
static par_status verify(const char *path) {
    par_checkpoint *c = NULL;
    PAR_TRY(par_checkpoint_open(path, NULL, &c));
    par_status st = PAR_OK;
    for (int i = 0; st == PAR_OK && i <= par_checkpoint_info(c)->n_ranks; i++)
        st = par_checkpoint_verify(c, i);
    par_checkpoint_close(&c);
    return st;
}

/* A checkpoint of that name, or the one of that step that is set aside, is there. */
static bool latest_is_good(const fixture *state) {
    char path[1024];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/latest", state->directory);
    if (access(path, F_OK) != 0) return true;
    char *text = fixture_read(path, &n);
    bool good = text && n == 14 && text[13] == '\n' && strlen(text) == 14;
    snprintf(path, sizeof path, "%s/%.13s", state->directory, text ? text : "");
    if (good && access(path, F_OK) != 0) good = access(strcat(path, ".old"), F_OK) == 0;
    free(text);
    return good;
}

/* NULL, or what is wrong with the state. */
static const char *judge(loss *l, fixture *state) {
    if (fixture_load(state) != PAR_OK) return par_error();
    bool was_old = is(state, l->before), was_new = is(state, l->after);
    l->n_old += was_old;
    l->n_new += was_new;
    if (!was_old && !was_new) return "other numbers come back";
    if (was_old && l->done > l->safe) return "the new checkpoint was safe, and the older one loads";
    if (was_new && l->done <= l->named) return "the new checkpoint loads before it has its name";
    if (state->result.notes.n > 0) return state->result.notes.text;
    if (verify(state->result.path) != PAR_OK) return par_error();
    return latest_is_good(state) ? NULL : "latest names nothing that is there";
}

/* ---- states ---- */

static void lose(loss *l);

/* The next save begins with this state, and the power fails in it, too. */
static void lose_again(loss *l, const disk_image *image) {
    const int64_t step = l->n_again++ % 2 ? 3 : 2;
    loss second = {.after = {step, LATER}, .keep = l->keep, .draws = 40};
    fixture_open(&second.f);
    disk_write(image, second.f.directory);
    second.f.behind = l->f.behind;
    CHECK_OK(fixture_load(&second.f));
    second.before = is(&second.f, l->before) ? l->before : l->after;
    lose(&second);
    l->n_states += second.n_states;
    l->n_old += second.n_old;
    l->n_new += second.n_new;
    if (second.n_bad && l->n_bad == 0) strcpy(l->why, second.why);
    l->n_bad += second.n_bad;
    record_free(second.records, second.n);
}

static void try_state(void *user, const disk_image *image) {
    loss *l = user;
    fixture state;
    if (disk_seen(l->seen, image->hash + 1 + (l->done > l->named) + (l->done > l->safe))) return;
    fixture_open(&state);
    disk_write(image, state.directory);
    const char *why = judge(l, &state);
    if (why && l->n_bad++ == 0) {
        const record *r = l->done > 0 ? &l->records[l->done - 1] : NULL;
        snprintf(l->why, sizeof l->why, "after call %d of %d (%s %.100s): %.700s; PAR_SEED=%llu",
                 l->done, l->n, r ? r->call : "none", r ? r->path : "", why,
                 (unsigned long long)seed());
    }
    fixture_close(&state);
    l->n_states++;
    if (l->again_every && !why && l->n_states % l->again_every == 0) lose_again(l, image);
}

/* ---- one save ---- */

static bool is_step(const char *path, int64_t step) {
    char name[32];
    snprintf(name, sizeof name, "step_%08lld", (long long)step);
    return strcmp(path, name) == 0;
}

static void find_commit(loss *l) {
    l->named = l->safe = -1;
    for (int i = 0; i < l->n; i++) {
        const record *r = &l->records[i];
        bool sync = r->kind == RECORD_SYNC || r->kind == RECORD_DROPPED;
        if (r->kind == RECORD_RENAME && strstr(r->path, ".tmp-") && is_step(r->to, l->after.step))
            l->named = i;
        if (l->named >= 0 && l->safe < 0 && sync && !*r->path) l->safe = i;
    }
    CHECK(l->named >= 0 && l->safe > l->named, "of %d calls none gives the checkpoint its name",
          l->n);
}

static bool changes(const record *r) {
    return r->kind != RECORD_CLOSE &&
           (r->kind != RECORD_OPEN || r->flags & O_CREAT || r->flags & O_TRUNC);
}

static void record_save(loss *l) {
    char log[600];
    snprintf(log, sizeof log, "%s.log", l->f.directory);
    l->f.version = l->after.version;
    record_begin(log, l->f.directory);
    CHECK_OK(fixture_save(&l->f, l->after.step, l->keep));
    record_end();
    l->records = record_read(log, &l->n);
    unlink(log);
    find_commit(l);
}

/* Save, with the power lost after each call; the fixture goes. */
static void lose(loss *l) {
    disk *d = disk_take(l->f.directory);
    long points = 1;
    l->seen = calloc(1, sizeof *l->seen);
    if (!l->seen) abort();
    record_save(l);
    for (int i = 0; i < l->n; i++) points += changes(&l->records[i]);
    for (l->done = 0; l->done <= l->n && !harness_failed(); l->done++) {
        if (l->done == 0 || changes(&l->records[l->done - 1]))
            disk_try_states(d, seed() + 1000003 * (uint64_t)l->done, 1 + l->draws / points,
                            try_state, l);
        if (l->done == l->n) break;
        const record *r = &l->records[l->done];
        CHECK(disk_apply(d, r), "%s %s: is not modelled", r->call, r->path);
    }
    CHECK(disk_has(d, l->f.directory), "calls were missed: they make other files than there are");
    disk_free(d);
    free(l->seen);
    fixture_close(&l->f);
}

/* Before it step 1 was saved, and with `again` step 2, which is then replaced. */
static void prepare(loss *l, bool again, bool behind, int keep) {
    *l = (loss){.before = {again ? 2 : 1, OLD}, .after = {2, NEW}, .keep = keep, .draws = draws()};
    fixture_open(&l->f);
    l->f.version = OLD;
    CHECK_OK(fixture_save(&l->f, 1, 0));
    if (again) CHECK_OK(fixture_save(&l->f, 2, 0));
    l->f.behind = behind;
}

static void finish(loss *l, const char *name) {
    printf("# %s: %d calls, %ld states, %ld found old, %ld found new, %ld bad\n", name, l->n,
           l->n_states, l->n_old, l->n_new, l->n_bad);
    CHECK(l->n_bad == 0, "%s", l->why);
    CHECK(harness_failed() || (l->n_old > 0 && l->n_new > 0), "only one of the two was ever found");
    record_free(l->records, l->n);
}

static void run(const char *name, bool again, bool behind, int keep, int again_every) {
    if (fixture_cannot()) return;
    loss l;
    prepare(&l, again, behind, keep);
    l.again_every = again_every;
    lose(&l);
    finish(&l, name);
}

static void save(void) {
    run("save", false, false, 0, 0);
}
static void prune(void) {
    run("prune", false, false, 1, 0);
}
static void replace(void) {
    run("replace", true, false, 1, 0);
}
static void save_behind(void) {
    run("save-behind", false, true, 1, 0);
}
static void replace_behind(void) {
    run("replace-behind", true, true, 1, 0);
}
static void twice(void) {
    run("twice", true, false, 1, 20);
}

/* A program that leaves out one sync: those that the order of a save is made of are all missed. */
static void dropped_sync(void) {
    char number[16];
    bool more = true;
    if (fixture_cannot()) return;
    for (int i = 0; more && !harness_failed(); i++) {
        loss l;
        prepare(&l, false, false, 1);
        const record *without = NULL;
        snprintf(number, sizeof number, "%d", i);
        setenv("PAR_POWER_DROP", number, 1);
        lose(&l);
        unsetenv("PAR_POWER_DROP");
        for (int k = 0; k < l.n; k++)
            if (l.records[k].kind == RECORD_DROPPED) without = &l.records[k];
        more = without != NULL;
        bool needed = more && (strstr(without->path, ".tmp-") || strstr(without->path, "latest") ||
                               without == &l.records[l.safe]);
        if (more)
            printf("# dropped-sync: without that of DIR/%s: %ld states, %ld bad\n", without->path,
                   l.n_states, l.n_bad);
        CHECK(!needed || l.n_bad > 0, "the sync of %s is left out, and nothing is found",
              without->path);
        CHECK(more || (i >= 6 && l.n_bad == 0), "only %d syncs; %s", i, l.why);
        record_free(l.records, l.n);
    }
}

static const harness_case cases[] = {
    {"save", save, 0, NULL, 0},
    {"prune", prune, 0, NULL, 0},
    {"replace", replace, 0, NULL, 0},
    {"save-behind", save_behind, 0, NULL, 0},
    {"replace-behind", replace_behind, 0, NULL, 0},
    {"twice", twice, 0, NULL, 0},
    {"dropped-sync", dropped_sync, 0, NULL, 0},
};

int main(int argc, char **argv) {
    return harness_main("power", cases, HARNESS_COUNT(cases), argc, argv);
}
