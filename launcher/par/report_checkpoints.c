/* The checkpoints of a run: those below its directory, or where its --save says. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "checkpoint_tool.h"
#include "report.h"

static void put_row(report_page *p, const char *path) {
    char text[REPORT_TEXT], date[32] = "-", manifest[1300];
    struct stat file;
    struct tm when;
    par_checkpoint *c = NULL;
    const char *slash = strrchr(path, '/');
    double saved = NAN;
    par_status st = par_checkpoint_open(path, NULL, &c);
    snprintf(manifest, sizeof manifest, "%s/manifest.json", path);
    if (stat(manifest, &file) == 0) {
        saved = (double)file.st_mtime;
        if (localtime_r(&file.st_mtime, &when)) strftime(date, 32, "%Y-%m-%d %H:%M:%S", &when);
    }
    report_row(p);
    report_cell(p, slash ? slash + 1 : path);
    report_cell_number(p, saved, date);
    if (st == PAR_OK) {
        const par_checkpoint_result *info = par_checkpoint_info(c);
        double validation = info->validation != 0 ? info->validation : NAN;
        report_cell_number(p, (double)info->step, report_plain((double)info->step, text));
        report_cell_number(p, (double)info->nbytes, report_bytes((double)info->nbytes, text));
        report_cell_number(p, info->n_ranks, report_plain(info->n_ranks, text));
        report_cell_number(p, info->loss, report_plain(info->loss, text));
        report_cell_number(p, validation, report_plain(validation, text));
        report_cell(p, "complete");
    } else {
        for (int i = 0; i < 5; i++) report_cell_number(p, NAN, "-");
        report_cell(p, par_error());
    }
    par_checkpoint_close(&c);
}

void report_checkpoints(report_page *p, const report_run *run) {
    static const char *const heads[] = {
        "checkpoint", "#saved", "#step", "#size", "#ranks", "#loss", "#validation loss", "state"};
    checkpoint_paths list = {0};
    char path[1200];
    const char *save = report_value(&run->options, "save");
    bool found =
        report_file(run, "checkpoints", path) && checkpoint_paths_find(path, &list) == PAR_OK;
    if (!found && *save) { /* as the run's working directory sees it */
        snprintf(path, sizeof path, "%s", save);
        found = checkpoint_paths_find(path, &list) == PAR_OK;
    }
    if (!found) {
        report_missing(p,
                       *save ? "The run's checkpoints are not where it saved them:"
                             : "The run saved no checkpoints; they come with:",
                       *path ? path : "train_llm --save DIR --save-every STEPS");
        checkpoint_paths_free(&list);
        return;
    }
    report_put(p, "<p class=\"note\">In <code>");
    report_put_text(p, path);
    report_put(p, "</code>, which the options --keep, --keep-every and --keep-best thin out. "
                  "<code>par checkpoint verify</code> reads every byte of them.</p>\n");
    report_table_begin(p, heads, 8);
    for (int i = 0; i < list.n; i++) put_row(p, list.paths[i]);
    report_table_end(p);
    checkpoint_paths_free(&list);
}
