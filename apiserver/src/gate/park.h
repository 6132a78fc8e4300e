/* Calls that wait for another operation to end. They hold no thread: one thread looks at all of them when
 * something was published, and gives those whose obstacle has changed back to the workers. Any thread. */
#pragma once
#include <base/ref.h>
#include <model/model.h>
#include <stdbool.h>
#include <stdint.h>

struct parking;
struct server;
struct call;

struct parking *parking_new(struct server *server);
/* Wakes all that wait and refuses further ones; then joins the thread. The workers still run. */
void parking_stop(struct parking *parking);
/* After parking_stop. */
void parking_free(struct parking *parking);

/* What a call waits for. */
struct parked {
    struct call *call;
    void (*resume)(void *call);   /* on a worker */
    const struct class_desc *cls; /* the object that is busy: of this class... */
    struct ref object;
    uint64_t generation; /* ...in the version that was looked at */
    int64_t until_ms;    /* clock_mono_ms; then it is woken in any case */
};
/* resume(call) is called once: when the object has changed or is gone, when the call's cancel flag is set, at
 * the end of the time, or when the server stops. False: the server is stopping, and it is not called. */
bool parking_add(struct parking *parking, const struct parked *parked);
/* What the call of this task waits for. False: it does not wait. */
bool parking_find(struct parking *parking, struct ref task, const struct class_desc **cls,
                  struct ref *object);
