/* Statuses, the thread's last message, and collected problems. */
#include "par/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libpar/base/utf8.h"

static _Thread_local char last_error[PAR_ERROR_NBYTES];

const char *par_status_text(par_status status) {
#define PAR_STATUS_TEXT(name, text) text,
    static const char *const texts[] = {PAR_STATUS_LIST(PAR_STATUS_TEXT)};
#undef PAR_STATUS_TEXT
    return (int)status >= 0 && status < PAR_STATUS_COUNT ? texts[status] : "unknown status";
}

const char *par_error(void) {
    return last_error;
}

/* Messages have names and values of files in them, and go to terminals, which obey control
 * characters. */
static void plain(char *text) {
    for (size_t k; *text; text += k ? k : 1) {
        k = par__control_length(text);
        memset(text, '?', k);
    }
}

par_status par_error_set(par_status status, const char *format, ...) {
    /* Through a second buffer: an argument may be par_error() itself. */
    char text[sizeof last_error];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    plain(text);
    memcpy(last_error, text, sizeof text);
    return status;
}

void par_problem(par_problems *problems, const char *format, ...) {
    size_t used = strlen(problems->text);
    va_list args;
    va_start(args, format);
    problems->n++;
    if (used > 0 && used + 1 < sizeof problems->text) problems->text[used++] = '\n';
    vsnprintf(problems->text + used, sizeof problems->text - used, format, args);
    va_end(args);
    plain(problems->text + used);
}

par_status par_problems_status(const par_problems *problems, par_status status) {
    if (problems->n == 0) return PAR_OK;
    return par_error_set(status, "%s", problems->text);
}
