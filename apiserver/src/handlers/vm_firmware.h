/* The Secure Boot keys of a VM at its start. */
#pragma once
#include "../server.h"
#include <hv/client.h>
#include <model/rows.h>

/* The keys are the pool's own, when it has some, else those of the host's firmware. A VM that never ran gets
 * the pool's; a VM that is marked for new keys (secureboot_certificates_state), or all of a pool that renews
 * them by itself, gets them into its variables before it starts; of one that has others and is not to get
 * them, the row says that there are newer ones. A list of forbidden images (dbx) that is longer than the new
 * one stays. Nothing for a VM without keys, or when there are none: the start goes on. -1: the store failed.
 */
int vm_firmware_renew(struct call *call, struct hv_host *agent, const struct vm_row *vm, struct api_err *err);
