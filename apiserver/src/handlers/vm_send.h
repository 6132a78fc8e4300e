/* A VM at rest to another pool: its disks are uploaded to new ones there, its metadata is imported, its
 * network cards are made anew, all by that pool's own API with the session that host.migrate_receive gave. */
#pragma once
#include "../server.h"

/* In `dest`: sha256 of the certificate that the server there shows, so that nobody else is taken for it.
 * Without it the certificate has to be one that this pool trusts. */
#define VM_SEND_PIN "corral:certificate"

struct vm_send {
    const struct vm_row *vm;     /* of the call's snapshot */
    const struct str_map *dest;  /* of host.migrate_receive */
    const struct str_map *disks; /* VDI -> SR there, as references */
    const struct str_map *nics;  /* VIF -> network there */
    bool copy;                   /* the VM stays here, too */
};
/* What can be known before: VM_BAD_POWER_STATE, VDI_NOT_IN_MAP, VIF_NOT_IN_MAP, VDI_IN_USE, and what the
 * other pool says of the destination. CANNOT_CONTACT_HOST [host] when it does not answer. Blocks. */
int vm_send_check(struct call *call, const struct vm_send *send, struct api_err *err);
/* Checks and sends; *result is the VM there. Unless it was copied it is gone here, with its disks; when it
 * fails all is as before on both sides, as far as the other one can be reached. */
int vm_send(struct call *call, const struct vm_send *send, struct ref *result, struct api_err *err);
