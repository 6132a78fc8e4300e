/* Calls on many objects in an order: those of the same place at once, the next ones when they are done and a
 * delay is over. The calls go through the gate in a session's name, like those of any client. No thread is
 * held. */
#pragma once
#include <base/ref.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct call;
struct server;
struct session;
struct sequence;

struct sequence_step {
    struct ref object;
    const char *message; /* "VM.start"; static */
    int64_t order;       /* lower ones first */
    int64_t delay_s; /* what follows waits so long after this one is done; the longest of a place counts */
};

struct sequence_result {
    size_t done, failed, left_out; /* left_out: not begun after a cancellation, or while the server stops */
    const char *first_code;        /* of the first that failed; "": none */
};

struct sequence_spec {
    struct server *server;
    struct session *session; /* counted anew */
    struct ref task;         /* parent of the calls' tasks, and told of the progress; null: none */
    const _Atomic bool
        *cancel;      /* stops it, and the calls that run; valid until `done` is called. NULL: never */
    const char *peer; /* for the log and the audit trail */
    /* Parameters of a step's call after the session, decided when it is its turn. NULL: nothing is left to do
     * for it. */
    json_t *(*params)(void *arg, const struct sequence_step *step);
    /* Called once, on any thread; must not wait long. */
    void (*done)(void *arg, const struct sequence_result *result);
    void *arg;
};

/* In the name of a call that another thread ends (call.take_over): with its session, task and cancellation.
 */
struct sequence_spec sequence_spec_of(const struct call *call);

/* What ended a call's sequence before all was tried. -1 with the call's error set: the call was cancelled
 * (TASK_CANCELLED) or the server stops; 0: nothing. */
int sequence_cut_short(struct call *call, const struct sequence_result *result);

/* Takes a copy of the steps, in any order. */
void sequence_start(const struct sequence_spec *spec, const struct sequence_step *steps, size_t count);
