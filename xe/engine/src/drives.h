/* A VM's drives, shared by the disk and CD commands. */
#pragma once
#include "run.h"

/* Calls `visit` for each VBD of the VM with its record; stops at the first -1. */
typedef int xe_vbd_fn(struct xe_run_state *x, const char *vbd, const json_t *record, void *arg);
int xe_each_vbd(struct xe_run_state *x, const char *vm, xe_vbd_fn *visit, void *arg);
/* Creates a drive and plugs it when the VM runs; *vbd is the caller's. An empty `vdi` ("OpaqueRef:NULL")
 * makes an empty drive. */
int xe_make_vbd(struct xe_run_state *x, const char *vm, const char *vdi, const char *device, const char *type,
                const char *mode, bool bootable, bool owner, char **vbd);
