/* par checkpoint list, show. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "checkpoint_tool.h"
#include "par_tool.h"

/* When the manifest was written; "-" if it is not there. */
static const char *date_of(const char *path, char text[32]) {
    char name[1100];
    struct stat info;
    struct tm when;
    snprintf(name, sizeof name, "%s/manifest.json", path);
    if (stat(name, &info) != 0 || !localtime_r(&info.st_mtime, &when) ||
        strftime(text, 32, "%Y-%m-%d %H:%M", &when) == 0)
        snprintf(text, 32, "-");
    return text;
}

/* "tp 2 pp 4 dp 8 bf16"; axes of size 1 are left out. */
static const char *layout_of(const par_checkpoint *c, char text[64]) {
    static const char *const axes[] = {"tp", "cp", "pp", "dp"};
    size_t used = 0;
    *text = 0;
    for (int i = 0; i < 4; i++) {
        const char *size = checkpoint_value(c, axes[i]);
        if (size && strcmp(size, "1") != 0 && used < 64)
            used += (size_t)snprintf(text + used, 64 - used, "%s %s ", axes[i], size);
    }
    const char *precision = checkpoint_value(c, "precision");
    if (used < 64) snprintf(text + used, 64 - used, "%s", precision ? precision : "");
    return *text ? text : "-";
}

static const char *loss_text(double loss, bool known, char text[32]) {
    if (known)
        snprintf(text, 32, "%.4f", loss);
    else
        snprintf(text, 32, "-");
    return text;
}

/* Returns the exit code. damage [n]: what is known of each, or NULL. */
static int print_table(const checkpoint_settings *s, const checkpoint_paths *list,
                       par_checkpoint *const *checkpoints, char *const *damage) {
    int code = EXIT_SUCCESS;
    printf("%-17s  %-16s  %10s  %5s  %-24s  %8s  %8s  %s\n", "checkpoint", "saved", "size", "ranks",
           "layout", "loss", "val loss", "state");
    for (int i = 0; i < list->n; i++) {
        char date[32], size[32], layout[64], loss[32], validation[32];
        const char *path = list->paths[i], *slash = strrchr(path, '/');
        const par_checkpoint *c = checkpoints[i];
        const par_checkpoint_result *info = par_checkpoint_info(c);
        bool fits = c && !damage[i] && par_checkpoint_sizes(c) == PAR_OK;
        const char *why = damage[i] ? damage[i] : c && !fits ? par_error() : "";
        bool trained = c && !checkpoint_value(c, CHECKPOINT_ORIGIN);
        if (!fits && checkpoint_is_gone(path)) {
            printf("%-17s  was removed meanwhile\n", slash ? slash + 1 : path);
            continue;
        }
        printf("%-17s  %-16s  %10s  %5d  %-24s  %8s  %8s  %s\n", slash ? slash + 1 : path,
               date_of(path, date), c ? checkpoint_size((double)info->nbytes, size) : "-",
               c ? info->n_ranks : 0, c ? layout_of(c, layout) : "-",
               loss_text(c ? info->loss : 0, trained, loss),
               loss_text(c ? info->validation : 0, c && info->validation != 0, validation),
               !fits       ? "damaged"
               : s->verify ? "verified"
                           : "complete");
        if (*why) printf("  damaged: %s\n", why);
        if (!fits) code = CHECKPOINT_FOUND;
    }
    return code;
}

int checkpoint_list(const checkpoint_settings *s) {
    checkpoint_paths list = {0};
    if (checkpoint_paths_find(s->words[0], &list) != PAR_OK) {
        checkpoint_paths_free(&list);
        return checkpoint_failed("list");
    }
    int code = PAR_TOOL_INPUT;
    par_checkpoint **checkpoints = calloc((size_t)list.n, sizeof(par_checkpoint *));
    char **damage = calloc((size_t)list.n, sizeof *damage);
    par_status st =
        checkpoints && damage ? PAR_OK : par_error_set(PAR_ERR_MEMORY, "no host memory for a list");
    for (int i = 0; st == PAR_OK && i < list.n; i++)
        st = checkpoint_open_found(list.paths[i], &checkpoints[i], &damage[i]);
    if (st == PAR_OK && s->verify)
        st = checkpoint_verify_all(checkpoints, list.n, (int)s->threads, damage);
    if (st == PAR_OK)
        code = print_table(s, &list, checkpoints, damage);
    else
        checkpoint_failed("list");
    for (int i = 0; i < list.n; i++) {
        if (checkpoints) par_checkpoint_close(&checkpoints[i]);
        if (damage) free(damage[i]);
    }
    free(checkpoints);
    free(damage);
    checkpoint_paths_free(&list);
    return code;
}

static void print_tensors(const par_checkpoint *c) {
    char shape[64], size[32];
    int n;
    const par_checkpoint_tensor *t = par_checkpoint_tensors(c, &n);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        char name[600], rank[32] = "";
        double elements = (double)t[i].global[0] * (double)(t[i].ndim == 2 ? t[i].global[1] : 1);
        snprintf(name, sizeof name, "%s/%s", t[i].kind, t[i].name);
        if (t[i].ndim == 0) snprintf(rank, sizeof rank, "  of rank %d", t[i].rank);
        printf("  %-48s  %-5s  %s%s\n", name, par_dtype_name(t[i].dtype),
               checkpoint_shape(&t[i], shape), rank);
        sum += elements * (double)par_dtype_nbytes(t[i].dtype);
        if (i + 1 < n && strcmp(t[i].kind, t[i + 1].kind) == 0) continue;
        printf("  %s: %s\n", t[i].kind, checkpoint_size(sum, size));
        sum = 0;
    }
}

int checkpoint_show(const checkpoint_settings *s) {
    char size[32], date[32];
    int n;
    par_checkpoint *c = NULL;
    par_status st = checkpoint_open(s->words[0], &c);
    if (st != PAR_OK) return checkpoint_not_read("show", st);
    const par_checkpoint_result *info = par_checkpoint_info(c);
    printf("%s | saved %s | %s of %d rank%s\n", info->path, date_of(info->path, date),
           checkpoint_size((double)info->nbytes, size), info->n_ranks,
           info->n_ranks == 1 ? "" : "s");
    printf("step %lld | %lld samples consumed | %lld updates | loss %.6g\n", (long long)info->step,
           (long long)info->consumed, (long long)info->updates, info->loss);
    if (info->validation != 0) printf("val loss %.6g\n", info->validation);
    if (*info->run)
        printf("saved by run %s%s%s\n", info->run, *info->parent ? ", which went on from " : "",
               info->parent);
    const par_checkpoint_pair *pairs = par_checkpoint_pairs(c, &n);
    printf("run:\n");
    for (int i = 0; i < n; i++) printf("  %-24s  %s\n", pairs[i].name, pairs[i].value);
    printf("tensors:\n");
    print_tensors(c);
    par_checkpoint_close(&c);
    return EXIT_SUCCESS;
}
