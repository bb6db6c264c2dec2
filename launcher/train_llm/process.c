/*
 * The process as it was started, and whether what it prints is written: see process.h. Constructors
 * of libraries run before main: some that Debian's MPICH brings take SIGHUP for themselves, and one
 * may open a file. So the first look comes before them. A standard stream that is closed becomes
 * /dev/null, opened the wrong way round: its use still fails, and no file gets its number, in which
 * what is printed would end up.
 */
#define _XOPEN_SOURCE 700
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool hangup_is_ignored;

static void look(void) {
    struct sigaction was;
    hangup_is_ignored = sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler == SIG_IGN;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}
__attribute__((section(".preinit_array"), used)) static void (*const begin)(void) = look;

bool process_ignores_hangup(void) {
    return hangup_is_ignored;
}

bool process_prints(void) {
    if (!ferror(stdout)) return true;
    (void)!freopen("/dev/null", "w", stdout);
    return false;
}

bool process_printed(const char *program) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return true;
    /* what failed may lie back: one more byte says why */
    const char *why = write(STDOUT_FILENO, "\n", 1) == 1 ? "it failed before"
                      : errno == EBADF                   ? "it is closed"
                                                         : strerror(errno);
    fprintf(stderr, "%s: standard output cannot be written: %s; what was printed is not whole\n",
            program, why);
    return false;
}
