/* The messages that follow from the fields of a class: getters, setters, records, look-ups. Driven by the
 * tables; no class is named here. */
#pragma once
#include "../server.h"

/* True if `method` is served here. */
bool generic_serves(const struct method_desc *method);
/* Reads: never block. */
int generic_read(struct call *call, const void *args, struct api_err *err);
/* Writes: makes the change in a transaction, which the caller has to commit; -1: it is aborted. */
int generic_edit(struct tx *tx, struct call *call, const void *args, struct api_err *err);
/* The same in one of its own, and blocks until it is durable. */
int generic_write(struct call *call, const void *args, struct api_err *err);
/* True if the message is one of these. */
bool generic_writes(const struct method_desc *method);
/* A setter, add, remove or destroy within a transaction of the caller's. */
int generic_change(struct tx *tx, const struct method_desc *method, const void *args, struct api_err *err);
/* Copies what a constructor's record gives into a new row; its references have to name something. */
int generic_fill(struct tx *tx, struct row *row, const struct row *record, struct api_err *err);
