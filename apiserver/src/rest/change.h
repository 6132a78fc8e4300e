/* Between the files of changes. */
#pragma once
#include "internal.h"

/* "?wait=30s", "?wait=30" into r->wait_until_ms. False: answered. */
bool change_read_wait(struct rest *r);
/* Answers with what becomes of r->task, or with the task itself when the wait is over; ends with rest_done.
 */
void change_await(struct rest *r);

/* Idempotency-Key: the key is a note in the task that the first request with it made, so it is honoured as
 * long as the task is kept (an hour after its end), over restarts too. */
enum key_state {
    KEY_NEW,     /* go on; release it when the answer was given */
    KEY_SEEN,    /* r->task is what the first request made */
    KEY_REFUSED, /* answered: the key belongs to another request, or the first one is just beginning */
};
enum key_state idempotency_begin(struct rest *r);
/* For a message that is no task: a key is refused. */
enum key_state idempotency_not_here(struct rest *r);
void idempotency_release(struct rest *r);
