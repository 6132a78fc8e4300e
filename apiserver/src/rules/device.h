/* Which operations devices and storage allow: VBD, VIF, VDI, SR, host and the rest of the classes that have
 * allowed_operations. Within a transaction; no I/O. The rules of VBDs and VIFs are in device.c, those of VDIs
 * and SRs in disk.c, those of hosts in host.c. */
#pragma once
#include "../refusals.h"
#include <base/mem.h>
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>

/* 0, or -1 with the first reason against the operation now, what runs on the object included. */
int device_operation_check(struct tx *tx, const struct row *row, int operation, struct api_err *err);
/* All that refuses it, one by one, in the order in which the check would find it. */
void device_operation_refusals(struct tx *tx, const struct row *row, int operation,
                               const struct refusals *all);
/* The set for allowed_operations, of those in `among` (a bit each). */
uint64_t device_operations_allowed(struct tx *tx, const struct row *row, uint64_t among);

/* ---- between the files of these rules: `all` NULL for the first reason alone (refusals.h) ---- */

int vdi_operation_check(struct tx *tx, const struct vdi_row *vdi, enum vdi_operations op,
                        const struct refusals *all, struct api_err *err);
int sr_operation_check(struct tx *tx, const struct sr_row *sr, enum storage_operations op,
                       const struct refusals *all, struct api_err *err);
int host_operation_check(struct tx *tx, const struct host_row *host, enum host_allowed_operations op,
                         const struct refusals *all, struct api_err *err);
/* OTHER_OPERATION_IN_PROGRESS [class, ref, operation, task]. -1. */
int operation_in_the_way(struct api_err *err, const struct row *row, const struct str_pair *running);
/* The VDI may be attached through this VBD beside those that have it: VDI_NOT_MANAGED,
 * OTHER_OPERATION_IN_PROGRESS, VDI_IN_USE, VDI_READONLY. */
int vbd_sharing_check(struct tx *tx, const struct vbd_row *vbd, struct api_err *err);
/* An upload in parts is under way (handlers/vdi_upload.h). */
static inline bool vdi_upload_is_open(const struct vdi_row *vdi)
{
    const char *state = str_map_get(vdi->upload, "state");
    return state && !streq(state, "done");
}
