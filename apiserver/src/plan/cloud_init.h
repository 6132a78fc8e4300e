/* What a VM's cloud-init finds at a start: keys of VM.other_config become the texts of a seed (hv/seed.h).
 * Pure. docs/guests.md has the keys. */
#pragma once
#include <hv/domain.h>
#include <model/error.h>
#include <model/rows.h>

#define CLOUD_INIT_PREFIX "cloud-init:"

/* Whether such a key may be set to this text; *why is a sentence when not. */
bool cloud_init_ok(const char *key, const char *value, const char **why);
/* Adds the seed to the configuration, whose nics are known, on this bus; nothing for a VM without such keys.
 * VALUE_NOT_SUPPORTED for what cannot be taken. */
int plan_cloud_init(const struct vm_row *vm, enum disk_bus bus, struct domain_config *config,
                    struct api_err *err);
