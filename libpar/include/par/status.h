/*
 * Statuses and errors. Every function that can fail returns a par_status. The first detector
 * records one message with cause and values; callers pass the code on. Nothing here prints, exits
 * or aborts.
 *
 * How the comments of all public headers are written. First a sentence that says what the function
 * does, then shapes, memory and order where they matter, and at the end two sentences:
 *
 *   Collective: on X   every rank of X calls it, in the same order with X's other collective
 *                      functions, and with equal arguments where nothing else is said.
 *   Not collective.    It exchanges no message.
 *   Errors: ...        each status with its class and "when ..."; none: the function cannot fail.
 *                      Left out everywhere: PAR_ERR_ARG [local] when a pointer is NULL that must
 *                      not be, or an argument is one that the comment rules out.
 *
 * The class of an error says how far it reaches and what the caller can do after it:
 *
 *   [agreed]  All ranks return it, as it depends on what is equal on all of them or was agreed on.
 *             Nobody waits and every object stays usable: correct the call, or give up together.
 *   [local]   This rank alone may return it. Its objects stay usable, but peers that did not fail
 *             may wait for this rank: bring the status to a par_comm_agree that all of them reach,
 *             before any other collective function. Where that is impossible, call
 *             par_transport_abort, so that they return too.
 *   [comm]    The transport is broken, on all ranks: every operation on each of its comms returns
 *             PAR_ERR_TRANSPORT with the first message from now on. The rank that broke it returns
 *             its own status. Destroy what stands on it and end the training, or begin anew on
 *             another transport.
 *
 * In functions that are not collective an error is [local] unless something else is said.
 */
#ifndef PAR_STATUS_H
#define PAR_STATUS_H

#include <stddef.h>

#include "par/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* PAR_ERR_ARG to PAR_ERR_UNSUPPORTED leave every object usable. After PAR_ERR_DEVICE nothing on the
 * device can be used: end the process. PAR_ERR_TRANSPORT is [comm] where nothing else is said. In
 * an agreement the one that stands last here wins. */
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
    X(PAR_ERR_DEVICE, "the device failed")                                                         \
    X(PAR_ERR_TRANSPORT, "communication failed")                                                   \
    X(PAR_ERR_INTERNAL, "a defect in libpar")

#define PAR_STATUS_ENUM(name, text) name,
/* What a function that can fail returns; 0 is success. */
typedef enum { PAR_STATUS_LIST(PAR_STATUS_ENUM) PAR_STATUS_COUNT } par_status;
#undef PAR_STATUS_ENUM

/** What the status means, "invalid argument"; never NULL. Not collective. */
PAR_API const char *par_status_text(par_status status);

/* Room for a message, with its NUL: 8,191 bytes, and what agreements put in front. */
enum { PAR_ERROR_NBYTES = 8192 + 128 };

/** The message that was recorded last on this thread; "" if there was none. Not collective. */
PAR_API const char *par_error(void);

/** Record a message (printf form; cut at PAR_ERROR_NBYTES - 1) and return `status`. Not
 * collective. Errors: `status`. */
PAR_API PAR_PRINTF(2, 3) par_status par_error_set(par_status status, const char *format, ...);

/** Several problems collected before one refusal, so that a user sees all of them at once. */
typedef struct {
    int n;           /* problems added so far */
    char text[6144]; /* one line each */
} par_problems;

/** Add a line (printf form; what does not fit is cut). Not collective. */
PAR_API PAR_PRINTF(2, 3) void par_problem(par_problems *problems, const char *format, ...);

/** PAR_OK if there are none, else `status` with all lines as the message. Not collective. Errors:
 * `status` [agreed] when the problems were found in what is equal on all ranks. */
PAR_API par_status par_problems_status(const par_problems *problems, par_status status);

/* Record a message and return the status from the function. */
#define PAR_FAIL(status, ...) return par_error_set((status), __VA_ARGS__)
/* Return from the function with the status of a call that failed. */
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
/* At public entries, before anything is used: what the caller must guarantee. */
#define PAR_REQUIRE(cond)                                                                          \
    do {                                                                                           \
        if (!(cond)) return par_error_set(PAR_ERR_ARG, "%s: requires %s", __func__, #cond);        \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
