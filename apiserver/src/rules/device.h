/* Which operations devices and storage allow: VBD, VIF, VDI, SR and the rest of the classes that have
 * allowed_operations. Within a transaction; no I/O. */
#pragma once
#include <db/store.h>
#include <model/error.h>

/* What else than "one at a time" speaks against the operation now. 0, or -1 with the reason. */
int device_operation_check(struct tx *tx, const struct row *row, int operation, struct api_err *err);
/* The set for allowed_operations. */
uint64_t device_operations_allowed(struct tx *tx, const struct row *row);
