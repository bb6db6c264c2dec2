/*
 * A process that can be asked: it answers its own user alone, and whoever asks in vain is told why:
 * no process, another user's, one that answers nobody, one that is stopped.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../harness.h"
#include "par/attach.h"

enum { LONG_NBYTES = 1 << 22, NOBODY = 65534 };

static char *answer(void *user) {
    char *text = malloc(LONG_NBYTES + 1);
    if (!text) return NULL;
    memset(text, *(const char *)user, LONG_NBYTES);
    text[LONG_NBYTES] = 0;
    return text;
}

static void answers(void) {
    par_attach *attach = NULL;
    char *text = NULL;
    CHECK_OK(par_attach_create(answer, "x", &attach));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(par_attach_ask(getpid(), 5, &text));
        if (harness_failed()) return;
        CHECK(strlen(text) == LONG_NBYTES && text[0] == 'x' && text[LONG_NBYTES - 1] == 'x',
              "an answer of %zu bytes", strlen(text));
        free(text);
    }
    par_attach_destroy(&attach);
    CHECK_FAILS(par_attach_ask(getpid(), 5, &text), PAR_ERR_ARG, "answers nobody");
    CHECK_OK(par_attach_create(answer, "y", &attach));
    par_attach_destroy(&attach);
    par_attach_destroy(&attach);
}

/* A child that can be asked if `asked`, once it runs; it ends with this process. */
static pid_t start(bool asked) {
    int ready[2];
    char c;
    if (pipe(ready) != 0) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        par_attach *attach = NULL;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (asked && par_attach_create(answer, "c", &attach) != PAR_OK) _exit(1);
        if (write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    CHECK(pid > 0 && read(ready[0], &c, 1) == 1, "no child");
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void in_vain(void) {
    char *text = NULL;
    pid_t plain = start(false), stopped = start(true);
    if (harness_failed()) return;
    CHECK_FAILS(par_attach_ask(plain, 5, &text), PAR_ERR_ARG, "is not a rank of a training");
    CHECK_OK(par_attach_ask(stopped, 5, &text));
    free(text);
    kill(stopped, SIGSTOP);
    waitpid(stopped, NULL, WUNTRACED); /* its threads may run until then */
    CHECK_FAILS(par_attach_ask(stopped, 0.3, &text), PAR_ERR_IO, "is stopped");
    kill(stopped, SIGCONT);
    CHECK_OK(par_attach_ask(stopped, 5, &text));
    free(text);
    end(stopped);
    end(plain);
    CHECK_FAILS(par_attach_ask(plain, 5, &text), PAR_ERR_ARG, "there is no process");
    CHECK_FAILS(par_attach_ask(-1, 5, &text), PAR_ERR_ARG, "there is no process");
}

/* What the socket itself says to another user, who does not ask by par_attach_ask; 0: nothing. */
static char said_to_another(pid_t pid) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char c = 0;
    int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "libpar-%d", (int)pid);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    if (connect(fd, (struct sockaddr *)&name, size) != 0 || recv(fd, &c, 1, 0) != 1) c = 0;
    close(fd);
    return c;
}

static void another_user(void) {
    char *text = NULL;
    if (geteuid() != 0) {
        CHECK_FAILS(par_attach_ask(1, 5, &text), PAR_ERR_ARG, "is of user root");
        return;
    }
    pid_t asked = start(true), asker = fork();
    if (asker == 0) {
        if (setuid(NOBODY) != 0) _exit(9);
        if (par_attach_ask(asked, 5, &text) != PAR_ERR_ARG || !strstr(par_error(), "is of user"))
            _exit(1);
        _exit(said_to_another(asked) == 'R' ? 0 : 2);
    }
    int status = 0;
    waitpid(asker, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "another user: %d", WEXITSTATUS(status));
    end(asked);
}

int main(int argc, char **argv) {
    static const harness_case cases[] = {{"answers", answers, 0, NULL, 0},
                                         {"in-vain", in_vain, 0, NULL, 0},
                                         {"another-user", another_user, 0, NULL, 0}};
    return harness_main("attach", cases, HARNESS_COUNT(cases), argc, argv);
}
