/* The disk with the memory of a suspended VM: where it is made, how large, and what its row says. */
#pragma once
#include "../server.h"

/* The VM's suspend_SR, else the pool's suspend_image_SR, else its host's, else the pool's default SR: the
 * first that the VM's host has attached. VM_NO_SUSPEND_SR. */
int suspend_image_choose(const struct snapshot *snap, struct server *server, const struct vm_row *vm,
                         struct ref *sr, struct api_err *err);
/* How many bytes the VM, which runs, needs. Asks its host. */
int suspend_image_size(struct server *server, const struct vm_row *vm, int64_t *bytes, struct api_err *err);
void suspend_image_describe(struct vdi_row *vdi);
