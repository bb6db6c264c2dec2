/*
 * Statuses and errors. Every function that can fail returns a par_status. The first detector
 * records one message with cause and values; callers pass the code on. Nothing here prints, exits
 * or aborts.
 */
#ifndef PAR_STATUS_H
#define PAR_STATUS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grouped by how much is broken: ARG..UNSUPPORTED leave every object usable, TRANSPORT breaks a
 * communicator. */
#define PAR_STATUS_LIST(X)                                                                         \
    X(PAR_OK, "success")                                                                           \
    X(PAR_ERR_ARG, "invalid argument")                                                             \
    X(PAR_ERR_OPTION, "invalid option")                                                            \
    X(PAR_ERR_LAYOUT, "impossible layout")                                                         \
    X(PAR_ERR_FORMAT, "malformed file")                                                            \
    X(PAR_ERR_IO, "input or output failed")                                                        \
    X(PAR_ERR_MEMORY, "out of memory")                                                             \
    X(PAR_ERR_UNSUPPORTED, "not supported")                                                        \
    X(PAR_ERR_NUMERIC, "non-finite numbers")                                                       \
    X(PAR_ERR_STOPPED, "stopped by request")                                                       \
    X(PAR_ERR_TRANSPORT, "communication failed")                                                   \
    X(PAR_ERR_INTERNAL, "a defect in libpar")

#define PAR_STATUS_ENUM(name, text) name,
typedef enum { PAR_STATUS_LIST(PAR_STATUS_ENUM) PAR_STATUS_COUNT } par_status;
#undef PAR_STATUS_ENUM

/** Name of the class of error, "invalid argument"; never NULL. Not collective. */
const char *par_status_text(par_status status);

/** The message that the first detector recorded on this thread; "" if there was none. Not
 * collective. */
const char *par_error(void);

/** Record a message (printf form) and return `status`. Not collective. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
par_status
par_error_set(par_status status, const char *format, ...);

/** Several problems collected before one refusal, so that a user sees all of them at once. */
typedef struct {
    int n;           /* problems added so far */
    char text[6144]; /* one line each */
} par_problems;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void par_problem(par_problems *problems, const char *format, ...);

/** PAR_OK if there are none, else par_error_set(status) with all of them. Not collective. */
par_status par_problems_status(const par_problems *problems, par_status status);

#define PAR_FAIL(status, ...) return par_error_set((status), __VA_ARGS__)
#define PAR_TRY(call)                                                                              \
    do {                                                                                           \
        par_status par_try_ = (call);                                                              \
        if (par_try_ != PAR_OK) return par_try_;                                                   \
    } while (0)
/* For a function with `par_status st` and cleanup labels. */
#define PAR_TRY_GOTO(call, label)                                                                  \
    do {                                                                                           \
        st = (call);                                                                               \
        if (st != PAR_OK) goto label;                                                              \
    } while (0)
/* At public entries: what the caller must guarantee. */
#define PAR_REQUIRE(cond)                                                                          \
    do {                                                                                           \
        if (!(cond)) return par_error_set(PAR_ERR_ARG, "%s: requires %s", __func__, #cond);        \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
