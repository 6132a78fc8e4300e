/* An operation of the agent: a call that acts, by an id under which it acts once; and its record, the line
 * that the journal keeps of it. */
#pragma once
#include "journal.h"
#include <hv/calls.h>
#include <hv/driver.h>
#include <stdatomic.h>

struct agent_op {
    _Atomic int refs;
    char id[UUID_TEXT_SIZE], key[UUID_TEXT_SIZE];
    const struct hv_call_desc *call;
    void *args;
    char *args_text; /* JSON */
    _Atomic bool cancel;
    struct hv_deadline deadline;
    int64_t deadline_unix;
    struct journal_place place;
    /* Under ops.lock once it is known to others. */
    enum operation_state state;
    double progress;
    char *result_text; /* JSON, when done */
    struct hv_err err; /* when failed */
    int64_t started, finished;
    struct agent_op *next_in_queue, *next_in_table;
};

/* Queued, with a count for the caller. `args` (heap, of call->args) moves. A timeout that is none, or more
 * than ten times the call's own, is the call's own. */
struct agent_op *agent_op_new(const char *id, const struct hv_call_desc *call, void *args,
                              int64_t timeout_ms);
struct agent_op *agent_op_ref(struct agent_op *op);
/* NULL is allowed. */
void agent_op_unref(struct agent_op *op);
/* Done or failed. */
bool agent_op_is_over(const struct agent_op *op);

/* Appends its record as it stands now, a line. */
void agent_op_write(const struct agent_op *op, struct buf *text);
/* From a record without the end of its line; one that was running is queued again, with 10 s at least. NULL:
 * it is none. */
struct agent_op *agent_op_read(const char *text, size_t len);
