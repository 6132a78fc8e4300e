/* First what this side alone knows, then what both have to agree on. */
#include "join_checks.h"

#include "../server.h"
#include <base/json.h>
#include <base/mem.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

struct sides {
    const struct snapshot *snap;
    const struct pool_row *pool;
    const struct host_row *host;
    const json_t *remote_pool, *remote_host; /* records */
};

/* ---- this side ---- */

struct vm_check {
    struct api_err *err;
    int rc;
    bool operations; /* look at current_operations, not at the power state */
};

static bool check_vm(const struct row *row, void *arg)
{
    struct vm_check *c = arg;
    const struct vm_row *vm = vm_row(row);
    if (vm->is_control_domain)
        return true;
    if (!c->operations &&
        (vm->power_state == VM_POWER_STATE_RUNNING || vm->power_state == VM_POWER_STATE_PAUSED))
        c->rc = err_joining_host_cannot_have_running_vms(c->err);
    if (c->operations && vm->current_operations && vm->current_operations->count)
        c->rc = err_joining_host_cannot_have_vms_with_current_operations(c->err);
    return c->rc == 0;
}

static int check_vms(const struct snapshot *snap, bool operations, struct api_err *err)
{
    struct vm_check check = {.err = err, .operations = operations};
    snapshot_each(snap, CLASS_VM, check_vm, &check);
    return check.rc;
}

static bool is_shared(const struct row *row, void *arg)
{
    *(bool *)arg = *(bool *)arg || sr_row(row)->shared;
    return !*(bool *)arg;
}

static int check_storage(const struct snapshot *snap, struct api_err *err)
{
    bool shared = false;
    snapshot_each(snap, CLASS_SR, is_shared, &shared);
    return shared ? err_joining_host_cannot_contain_shared_srs(err) : 0;
}

static int check_interfaces(const struct snapshot *snap, struct api_err *err)
{
    if (snapshot_count(snap, CLASS_Bond))
        return err_pool_joining_host_has_bonds(err);
    if (snapshot_count(snap, CLASS_VLAN))
        return err_pool_joining_host_has_non_management_vlans(err);
    if (snapshot_count(snap, CLASS_tunnel))
        return err_pool_joining_host_has_tunnels(err);
    if (snapshot_count(snap, CLASS_network_sriov))
        return err_pool_joining_host_has_network_sriovs(err);
    return 0;
}

/* ---- both sides ---- */

static const char *text_of(const json_t *record, const char *name)
{
    const char *text = "";
    json_get_string(record, name, &text);
    return text;
}

static const char *entry_of(const json_t *record, const char *map, const char *key)
{
    return text_of(json_object_get(record, map), key);
}

static const char *here(const struct str_map *map, const char *key)
{
    const char *text = str_map_get(map, key);
    return text ? text : "";
}

static int check_versions(const struct sides *s, struct api_err *err)
{
    char own[64], theirs[64];
    int64_t major = 0, minor = 0;
    const struct str_map *software = s->host->software_version;
    const char *schema = entry_of(s->remote_host, "software_version", "db_schema");
    json_get_int(s->remote_host, "API_version_major", &major);
    json_get_int(s->remote_host, "API_version_minor", &minor);
    snprintf(own, sizeof(own), "%" PRId64 ".%" PRId64, s->host->API_version_major,
             s->host->API_version_minor);
    snprintf(theirs, sizeof(theirs), "%" PRId64 ".%" PRId64, major, minor);
    if (!streq(own, theirs))
        return err_pool_joining_host_must_have_same_api_version(err, own, theirs);
    if (!streq(here(software, "db_schema"), schema))
        return err_pool_joining_host_must_have_same_db_schema(err, here(software, "db_schema"), schema);
    if (!streq(here(software, "product_version"),
               entry_of(s->remote_host, "software_version", "product_version")) ||
        !streq(here(software, "corral_agent"), entry_of(s->remote_host, "software_version", "corral_agent")))
        return err_pool_joining_host_must_have_same_product_version(err);
    return 0;
}

static int check_processors(const struct sides *s, bool force, struct api_err *err)
{
    static const char *const alike[] = {"vendor", "family", "model", "flags"};
    const struct str_map *cpu = s->host->cpu_info;
    if (!streq(here(cpu, "vendor"), entry_of(s->remote_host, "cpu_info", "vendor")))
        return err_hosts_not_compatible(err);
    for (size_t i = 0; !force && i < ARRAY_LEN(alike); i++)
        if (!streq(here(cpu, alike[i]), entry_of(s->remote_host, "cpu_info", alike[i])))
            return err_hosts_not_homogeneous(err, "The processors differ.");
    return 0;
}

static int check_settings(const struct sides *s, struct api_err *err)
{
    bool verifies = true;
    if (!streq(s->host->external_auth_type, text_of(s->remote_host, "external_auth_type")) ||
        !streq(s->host->external_auth_service_name, text_of(s->remote_host, "external_auth_service_name")))
        return err_pool_joining_external_auth_mismatch(err);
    json_get_bool(s->remote_pool, "tls_verification_enabled", &verifies);
    if (verifies != s->pool->tls_verification_enabled)
        return err_pool_joining_host_tls_verification_mismatch(err);
    return 0;
}

static int check_sides(const struct sides *s, bool force, struct api_err *err)
{
    bool ha = false;
    json_get_bool(s->remote_pool, "ha_enabled", &ha);
    if (s->pool->ha_enabled || ha)
        return err_ha_is_enabled(err);
    if (streq(text_of(s->remote_pool, "uuid"), s->pool->uuid))
        return err_operation_not_allowed(err, "Host cannot become slave of itself");
    if (snapshot_count(s->snap, CLASS_host) > 1)
        return err_joining_host_cannot_be_master_of_other_hosts(err);
    if (check_vms(s->snap, false, err) < 0 || check_vms(s->snap, true, err) < 0)
        return -1;
    if (check_versions(s, err) < 0 || check_processors(s, force, err) < 0 || check_storage(s->snap, err) < 0)
        return -1;
    return check_interfaces(s->snap, err) < 0 ? -1 : check_settings(s, err);
}

int join_check(const struct snapshot *snap, struct ref pool, struct remote *remote, bool force,
               struct api_err *err)
{
    struct sides s = {.snap = snap, .pool = pool_row(snapshot_get(snap, CLASS_pool, pool))};
    s.host = s.pool ? host_row(snapshot_get(snap, CLASS_host, s.pool->master)) : NULL;
    if (!s.host)
        return fail_internal(err, "This pool has no host yet that could join another one.");
    AUTO_JSON json_t *pools = remote_ask(remote, "pool.get_all_records", json_array(), err);
    s.remote_pool = pools ? json_object_iter_value(json_object_iter(pools)) : NULL;
    if (!pools)
        return -1;
    if (!s.remote_pool)
        return err_joining_host_service_failed(err);
    AUTO_JSON json_t *host =
        remote_ask(remote, "host.get_record", json_pack("[s]", text_of(s.remote_pool, "master")), err);
    if (!host)
        return -1;
    s.remote_host = host;
    return check_sides(&s, force, err);
}
