/* The host's own system, as far as the pool sets it: SSH, idle shells, time servers, time zone, clock, sleep
 * states of processors, the machine's screen, where logs go, IGMP on bridges. Each is a row of a table
 * (system/parts.c): files below `root`, and fixed programs with argument vectors. What was set is noted in a
 * file and put in place again by the next open. SSH that is open for a limited time, or while the pool's
 * server is silent, is looked after by one thread.
 *
 * Any thread; one change at a time. int functions give 0, or -1 with *err: UNSUPPORTED when this system has
 * no such thing, BAD_ARGUMENT, IO. */
#pragma once
#include <hv/err.h>
#include <hv/types.h>

struct hv_system;

/* Borrowed for the life of the system. */
struct hv_system_env {
    const char *state_file; /* where settings are noted */
    const char *root;       /* the system's root folder; NULL: nothing but bridges of ours may be changed */
    const char *tools;      /* folder of the programs; NULL: those of the system */
    bool simulated; /* `root` is filled with a model, and programs are noted in its file "ran" instead of run
                     */
    int64_t silence_s; /* with ssh_auto: the server is missing after so long */
    /* Called on a thread of the system, without its lock: it has changed a setting by itself. */
    void (*changed)(void *ctx);
    void *ctx;
};

int hv_system_open(const struct hv_system_env *env, struct hv_system **out, struct hv_err *err);
/* NULL is allowed. The host stays as it is. */
void hv_system_close(struct hv_system *sys);
/* `out` is uninitialised. */
void hv_system_settings(struct hv_system *sys, struct system_settings *out);
/* Looks at the members of that part alone. After a failure the note is as before. */
int hv_system_set(struct hv_system *sys, enum system_part part, const struct system_settings *wanted,
                  struct hv_err *err);
/* A bridge of guests was made: it gets what applies to all. */
void hv_system_bridge_made(struct hv_system *sys, const char *bridge);
/* In order; *zones is a counted set. */
int hv_system_timezones(struct hv_system *sys, const struct str_set **zones, struct hv_err *err);
/* BAD_STATE while time servers set it. */
int hv_system_clock_set(struct hv_system *sys, int64_t unix_s, struct hv_err *err);
/* *servers is counted. */
int hv_system_clock_status(struct hv_system *sys, bool *synchronized, const struct str_map **servers,
                           struct hv_err *err);
/* The pool's server has called. Cheap. */
void hv_system_heard(struct hv_system *sys);
