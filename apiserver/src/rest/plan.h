/* Plans: what a change would do, and doing exactly that later. Between the files of plans. */
#pragma once
#include "../gate/patch.h"
#include "internal.h"

struct plans; /* those that were told and may be applied: in memory, for ten minutes */

/* One plan in the making. */
struct plan {
    struct rest *rest;
    struct server *server;
    struct snapshot *snap;
    struct call *call; /* prepared, never run: message, session, arguments; NULL: a patch */
    json_t *steps, *reasons, *needs, *where;
    struct ref host; /* where a VM would run; null: does not matter */
    bool whole;      /* all that the change would check was checked */
    struct seen {    /* what it rests on */
        const struct class_desc *cls;
        struct ref ref;
        uint64_t generation;
    } * seen;
    size_t seen_count;
};

/* The plan rests on this row: with another version of it the plan does not hold. NULL: nothing. */
void plan_saw(struct plan *p, const struct row *row);
/* One step, in words; about `row` (NULL: nothing in particular). */
void plan_step(struct plan *p, const struct row *row, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A reason why it would be refused; `row`: where (NULL: nowhere in particular). */
void plan_refused(struct plan *p, const struct row *row, const struct api_err *err);
/* So many bytes on the SR. */
void plan_needs_space(struct plan *p, struct ref sr, int64_t bytes);
/* {"class", "uuid", "name"} */
json_t *plan_name(const struct row *row);

/* What the call would do, step by step: fills *p, or leaves it when only its class of message is known. */
void plan_detail(struct plan *p);
