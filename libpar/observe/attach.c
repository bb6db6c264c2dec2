/* A process that can be asked, and who asks it. See par/attach.h. The answer is one byte, whether
 * there is one, and its text up to the end of the connection. */
#define _GNU_SOURCE
#include "par/attach.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hang.h"
#include "libpar/base/clock.h"
#include "libpar/base/threads.h"

enum { ANSWERED = 'A', REFUSED = 'R', NOTHING = 'N' };

struct par_attach {
    int listener, stop; /* stop: readable once the thread is to end */
    pthread_t thread;
    char *(*answer)(void *user);
    void *user;
};

/* An abstract name: its first byte is 0, and its length counts. */
static socklen_t name_of(int64_t pid, struct sockaddr_un *out) {
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "libpar-%lld", (long long)pid);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static void send_all(int fd, const char *data, size_t n) {
    while (n > 0) {
        ssize_t k = send(fd, data, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return;
        data += k;
        n -= (size_t)k;
    }
}

/* Whoever does not read must not hold the thread. */
static void serve(par_attach *a, int fd) {
    const struct timeval patience = {.tv_sec = 1};
    struct ucred peer = {0};
    socklen_t n = sizeof peer;
    char *text = NULL, sign = REFUSED;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid()) {
        text = a->answer(a->user);
        sign = text ? ANSWERED : NOTHING;
    }
    send_all(fd, &sign, 1);
    if (text) send_all(fd, text, strlen(text));
    free(text);
    close(fd);
}

static void *run(void *user) {
    par_attach *a = user;
    struct pollfd fds[2] = {{.fd = a->listener, .events = POLLIN},
                            {.fd = a->stop, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return NULL;
        if (fds[1].revents) return NULL;
        if (!(fds[0].revents & POLLIN)) continue;
        int fd = accept4(a->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) serve(a, fd);
    }
}

static void release(par_attach *a) {
    if (a->listener >= 0) close(a->listener);
    if (a->stop >= 0) close(a->stop);
    free(a);
}

par_status par_attach_create(char *(*answer)(void *user), void *user, par_attach **out) {
    PAR_REQUIRE(answer && out);
    par_attach *a = malloc(sizeof *a);
    if (!a) PAR_FAIL(PAR_ERR_MEMORY, "no host memory to be asked");
    *a = (par_attach){.listener = -1, .stop = -1, .answer = answer, .user = user};
    struct sockaddr_un name;
    socklen_t n = name_of(getpid(), &name);
    par_status st = PAR_OK;
    a->stop = eventfd(0, EFD_CLOEXEC);
    a->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (a->stop < 0 || a->listener < 0 || bind(a->listener, (struct sockaddr *)&name, n) != 0 ||
        listen(a->listener, 4) != 0)
        st = par_error_set(PAR_ERR_IO, "no local socket to be asked by: %s", strerror(errno));
    int error = st == PAR_OK ? par__thread_start(&a->thread, run, a) : 0;
    if (error) st = par_error_set(PAR_ERR_MEMORY, "no thread to be asked: %s", strerror(error));
    if (st == PAR_OK)
        *out = a;
    else
        release(a);
    return st;
}

void par_attach_destroy(par_attach **handle) {
    par_attach *a = handle ? *handle : NULL;
    const uint64_t one = 1;
    if (!a) return;
    if (write(a->stop, &one, sizeof one) == (ssize_t)sizeof one) {
        pthread_join(a->thread, NULL);
        release(a);
    }
    *handle = NULL;
}

static par_status connect_to(int64_t pid, int *out) {
    struct sockaddr_un name;
    struct ucred peer = {0};
    socklen_t n = name_of(pid, &name), size = sizeof peer;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = fd >= 0 && connect(fd, (struct sockaddr *)&name, n) == 0;
    if (connected && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
        peer.pid == pid && peer.uid == geteuid()) {
        *out = fd;
        return PAR_OK;
    }
    if (fd >= 0) close(fd);
    if (connected)
        PAR_FAIL(PAR_ERR_ARG, "process %d of user %lld took the name of process %lld",
                 (int)peer.pid, (long long)peer.uid, (long long)pid);
    PAR_FAIL(PAR_ERR_ARG,
             "process %lld answers nobody: it is not a rank of a training, or one that has not "
             "begun its first step, or has ended its last one",
             (long long)pid);
}

/* Everything up to the end of the connection, a 0 behind it. */
static par_status receive(int fd, int64_t pid, double timeout_s, char **text, size_t *n) {
    double end = par__seconds() + timeout_s;
    size_t room = 1 << 16;
    *n = 0;
    *text = malloc(room);
    if (!*text) PAR_FAIL(PAR_ERR_MEMORY, "no host memory for an answer");
    for (;;) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        double left = end - par__seconds();
        if (left <= 0 || poll(&one, 1, (int)(1e3 * left) + 1) == 0) break;
        if (*n + 1 == room) {
            char *more = realloc(*text, 2 * room);
            if (!more)
                PAR_FAIL(PAR_ERR_MEMORY, "no host memory for an answer of %zu bytes", 2 * room);
            *text = more;
            room *= 2;
        }
        ssize_t k = recv(fd, *text + *n, room - *n - 1, 0);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) PAR_FAIL(PAR_ERR_IO, "process %lld: %s", (long long)pid, strerror(errno));
        *n += (size_t)k;
        (*text)[*n] = 0;
        if (k == 0) return PAR_OK;
    }
    char state = par__process_state(pid);
    if (state == 'T' || state == 't')
        PAR_FAIL(
            PAR_ERR_IO,
            "process %lld is stopped, by a signal or a debugger, and cannot answer; kill -CONT "
            "%lld lets it go on",
            (long long)pid, (long long)pid);
    PAR_FAIL(PAR_ERR_IO, "process %lld did not answer within %.0f s", (long long)pid, timeout_s);
}

par_status par_attach_ask(int64_t pid, double timeout_s, char **out) {
    int fd = -1;
    char path[64], *text = NULL;
    size_t n = 0;
    struct stat info;
    PAR_REQUIRE(out && timeout_s > 0);
    snprintf(path, sizeof path, "/proc/%lld", (long long)pid);
    if (pid <= 0 || stat(path, &info) != 0)
        PAR_FAIL(PAR_ERR_ARG, "there is no process %lld on this host", (long long)pid);
    if (info.st_uid != geteuid()) {
        const struct passwd *owner = getpwuid(info.st_uid);
        PAR_FAIL(PAR_ERR_ARG,
                 "process %lld is of user %s (%lld); a process can be asked by its own user",
                 (long long)pid, owner ? owner->pw_name : "unknown", (long long)info.st_uid);
    }
    PAR_TRY(connect_to(pid, &fd));
    par_status st = receive(fd, pid, timeout_s, &text, &n);
    close(fd);
    if (st == PAR_OK && (n == 0 || *text != ANSWERED))
        st = par_error_set(PAR_ERR_ARG, "process %lld %s", (long long)pid,
                           n && *text == REFUSED ? "refuses: it is another user's"
                                                 : "had nothing to say; ask again");
    if (st == PAR_OK) {
        memmove(text, text + 1, n);
        *out = text;
        return PAR_OK;
    }
    free(text);
    return st;
}
