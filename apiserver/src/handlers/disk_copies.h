/* Disks made as copies of others, several at once: all of them get their rows in one transaction, together
 * with what uses them, or none stays. A crash of either side in between leaves nothing: every disk is
 * announced before its agent is asked (storage_announce_disk).
 *
 *     struct disk_copies copies;
 *     disk_copies_init(&copies, call);
 *     disk_copies_add(...) for each, disk_copies_make(...)
 *     tx: disk_copies_record(...) for each; commit
 *     disk_copies_done(&copies, committed);
 */
#pragma once
#include "../refusals.h"
#include "storage.h"

enum copy_kind {
    COPY_THIN, /* at once, sharing data; of disks that a guest writes, of the same instant for each guest */
    COPY_FULL, /* of disks that nobody writes */
};

struct disk_copy {
    const struct vdi_row *source; /* NULL: a new disk */
    struct ref sr;
    char uuid[UUID_TEXT_SIZE];
    bool announced;
    bool maybe;   /* there may be a disk */
    bool made;    /* there is, and `info` is valid */
    bool tracked; /* it is noted which blocks changed */
    struct disk_info info;
    bool have_stats;
    struct sr_stats stats;
};
struct disk_copies {
    struct call *call;
    struct snapshot *snap; /* of disk_copies_init: sources are borrowed from it */
    struct disk_copy *items;
    size_t count;
    bool snapshots; /* that is what they are to be, for a disk whose changed blocks are tracked */
    /* Checkpoint: the memory of this VM goes to items[memory], of the same instant. */
    const struct vm_row *memory_of;
    size_t memory;
    /* COPY_THIN of disks that guests write: freeze their file systems if that is possible. Was it? */
    bool quiesce, quiesced;
};

void disk_copies_init(struct disk_copies *copies, struct call *call);
/* Notes that `vdi` shall be copied into `sr` (null: its own). *index is its place in items. */
int disk_copies_add(struct disk_copies *copies, struct ref vdi, struct ref sr, size_t *index,
                    struct api_err *err);
/* What that has against it, all of it; whether a host reaches both is seen when it is made. */
int disk_copies_check(const struct snapshot *snap, struct ref vdi, struct ref sr, const struct refusals *all,
                      struct api_err *err);
/* Makes an empty disk at once, as one of them. `host` null: by any host. */
int disk_copies_add_new(struct disk_copies *copies, struct ref sr, struct ref host, int64_t size_bytes,
                        enum image_format format, size_t *index, struct api_err *err);
/* Makes all that were added. -1: what was made goes with disk_copies_done. */
int disk_copies_make(struct disk_copies *copies, enum copy_kind kind, struct api_err *err);
/* The row of one, in the transaction; attributes of people come from its source. NULL: its SR is gone. */
struct vdi_row *disk_copies_record(struct disk_copies *copies, struct tx *tx, size_t index);
/* Frees; unless `kept`, what was made is removed. */
void disk_copies_done(struct disk_copies *copies, bool kept);
