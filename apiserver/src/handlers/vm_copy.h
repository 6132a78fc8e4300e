/* A VM made from another one: clone, copy, snapshot and checkpoint differ in how the disks are made and in
 * what the new row says of itself. */
#pragma once
#include "disk_copies.h"

enum vm_copy_kind { VM_COPY_CLONE, VM_COPY_FULL, VM_COPY_SNAPSHOT, VM_COPY_CHECKPOINT };

struct vm_copy {
    struct call *call;
    enum vm_copy_kind kind;
    struct ref sr;                /* VM_COPY_FULL: where the disks go; null: each in its own SR */
    const struct ref_set *ignore; /* VM_COPY_SNAPSHOT: VDIs that are left out, their VBDs too */
};

/* Makes the copy and its row. Nothing stays after a failure. */
int vm_copy(const struct vm_copy *how, const struct vm_row *source, const char *name, struct ref *result,
            struct api_err *err);

/* ---- for revert, which makes the disks and devices of a VM from those of its snapshot ---- */

struct vm_drive {
    struct ref vbd;
    bool copied;
    size_t index;    /* in the disk copies */
    struct ref made; /* its new VDI, once recorded */
};
struct vm_drives {
    struct disk_copies disks;
    struct vm_drive *items;
    size_t count;
    bool has_memory;
    size_t memory; /* index of the copy of suspend_VDI */
};
void vm_drives_init(struct vm_drives *drives, struct call *call);
/* Notes every drive of the VM: disks to be copied, CDs to be shared, and its saved memory if it has one. */
int vm_drives_add(struct vm_drives *drives, const struct vm_row *vm, struct ref sr,
                  const struct ref_set *ignore, struct api_err *err);
/* Rows of the VM's new drives, and *memory (null: none). `snapshots`: the new disks are snapshots of their
 * sources. */
int vm_drives_record(struct vm_drives *drives, struct tx *tx, struct ref vm, bool snapshots, bool attached,
                     struct ref *memory, struct api_err *err);
void vm_drives_done(struct vm_drives *drives, bool kept);
/* VIFs of `source` again, for `vm`. `keep_addresses`: the same VM in another life. */
void vm_copy_vifs(struct tx *tx, const struct snapshot *snap, const struct vm_row *source, struct vm_row *vm,
                  bool keep_addresses);
/* A new generation_id: by it the guest notices that it was copied or turned back. */
void vm_new_generation(struct vm_row *vm);
