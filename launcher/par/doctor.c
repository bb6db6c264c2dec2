/* par doctor: options, and what all ranks found, each line once. See doctor.h. */
#include "doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "par_tool.h"

static const char usage[] =
    "usage: par doctor [options]\n"
    "       mpirun -n RANKS par doctor [options]\n"
    "Looks at MPI and its launcher, cores, memory and their limits, huge pages, shared memory, "
    "HDF5,\n"
    "the GPU and its libraries, and, under mpirun, at all hosts and their clocks. Each line says\n"
    "whether it is ok, what it means, and what to do. Exit code 1 if a line says fail.";

static const par_tag tag = {"doctor", -1, -1, -1};

typedef struct {
    const char *save;
    bool json;
} settings;

static bool same(const doctor_finding *a, const doctor_finding *b) {
    return a->level == b->level && strcmp(a->name, b->name) == 0 && strcmp(a->what, b->what) == 0;
}

static bool has(const doctor_finding *findings, const doctor_finding *one) {
    for (int i = 0; i < DOCTOR_FINDINGS; i++)
        if (same(&findings[i], one)) return true;
    return false;
}

/* "", or "rank 2 to 3, 7": those that have this finding, where not all have; cut with "...". */
static void rank_text(const doctor_finding *all, int ranks, const doctor_finding *one, char *text,
                      size_t nbytes) {
    int count = 0;
    size_t used = 0;
    *text = 0;
    for (int r = 0, last; r < ranks; r = last + 1) {
        last = r;
        if (!has(all + (size_t)r * DOCTOR_FINDINGS, one)) continue;
        while (last + 1 < ranks && has(all + (size_t)(last + 1) * DOCTOR_FINDINGS, one)) last++;
        count += last - r + 1;
        if (used + 40 > nbytes) {
            if (text[used - 1] != '.') used += (size_t)snprintf(text + used, nbytes - used, "...");
            continue;
        }
        used += (size_t)snprintf(text + used, nbytes - used, last > r ? "%s%d to %d" : "%s%d",
                                 used ? ", " : "rank ", r, last);
    }
    if (count == ranks) *text = 0;
}

static void put_json_text(const char *name, const char *text) {
    printf("%s\"%s\": \"", strcmp(name, "level") == 0 ? "" : ", ", name);
    for (; *text; text++)
        if ((unsigned char)*text < 0x20)
            printf("\\u%04x", *text);
        else
            printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    putchar('"');
}

static void print_finding(const doctor_finding *f, const char *ranks, bool json, bool first) {
    static const char *const levels[] = {"ok", "warn", "fail"};
    if (!json) {
        printf("%-5s %-15s %s%s%s\n", levels[f->level], f->name, ranks, *ranks ? ": " : "",
               f->what);
        if (*f->remedy) printf("%22s%s%s\n", "", f->level == DOCTOR_OK ? "" : "do: ", f->remedy);
        return;
    }
    printf("%s{", first ? "" : ",\n ");
    put_json_text("level", levels[f->level]);
    put_json_text("name", f->name);
    put_json_text("ranks", ranks);
    put_json_text("what", f->what);
    put_json_text("remedy", f->remedy);
    putchar('}');
}

/* Rank 0 prints; the worst level. */
static int print_all(const doctor *d, const doctor_finding *all, bool json) {
    int worst = DOCTOR_OK, n = d->world->size * DOCTOR_FINDINGS, printed = 0, bad[3] = {0};
    if (json) printf("[");
    for (int i = 0; i < n; i++) {
        char ranks[256];
        bool seen = !*all[i].name;
        for (int k = 0; !seen && k < i; k++) seen = same(&all[k], &all[i]);
        if (seen) continue;
        rank_text(all, d->world->size, &all[i], ranks, sizeof ranks);
        print_finding(&all[i], d->world->size > 1 ? ranks : "", json, printed++ == 0);
        bad[all[i].level]++;
        if (all[i].level > worst) worst = all[i].level;
    }
    if (json)
        printf("]\n");
    else
        printf("%d ok, %d warn, %d fail\n", bad[DOCTOR_OK], bad[DOCTOR_WARN], bad[DOCTOR_FAIL]);
    return worst;
}

static int examine(const settings *s, const par_world *w) {
    enum { MINE = DOCTOR_FINDINGS * sizeof(doctor_finding) };
    const par_comm_params params = {.axis = "world"};
    doctor *d = calloc(1, sizeof *d);
    int worst = DOCTOR_OK;
    if (!d || par_comm_create(w->transport, &params, NULL, &d->comm) != PAR_OK) {
        free(d);
        fprintf(stderr, "par doctor: no host memory\n");
        return EXIT_FAILURE;
    }
    d->world = w;
    d->save = s->save;
    doctor_library(d);
    doctor_system(d);
    /* every rank's findings behind each other; a rank's list ends with one that has no name */
    doctor_finding *all = calloc((size_t)w->size, MINE);
    par_status st = par_comm_agree(
        d->comm,
        all ? PAR_OK
            : par_error_set(PAR_ERR_MEMORY, "no host memory for %d lists of findings", w->size));
    if (st == PAR_OK)
        st = par_comm_all_gather(d->comm, d->findings, all, MINE, PAR_U8, tag, NULL, NULL);
    if (st != PAR_OK) {
        fprintf(stderr, "par doctor: %s\n", par_error());
        worst = DOCTOR_FAIL;
    } else if (w->rank == 0) {
        worst = print_all(d, all, s->json);
    }
    free(all);
    par_comm_destroy(&d->comm);
    free(d);
    return worst == DOCTOR_FAIL ? EXIT_FAILURE : EXIT_SUCCESS;
}

int par_doctor(int argc, char **argv) {
    settings s;
    par_world w = {0};
    par_problems problems = {0};
    const par_option rows[] = {
        {.name = "save",
         .type = PAR_OPT_TEXT,
         .value = &s.save,
         .help = "a folder for checkpoints: do there what a save does, with a few bytes",
         .metavar = "DIR"},
        {.name = "json", .type = PAR_OPT_BOOL, .value = &s.json, .help = "print JSON"},
    };
    if (par_tool_read(rows, 2, usage, argc, argv, &problems)) return EXIT_SUCCESS;
    int code = par_tool_refuse("doctor", &problems);
    if (code) return code;
    if (par_world_begin(&w) != PAR_OK) {
        fprintf(stderr, "par doctor: %s\n", par_error());
        return par_world_end(&w, EXIT_FAILURE);
    }
    return par_world_end(&w, examine(&s, &w));
}
