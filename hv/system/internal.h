/* What the files of this folder share. Reading order: system.c (settings, the note, the thread), parts.c (the
 * table of what can be set), ntp.c, tools.c (files below the root, programs), model.c (the simulated system).
 */
#pragma once
#include <base/buf.h>
#include <hv/system.h>
#include <pthread.h>
#include <stdatomic.h>

#define SYSTEM_PARTS (SYSTEM_PART_IGMP_SNOOPING + 1)

struct hv_system {
    struct hv_system_env env;
    pthread_mutex_t change;   /* one change at a time; taken before lock, held across programs */
    bool again[SYSTEM_PARTS]; /* parts that this start has to put in place again; under `change` */
    pthread_mutex_t lock;     /* guards what follows */
    pthread_cond_t news;
    struct system_settings settings;
    bool opened_by_silence; /* SSH is open because the server is silent */
    bool stopping, running;
    pthread_t thread;
    _Atomic int64_t heard_ms; /* clock_mono_ms of the server's last call */
};

/* ---- parts.c ---- */
/* Puts one part in place. With `change` held. */
int system_apply(struct hv_system *sys, enum system_part part, const struct system_settings *s,
                 struct hv_err *err);
/* What that part has is copied from `from`. */
void system_take(enum system_part part, struct system_settings *to, const struct system_settings *from);
/* How a system is set that the pool has not set yet, into initialised settings. */
void system_observe(struct hv_system *sys, struct system_settings *s);
void system_bridge_igmp(struct hv_system *sys, const char *bridge, bool on);
/* A name or address of a machine: nothing that a configuration file or a program could take for something
 * else. */
bool system_machine_ok(const char *name);

/* ---- ntp.c ---- */
int system_apply_ntp(struct hv_system *sys, const struct system_settings *s, struct hv_err *err);

/* ---- tools.c: `path` begins with a slash and is below the root ---- */
/* The caller frees. */
char *system_path(const struct hv_system *sys, const char *path);
bool system_has(const struct hv_system *sys, const char *path);
/* NULL when it cannot be read. The caller frees. */
char *system_read(const struct hv_system *sys, const char *path, size_t max);
/* Whole or not at all; its folder is made. */
int system_write(const struct hv_system *sys, const char *path, const char *text, struct hv_err *err);
/* A switch of the kernel: written in place. */
int system_switch(const struct hv_system *sys, const char *path, const char *text, struct hv_err *err);
/* Success when there is none. */
int system_remove(const struct hv_system *sys, const char *path, struct hv_err *err);
/* Calls each(arg, name) for the entries of a folder whose names begin with `prefix`, until it gives a
 * failure. *seen (may be NULL) counts them. */
int system_each(const struct hv_system *sys, const char *folder, const char *prefix,
                int (*each)(void *arg, const char *name, struct hv_err *err), void *arg, size_t *seen,
                struct hv_err *err);
/* A unit of systemd is there. */
bool system_has_unit(const struct hv_system *sys, const char *unit);
/* Runs a program by its name; -1 when it is missing or fails. `out` (may be NULL) gets what it prints. `argv`
 * ends with NULL. */
int system_run(const struct hv_system *sys, const char *const *argv, struct buf *out, struct hv_err *err);
/* systemctl with these words. */
int system_ctl(const struct hv_system *sys, const char *verb, const char *option, const char *unit,
               struct hv_err *err);

/* ---- model.c ---- */
/* What a simulated host's system has, made at its first start. */
int system_model_make(struct hv_system *sys, struct hv_err *err);
/* A program of the model: noted. */
int system_model_run(const struct hv_system *sys, const char *const *argv, struct hv_err *err);
