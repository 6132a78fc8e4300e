/* The QEMU Machine Protocol over one connected socket (docs/interop/qmp-spec in QEMU's source). Commands
 * are sent from any thread and wait for their reply; the loop's thread reads. What the device model says is
 * not trusted: lines are bounded, and anything that is not the protocol ends the connection. */
#pragma once
#include <hv/driver.h>
#include <io/loop.h>
#include <jansson.h>

#define QMP_LINE_MAX (4 * 1024 * 1024)

struct qmp;

struct qmp_callbacks {
    /* Loop thread, no lock held. `data` is borrowed and may be NULL. */
    void (*event)(void *arg, const char *name, const json_t *data);
    /* Once, when the connection is lost or broken, `why` for the log. Loop thread. Call qmp_free then or
     * later. */
    void (*lost)(void *arg, const char *why);
    void *arg;
};

/* Takes over `fd` (made non-blocking) and negotiates. Never NULL. */
struct qmp *qmp_new(struct loop *loop, int fd, const struct qmp_callbacks *callbacks);
/* Loop thread. Ends the connection: commands that wait fail, as do later ones; no callback comes any more.
 * Gives back the count of qmp_new. NULL is allowed. */
void qmp_close(struct qmp *qmp);
/* A count keeps the struct, not the connection. Any thread. */
struct qmp *qmp_ref(struct qmp *qmp);
void qmp_unref(struct qmp *qmp);

/* Sends `command` with `arguments` (borrowed, may be NULL) and, unless -1, a descriptor beside it (stays the
 * caller's). Waits for the reply. *result (may be NULL) is the caller's to decref. Errors: DEVICE_MODEL with
 * what QEMU said, DEADLINE, CANCELLED. Not on the loop's thread. */
int qmp_execute(struct qmp *qmp, const char *command, json_t *arguments, int fd,
                const struct hv_deadline *deadline, json_t **result, struct hv_err *err);
/* Is the connection over? Then a command failed for that, and later ones will. Any thread. */
bool qmp_is_lost(struct qmp *qmp);
/* Sends and does not wait; a failure is logged. Any thread. */
void qmp_send(struct qmp *qmp, const char *command, json_t *arguments);
