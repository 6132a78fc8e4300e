/* Hosts that leave, and what a server does alone when its pool cannot: becoming the coordinator, and the
 * pool's database from a file. */
#include "run.h"
#include "xe_handlers.h"

/* ---- pool-eject ---- */

/* No other host reaches the SR. */
static bool is_local_to(struct xe_run_state *x, const json_t *sr, const char *host)
{
    const json_t *pbds = json_object_get(sr, "PBDs"), *pbd, *record;
    size_t i;
    json_array_foreach(pbds, i, pbd)
    {
        if (xe_record(x, "PBD", json_string_value(pbd), &record) < 0) {
            xe_err_done(&x->err);
            return false;
        }
        if (record && !streq(xe_str(record, "host"), host))
            return false;
    }
    return json_array_size(pbds) > 0;
}

/* Names the disks that go with the host's own SRs. */
static int warn_of_disks(struct xe_run_state *x, const char *host)
{
    const json_t *disks, *sr;
    const char *ref;
    json_t *disk;
    bool first = true;
    if (xe_records(x, "VDI", &disks) < 0)
        return -1;
    json_object_foreach((json_t *)disks, ref, disk)
    {
        if (xe_record(x, "SR", xe_str(disk, "SR"), &sr) < 0)
            return -1;
        if (!sr || !is_local_to(x, sr, host))
            continue;
        if (first)
            xe_out_message(x, "The following VDI objects will be destroyed:");
        first = false;
        xe_out_message(x, "VDI: %s (%s)", xe_str(disk, "uuid"), xe_str(disk, "name_label"));
    }
    return 0;
}

int xe_cmd_pool_eject(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    bool force = false;
    AUTO_FREE char *host = NULL;
    (void)cmd;
    if (xe_arg_required(x, "host-uuid", &uuid) < 0 || xe_ref_by_uuid(x, "host", uuid, &host) < 0 ||
        xe_arg_bool(x, "force", &force) < 0)
        return -1;
    if (!force) {
        xe_out_message(x, "WARNING: Ejecting a host from the pool will reinitialise that host's local SRs.");
        xe_out_message(x, "WARNING: Any data contained with the local SRs will be lost.");
        if (warn_of_disks(x, host) < 0)
            return -1;
    }
    if (xe_confirm(x) < 0 || xe_call_task(x, "pool.eject", json_pack("[s]", host), NULL) < 0)
        return -1;
    xe_out_item(x, "Specified host will attempt to restart as a master of a new pool in 10. seconds...");
    return 0;
}

/* ---- without a pool ---- */

/* A server that leads says so by itself; asked with force it goes through the motions again. */
int xe_cmd_pool_emergency_transition_to_master(struct xe_run_state *x, const struct xe_command *cmd)
{
    bool force = false;
    AUTO_JSON json_t *member = NULL;
    (void)cmd;
    if (xe_arg_bool(x, "force", &force) < 0 ||
        xe_call(x, "pool.is_slave", &member, "[s]", "OpaqueRef:NULL") < 0)
        return -1;
    if (!json_is_true(member) && !force) {
        xe_out_item(x, "Host agent is already master. Use '--force' to execute the operation anyway.");
        return 0;
    }
    if (xe_call(x, "pool.emergency_transition_to_master", NULL, "[]") < 0)
        return -1;
    xe_out_item(x, "Host agent will restart and transition to master in 10. seconds...");
    return 0;
}

int xe_cmd_pool_restore_database(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name;
    bool dry = xe_arg(x, "dry-run") != NULL, force = false;
    (void)cmd;
    if (xe_arg_required(x, "file-name", &name) < 0 || xe_arg_bool(x, "force", &force) < 0)
        return -1;
    if (!force && !dry)
        return xe_fail(x, XE_ERR_CLI,
                       "This operation will restore the database backup to this host, making it the master. "
                       "All slave hosts are assumed dead and they will be forgotten. This operation must be "
                       "forced (use --force).");
    AUTO_FREE char *route = xasprintf("/pool/xmldbdump?dry_run=%s", dry ? "true" : "false");
    if (xe_transfer_file(x, x->api->upload, "Restoring the database", name, route, NULL) < 0)
        return -1;
    xe_out_item(x, dry ? "Dry-run backup restore successful"
                       : "Host will reboot with restored database in 3. seconds...");
    return 0;
}
