/* The archives of all objects that are measured, in memory and in files: DIR/rrd/vm-<uuid>.rrd and so on.
 *
 * One lock guards the table and all archives: writers (samples) hold it for microseconds, readers as long as
 * an answer is written. Files are read and written one at a time: each archive every quarter of an hour,
 * spread evenly, so a crash costs at most that much of its past and a thousand VMs cost 200 KiB a second.
 * What is no longer sampled (a VM that halted) is saved and leaves the memory. */
#pragma once
#include "../rrd/rrd.h"
#include "samples.h"
#include <base/ref.h>
#include <pthread.h>

enum meter_kind { METER_VM, METER_HOST, METER_SR };
#define METER_KINDS 3
/* "vm", "host", "sr": in file names and legends. */
const char *meter_kind_name(enum meter_kind kind);

/* Guarded by the lock of its table. */
struct meter {
    struct meter *next; /* in its bucket */
    enum meter_kind kind;
    char uuid[UUID_TEXT_SIZE];
    struct rrd *rrd;
    struct samples latest;     /* of the last moment, also of what is not kept */
    bool dirty;                /* not saved since the last sample */
    double saved;              /* unix seconds */
    struct domain_look domain; /* METER_VM */
    struct host_look host;     /* METER_HOST */
};

struct meters;
/* Makes the folder. Never NULL: without a folder nothing is kept, after logging why. */
struct meters *meters_new(const char *dir);
void meters_free(struct meters *m);

void meters_read_lock(struct meters *m);
void meters_write_lock(struct meters *m);
void meters_unlock(struct meters *m);

/* With the lock held. NULL: not in memory. */
struct meter *meters_find(struct meters *m, enum meter_kind kind, const char *uuid);
/* With the write lock held: from memory, else from its file, else new ones that begin at `time`. */
struct meter *meters_get(struct meters *m, enum meter_kind kind, const char *uuid, double time);
/* With the write lock held: takes over the samples of one moment. */
void meter_sample(struct meter *meter, double time, struct samples *moved);
/* With the lock held: all in memory, in no order. */
void meters_each(struct meters *m, void (*fn)(struct meter *meter, void *arg), void *arg);

/* With no lock held: a copy from the file; NULL: there is none. The caller frees. */
struct rrd *meters_load(struct meters *m, enum meter_kind kind, const char *uuid);
/* With no lock held. Writes what is due at `now` (unix seconds), or all that changed. False: a file could not
 * be written. One call at a time. */
bool meters_save(struct meters *m, double now, bool all);
/* With no lock held: drops what belongs to no object any more, files included. */
void meters_sweep(struct meters *m, bool (*exists)(enum meter_kind kind, const char *uuid, void *arg),
                  void *arg);
