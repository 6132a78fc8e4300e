/* The engine below the store: makes batches of row changes durable, and gives all rows back when it is
 * opened. Narrow on purpose, so that another engine can stand beside SQLite. One thread at a time. */
#pragma once
#include "schema.h"
#include <db/store.h>

struct engine_change {
    const struct class_desc *cls;
    struct ref ref;
    const struct row *row; /* NULL: deleted */
    bool generation_only;  /* the row's columns are as they were: only its generation is new */
};

/* Each row occurs once. */
struct engine_batch {
    const struct engine_change *changes;
    size_t count;
    const struct store_tombstone *tombstones;
    size_t tombstone_count;
    uint64_t forget_to; /* tombstones up to this generation are dropped */
    uint64_t undo_from; /* not 0: tombstones from this generation on are leftovers of a batch whose end was
                           unknown; they go before those of this batch are added */
    uint64_t reserve;   /* generations below this may be handed out from now on */
    bool lazy;          /* need not be synced: it is enough that it survives this process */
};

enum engine_result {
    ENGINE_DURABLE,
    ENGINE_NOT_APPLIED, /* certainly not */
    ENGINE_UNKNOWN,     /* the medium failed in the middle of the commit, and again when it was looked at */
};

/* Takes what is loaded. Called by one thread at a time, though not always by the same. */
struct engine_sink {
    void *arg;
    void (*rows)(void *arg, struct row *const *rows, size_t count); /* the counts move */
    void (*tombstone)(void *arg, const struct store_tombstone *gone);
};
struct engine_meta {
    bool fresh;       /* nothing was there before */
    bool same_boot;   /* the machine has not been started anew since the file was opened last */
    uint64_t reserve; /* of the last batch that had one */
    uint64_t oldest_token;
    uint64_t newest; /* not 0: this is an older copy of what had come so far, in numbers like `reserve` */
};

struct engine;
struct engine_ops {
    /* Called once, first. The schema is borrowed for the life of the engine. Rows that were handed out
     * before a failure belong to the sink. */
    int (*load)(struct engine *engine, const struct schema *schema, const struct engine_sink *sink,
                struct engine_meta *meta, struct store_err *err);
    enum engine_result (*apply)(struct engine *engine, const struct engine_batch *batch,
                                struct store_err *err);
    /* Bytes on disk; any thread, also during the other calls. */
    uint64_t (*size)(struct engine *engine);
    void (*close)(struct engine *engine);
};
struct engine {
    const struct engine_ops *ops;
};

/* Memory only: nothing is there, everything succeeds. */
struct engine *engine_memory_new(void);
/* A change of the tables that cannot be told from the model (a column renamed, values rewritten): runs
 * when a file of an older schema version is opened. New tables and columns need none. */
struct migration {
    int version; /* of the schema that it leads to */
    const char *sql;
};
struct sqlite_options {
    const char *vfs;                    /* SQLite's layer for files; NULL: the usual one */
    const struct migration *migrations; /* in order of their versions; NULL: those of db/migrations */
    size_t migration_count;
};
/* Locks the file and opens it; makes an empty one if there is none. `options` may be NULL. */
int engine_sqlite_open(struct engine **out, const char *path, const struct sqlite_options *options,
                       struct store_err *err);
extern const struct migration store_migrations[];
extern const size_t store_migration_count;
/* store_open with an engine that is open already; it is closed with the store, or when this fails. */
int store_open_engine(struct store **out, const struct store_config *config, struct engine *engine,
                      struct store_err *err);

/* Fills *err; returns -1. */
int store_err_set(struct store_err *err, enum store_errno code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
