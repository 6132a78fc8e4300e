/* Operations on objects: is one allowed now, mark and unmark it, and keep allowed_operations true. The rules
 * of each class are in files of their own; what they share is here. Within a transaction; no I/O. */
#pragma once
#include "../refusals.h"
#include <db/store.h>
#include <model/error.h>

struct server;

/* 0 if `operation` (index into the enum of the class's current_operations) may begin on the object;
 * -1 with the reason, HANDLE_INVALID when there is no such object. */
int operation_check(struct tx *tx, const struct class_desc *cls, struct ref object, int operation,
                    struct api_err *err);
/* All that refuses it, one by one; nothing when there is no such object. */
void operation_refusals(struct tx *tx, const struct row *row, int operation, const struct refusals *all);
void operation_mark(struct tx *tx, const struct class_desc *cls, struct ref object, struct ref task,
                    int operation);
void operation_unmark(struct tx *tx, const struct class_desc *cls, struct ref object, struct ref task);
/* As the wire names it. */
const char *operation_name(const struct class_desc *cls, int operation);
/* Index in the enum of the class's operations; -1: no such operation. */
int operation_find(const struct class_desc *cls, const char *name);
/* Something runs on the object that `operation` outranks. */
bool operation_overrules(const struct snapshot *snap, const struct class_desc *cls, struct ref object,
                         int operation);
/* Cancels what runs on the object when `operation` outranks it (hard_shutdown over clean_shutdown). */
void operation_interrupt(struct server *server, const struct class_desc *cls, struct ref object,
                         int operation);
/* Recomputes allowed_operations of the row if it has them. Called for every changed row before a commit. */
void operations_refresh(struct tx *tx, const struct class_desc *cls, struct ref object);
/* The same in place, for tx_settle. */
void operations_settle(struct tx *tx, struct row *row, void *arg);
/* The same for a changed row and for those whose operations follow from it: for tx_each_touched. */
void operations_refresh_touched(struct tx *tx, const struct class_desc *cls, struct ref ref, void *arg);
