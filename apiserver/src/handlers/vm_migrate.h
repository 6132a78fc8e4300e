/* Running VMs that go to other hosts of the pool, and disks that move under them.
 *
 * A disk that moves has two VDIs for a while: the new one is made first and says in its sm_config which one
 * it is to replace, and for which VM. So whatever dies on the way, whoever learns where the VM runs
 * (hosts/reconcile.c, hosts/recover.c) knows which of the two is the VM's disk. */
#pragma once
#include "../server.h"
#include <hv/domain.h>
#include <model/rows.h>

/* In the transaction: the VM runs on `host` now, with the disks that came along. */
void vm_migrate_arrived(struct tx *tx, struct ref vm, struct ref host, const struct domain_info *info);
/* In the transaction: the new disks take the place of the old ones, which go with the next sweep of their SR;
 * or the new ones go. The VDI that replaced `old`; null: none. */
struct ref vm_migrate_take_disks(struct tx *tx, struct ref vm, struct ref old);
void vm_migrate_drop_disks(struct tx *tx, struct ref vm);

/* Removes the disks that the VM had in `before`, or that were made for it, and that are no VDIs any more.
 * Blocks. */
void vm_migrate_sweep(struct server *server, const struct snapshot *before, struct ref vm);

/* A disk that goes to another SR with its VM, or under it. */
struct moving_disk {
    const struct vbd_row *vbd; /* of the call's snapshot */
    const struct vdi_row *vdi;
    struct ref sr;   /* where to */
    struct ref made; /* the new VDI */
};
struct journey {
    const struct vm_row *vm;
    struct ref host;
    struct moving_disk *disks;
    size_t count;
    const struct str_map *networks; /* VIF -> network, as references; NULL: all stay */
};
void journey_done(struct journey *journey);
#define AUTO_JOURNEY __attribute__((cleanup(journey_done)))
/* Moves the VM, which runs. The operation is marked. */
int vm_migrate(struct call *call, const struct journey *journey, struct api_err *err);
/* Moves one disk of a running VM on its host; *result is the new VDI. */
int vm_migrate_disk(struct call *call, const struct journey *journey, struct ref *result,
                    struct api_err *err);
/* What has to be true before: HOST_NOT_LIVE and the others of a start there, without the disks that come
 * along. */
int vm_migrate_check(struct call *call, const struct journey *journey, struct api_err *err);
