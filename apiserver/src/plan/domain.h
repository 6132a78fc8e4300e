/* From the rows of a VM to the configuration of its domain. Pure: reads the snapshot, touches nothing. */
#pragma once
#include <db/store.h>
#include <hv/domain.h>
#include <model/error.h>
#include <model/rows.h>

/* A VM that runs or is suspended has the devices that are attached to it (currently_attached), any other has all.
 * *config is initialised only on success. Errors are those of a start that cannot work whatever the host:
 * VALUE_NOT_SUPPORTED for what the domain cannot express, HANDLE_INVALID for rows that are gone. */
int plan_domain(const struct snapshot *snap, const struct vm_row *vm, bool start_paused,
                struct domain_config *config, struct api_err *err);
/* One device, into a struct that is initialised already. */
int plan_disk(const struct snapshot *snap, const struct vbd_row *vbd, struct domain_disk *disk,
              struct api_err *err);
/* What a disk may do in a second, of VBD.qos_algorithm_type and _params; 0: no limit. VALUE_NOT_SUPPORTED for
 * words that mean nothing here. */
#define PLAN_THROTTLE "throttle"
struct disk_limits {
    int64_t max_iops, max_kbytes;
};
int plan_limits(const char *type, const struct str_map *params, struct disk_limits *out, struct api_err *err);
int plan_nic(const struct snapshot *snap, const struct vif_row *vif, struct domain_nic *nic,
             struct api_err *err);
/* How a nic on this network is attached: networks whose other_config:corral:kind is "user" are user-mode
 * ones. */
enum nic_kind plan_nic_kind(const struct network_row *network);
