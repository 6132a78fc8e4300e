/* An engine that fails on demand, around another one. */
#pragma once
#include "engine.h"
#include <stdatomic.h>

enum fault {
    FAULT_NONE,
    FAULT_DISK_FULL, /* nothing is written */
    FAULT_IO,        /* the same, as an I/O error */
    FAULT_LOST,      /* "unknown", and nothing was written */
    FAULT_WRITTEN,   /* "unknown", and everything was written */
};

struct fault_control {
    _Atomic int next;    /* enum fault of the next apply, and of all after it until it is changed */
    _Atomic int applied; /* calls so far */
    _Atomic int lazy;    /* of them, those that need not be synced */
    _Atomic bool hold;   /* apply waits while this is set */
    _Atomic int waiting;
};

/* `inner` moves in; `control` is borrowed. */
struct engine *fault_engine_new(struct engine *inner, struct fault_control *control);
