/* Messages of the pool ("alerts"): something happened that a person may want to know. */
#pragma once
#include <db/store.h>
#include <model/alerts.h>
#include <model/rows.h>

/* Adds a message to the transaction: alert_add(tx, ALERT_VM_STARTED, CLS_VM, vm->uuid, "..."); the macro
 * gives name and priority. At most 10,000 are kept. */
void alert_add(struct tx *tx, const char *name, int64_t priority, enum cls cls, const char *obj_uuid,
               const char *body);
