/* Why something is refused or does not go on, and what would change that: read from the same rules that
 * refuse it. Any thread; nothing is changed. */
#pragma once
#include <db/store.h>
#include <jansson.h>
#include <model/error.h>

struct server;

/* {"class", "uuid", "name", "operation", "allowed", "reasons": [{"code", "params", "message", "change"}]} for
 * an object (uuid or reference) and an operation as its current_operations name it. All reasons that hold
 * now. NULL with HANDLE_INVALID or INVALID_VALUE. */
json_t *why_operation(struct server *server, const char *cls, const char *object, const char *operation,
                      struct api_err *err);
/* The reasons alone, as above; what refuses the operation (index in the enum of the class's
 * current_operations) on the row now. One reason from its error. */
json_t *why_reasons(struct tx *tx, const struct row *row, int operation);
json_t *why_reason(const struct api_err *err);
/* {"uuid", "name", "status", "progress", "reasons": [...], "waits_for": {"class", "uuid", "name"} or null}
 * for a task (uuid or reference). */
json_t *why_task(struct server *server, const char *task, struct api_err *err);
