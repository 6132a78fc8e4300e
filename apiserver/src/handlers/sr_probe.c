/* SR.probe, SR.probe_ext: what a host finds at a place that could be a repository. */
#include "../hosts/hosts.h"
#include "storage.h"
#include <base/buf.h>
#include <base/mem.h>
#include <base/rc_json.h>
#include <base/xml.h>
#include <handlers.h>
#include <inttypes.h>
#include <model/errors.h>

#define PROBE_MS 60000

/* Asks the host; *found is released with hv_sr_probe_result_done. */
static int probe(struct call *call, struct ref host, const struct str_map *config, const char *type,
                 struct hv_sr_probe_result *result, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, host))
        return fail_handle(err, CLASS_host, host);
    if (!storage_kind_known(call->snapshot, type))
        return err_sr_unknown_driver(err, type);
    struct hv_host *agent = hosts_get(call->server->hosts, host, err);
    if (!agent)
        return -1;
    struct hv_op op = {.timeout_ms = PROBE_MS, .cancel = call->cancel};
    struct hv_sr_probe_args args;
    struct hv_err cause;
    hv_sr_probe_args_init(&args);
    str_assign(&args.type, type);
    str_map_assign(&args.config, str_map_ref(config));
    int rc = hv_sr_probe(agent, &op, &args, result, &cause);
    hv_sr_probe_args_done(&args);
    hosts_put(call->server->hosts, agent);
    return rc < 0 ? storage_fail(err, host, REF_NULL, REF_NULL, "", &cause) : 0;
}

/* There is a repository already, and not only room for one. */
static bool is_sr(const struct sr_found *found)
{
    return *found->sr || found->disks > 0;
}

int handle_sr_probe(struct call *call, const struct sr_probe_args *args, const char **result,
                    struct api_err *err)
{
    struct hv_sr_probe_result got;
    AUTO_BUF struct buf xml = BUF_INIT;
    if (probe(call, args->host, args->device_config, args->type, &got, err) < 0)
        return -1;
    buf_add_str(&xml, "<?xml version=\"1.0\"?>\n<SRlist>");
    if (is_sr(&got.found)) {
        buf_add_str(&xml, "<SR>");
        if (*got.found.sr)
            buf_printf(&xml, "<UUID>%s</UUID>", got.found.sr);
        buf_add_str(&xml, "<Devlist>");
        xml_write_text(&xml, str_map_get(args->device_config, "location"));
        buf_printf(&xml, "</Devlist><size>%" PRId64 "</size></SR>", got.found.stats.physical_size_bytes);
    }
    buf_add_str(&xml, "</SRlist>\n");
    hv_sr_probe_result_done(&got);
    *result = str_new(xml.data);
    return 0;
}

static json_t *stat_of(const struct sr_found *found)
{
    json_t *stat =
        json_pack("{ss, ss, sI, sI, sb, ss}", "name_label", "", "name_description", "", "free_space",
                  (json_int_t)found->stats.physical_free_bytes, "total_space",
                  (json_int_t)found->stats.physical_size_bytes, "clustered", 0, "health", "healthy");
    if (*found->sr)
        json_object_set_new(stat, "uuid", json_string(found->sr));
    return stat;
}

int handle_sr_probe_ext(struct call *call, const struct sr_probe_ext_args *args, json_t **result,
                        struct api_err *err)
{
    struct hv_sr_probe_result got;
    char disks[24];
    if (probe(call, args->host, args->device_config, args->type, &got, err) < 0)
        return -1;
    snprintf(disks, sizeof(disks), "%" PRId64, got.found.disks);
    json_t *record = json_pack("{so, sb, s{ss}}", "configuration", str_map_json(args->device_config),
                               "complete", 1, "extra_info", "disks", disks);
    if (is_sr(&got.found))
        json_object_set_new(record, "sr", stat_of(&got.found));
    hv_sr_probe_result_done(&got);
    *result = json_pack("[o]", record);
    return 0;
}
