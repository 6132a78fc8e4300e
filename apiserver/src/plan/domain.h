/* From the rows of a VM to the configuration of its domain. Pure: reads the snapshot, touches nothing. */
#pragma once
#include <db/store.h>
#include <hv/domain.h>
#include <model/error.h>
#include <model/rows.h>

/* A suspended VM has the devices that it was suspended with (currently_attached), any other has all.
 * *config is initialised only on success. Errors are those of a start that cannot work whatever the host:
 * VALUE_NOT_SUPPORTED for what the domain cannot express, HANDLE_INVALID for rows that are gone. */
int plan_domain(const struct snapshot *snap, const struct vm_row *vm, bool start_paused,
                struct domain_config *config, struct api_err *err);
