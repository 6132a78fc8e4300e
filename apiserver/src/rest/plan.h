/* Plans: what a change would do, and doing exactly that later. Between the files of plans. */
#pragma once
#include "../gate/patch.h"
#include "../gate/rehearsal.h"
#include "../plan/placement.h"
#include "../refusals.h"
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
    struct ref asks; /* the host whose agent is asked next; null: none was got to */
    bool whole;      /* all that the change would check was checked */
    bool unkept;     /* the request itself does it: it has more than a plan keeps */
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
/* A reason why it would be refused; `row`: where (NULL: nowhere in particular). Told once. */
void plan_refused(struct plan *p, const struct row *row, const struct api_err *err);
/* For functions that tell all their reasons: those of the plan, about nothing in particular. */
struct refusals plan_refusals(struct plan *p);
/* So many bytes on the SR. */
void plan_needs_space(struct plan *p, struct ref sr, int64_t bytes);
/* {"class", "uuid", "name"} */
json_t *plan_name(const struct row *row);

/* A row of the plan's snapshot, which the plan rests on from now on; NULL: it is not there. */
const struct row *plan_row(struct plan *p, const struct class_desc *cls, struct ref ref);
/* The VM that the message is about, its first parameter. */
const struct vm_row *plan_vm(struct plan *p);
/* Calls fn for each disk that is in a drive of the VM. */
void plan_each_disk(struct plan *p, const struct vm_row *vm,
                    void (*fn)(struct plan *p, const struct vbd_row *vbd, const struct vdi_row *vdi));

/* What the call would do, step by step: fills *p, or leaves it when only its class of message is known. */
void plan_detail(struct plan *p);

/* plan_changes.c: what the calls of a rehearsal have changed, row by row. */
void plan_changes(struct plan *p, struct rehearsal *rehearsal);

/* plan_start.c: of these messages. */
void plan_start(struct plan *p);
void plan_start_on(struct plan *p);
void plan_resume(struct plan *p);
void plan_resume_on(struct plan *p);
/* All that keeps the VM off this host. */
void plan_host_refusals(struct plan *p, const struct placement *asked, struct ref host);
