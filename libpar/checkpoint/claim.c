/*
 * An owner's file: see owner.h. Files are numbered. A number is made by one process alone
 * (O_EXCL), and written by no other; the highest number is the owner. A dead owner is succeeded by
 * the next number, which of several claimers one gets. So nobody ever removes or renames a file
 * that a living owner may just have made.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "libpar/base/clock.h"
#include "libpar/base/file.h"
#include "libpar/checkpoint/owner.h"

#define PREFIX "owner."
enum { MOST_S = 1000000 }; /* between beats: of a longer time the file is no claim of ours */

static const char form[] = "libpar owner 1\nhost %s\nboot %s\nspace %s\npid %ld\nstarted %llu\n"
                           "every %g s\ntoken %s\nbeat %llu\n";

par_status par__random_id(char out[PAR_RUN_ID]) {
    unsigned char bytes[(PAR_RUN_ID - 1) / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        PAR_FAIL(PAR_ERR_IO, "no random bytes for an id: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return PAR_OK;
}

/* ---- processes ---- */

static void read_line(const char *path, char *line, int size) {
    FILE *file = fopen(path, "r");
    line[0] = 0;
    if (!file) return;
    if (!fgets(line, size, file)) line[0] = 0;
    fclose(file);
    line[strcspn(line, "\n")] = 0;
}

/* Ticks since the boot, field 22 of its stat; 0: there is no such process, or it is a zombie. */
static unsigned long long started(long pid) {
    char path[64], line[1024];
    unsigned long long ticks = 0;
    char state = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    read_line(path, line, sizeof line);
    const char *end = strrchr(line, ')'); /* of the name, which may hold anything */
    if (!end || sscanf(end + 1,
                       " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                       "%*d %llu",
                       &state, &ticks) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : ticks;
}

void par__claimant_self(par__claimant *out) {
    *out = (par__claimant){.pid = (long)getpid()};
    out->started = started(out->pid);
    if (gethostname(out->host, sizeof out->host - 1) != 0 || !*out->host) strcpy(out->host, "?");
    read_line("/proc/sys/kernel/random/boot_id", out->boot, sizeof out->boot);
    ssize_t n = readlink("/proc/self/ns/pid", out->space, sizeof out->space - 1);
    if (n <= 0) out->space[0] = 0;
    if (!*out->boot) strcpy(out->boot, "?");
    if (!*out->space) strcpy(out->space, "?");
}

/* Its processes are those that this one sees, too. */
static bool is_here(const par__claimant *c) {
    par__claimant self;
    par__claimant_self(&self);
    return self.started > 0 && self.boot[0] != '?' && self.space[0] != '?' &&
           strcmp(self.boot, c->boot) == 0 && strcmp(self.space, c->space) == 0;
}

bool par__claimant_dead(const par__claimant *c) {
    if (!is_here(c)) return false;
    unsigned long long now = started(c->pid);
    /* /proc may hide another user's process (hidepid), of which a signal still tells */
    bool hidden = now == 0 && kill((pid_t)c->pid, 0) != 0 && errno == EPERM;
    return now != c->started && !hidden;
}

const char *par__claimant_text(const par__claimant *c, char text[320]) {
    if (c->pid)
        snprintf(text, 320, "process %ld on host %.255s", c->pid, c->host);
    else
        snprintf(text, 320, "a process that has just begun");
    return text;
}

/* ---- files ---- */

par_status par__claim_highest(const char *directory, int *number, int *n) {
    par_status st;
    DIR *d;
    const char *name;
    *number = *n = 0;
    PAR_TRY(par__list_open(directory, &d));
    while ((st = par__list_next(&d, directory, &name)) == PAR_OK && name) {
        if (strncmp(name, PREFIX, strlen(PREFIX)) != 0) continue;
        char *end;
        long found = strtol(name + strlen(PREFIX), &end, 10);
        if (*end || found <= 0 || found > 99999999) continue;
        ++*n;
        if (found > *number) *number = (int)found;
    }
    return st;
}

par_status par__claim_path(const char *directory, int number, char out[PAR__PATH]) {
    char name[PAR__NAME];
    snprintf(name, sizeof name, PREFIX "%08d", number);
    return par__path(out, directory, name);
}

par_status par__claim_read(const char *path, bool *read, char text[PAR__CLAIM_TEXT],
                           par__claimant *out) {
    char *data = NULL;
    size_t nbytes = 0;
    *out = (par__claimant){0};
    text[0] = 0;
    PAR_TRY(par__file_exists(path, read));
    if (!*read) return PAR_OK;
    par_status st = par__read_file(path, PAR__CLAIM_TEXT - 1, &data, &nbytes);
    if (st != PAR_OK && access(path, F_OK) != 0 && errno == ENOENT) { /* gone meanwhile */
        *read = false;
        return PAR_OK;
    }
    PAR_TRY(st);
    memcpy(text, data, nbytes + 1);
    free(data);
    par__claimant c = {0};
    if (sscanf(text,
               "libpar owner 1 host %255s boot %63s space %63s pid %ld started %llu every %lf s "
               "token %32s beat %llu",
               c.host, c.boot, c.space, &c.pid, &c.started, &c.beat_s, c.token, &c.beat) == 8 &&
        c.pid > 0 && c.beat_s > 0 && c.beat_s <= MOST_S)
        *out = c;
    return PAR_OK;
}

static int write_text(const par__claimant *c, char text[PAR__CLAIM_TEXT]) {
    return snprintf(text, PAR__CLAIM_TEXT, form, c->host, c->boot, c->space, c->pid, c->started,
                    c->beat_s, c->token, c->beat);
}

par_status par__claim_create(const char *path, const par__claimant *c, bool *made) {
    char text[PAR__CLAIM_TEXT];
    size_t nbytes = (size_t)write_text(c, text);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    *made = fd >= 0;
    if (fd < 0) return errno == EEXIST ? PAR_OK : par__write_error(path, "created");
    par_status st = par__write_at(fd, path, text, nbytes, 0);
    if (st == PAR_OK && fsync(fd) != 0) st = par__write_error(path, "synced");
    st = par__close(fd, path, st);
    if (st != PAR_OK) unlink(path);
    return st;
}

par_status par__claim_renew(const char *path, const par__claimant *c) {
    char text[PAR__CLAIM_TEXT], temporary[PAR__PATH + 8];
    snprintf(temporary, sizeof temporary, "%s" PAR__TEMPORARY, path);
    size_t nbytes = (size_t)write_text(c, text);
    par_status st = par__write_file(temporary, text, nbytes);
    if (st == PAR_OK && rename(temporary, path) == 0) return PAR_OK;
    bool taken = st == PAR_OK && errno == EEXIST;
    if (st == PAR_OK) st = par__write_error(path, "renewed");
    unlink(temporary);
    /* never away and there again: others would take the directory meanwhile */
    return taken ? par__write_file(path, text, nbytes) : st;
}

/* ---- life ---- */

/* As par__claim_read; without knowing what it says, nobody may take the directory. */
static par_status read_to_judge(const char *path, bool *there, char text[PAR__CLAIM_TEXT],
                                par__claimant *who) {
    if (par__claim_read(path, there, text, who) == PAR_OK) return PAR_OK;
    PAR_FAIL(
        PAR_ERR_IO,
        "%s: so nobody knows whether that run lives; legal: another directory, or, if you know "
        "that it does not, to remove that file",
        par_error());
}

par_status par__claim_judge(const char *path, const par_owner_params *params, par__life *life,
                            char text[PAR__CLAIM_TEXT], par__claimant *who) {
    enum { LOOKS = 100 };
    char now[PAR__CLAIM_TEXT], name[320], line[PAR__PATH + 512];
    bool there, here;
    PAR_TRY(read_to_judge(path, &there, text, who));
    here = there && who->pid && is_here(who);
    *life = !there ? PAR__GONE : here && !par__claimant_dead(who) ? PAR__ALIVE : PAR__DEAD;
    if (!there || here) return PAR_OK;
    double beat = who->beat_s > params->beat_s ? who->beat_s : params->beat_s;
    double seconds = PAR__BEATS * beat, end = par__seconds() + seconds;
    if (who->pid && params->print) {
        snprintf(
            line, sizeof line,
            "%s: claimed by %s; waiting up to %.0f s to see whether it lives (if you know that "
            "it does not: remove that file)",
            path, par__claimant_text(who, name), seconds);
        params->print(params->user, line);
    }
    while (par__seconds() < end) {
        double pause = seconds / LOOKS;
        nanosleep(&(struct timespec){(time_t)pause, (long)(1e9 * (pause - (double)(time_t)pause))},
                  NULL);
        PAR_TRY(read_to_judge(path, &there, now, who));
        *life = !there ? PAR__GONE : strcmp(text, now) != 0 ? PAR__ALIVE : PAR__DEAD;
        if (*life != PAR__DEAD) return PAR_OK;
    }
    return PAR_OK;
}
