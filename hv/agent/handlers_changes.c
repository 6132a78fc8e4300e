/* What the calls about changed blocks mean: which blocks of a disk changed between its snapshots. The
 * prototypes are generated from openapi/agent/storage.toml. */
#include "agent.h"
#include <base/mem.h>
#include <base/secret.h>

int agent_changes_enable(struct agent *agent, struct agent_op *op, const struct hv_changes_enable_args *args,
                         struct hv_changes_enable_result *result, struct hv_err *err)
{
    struct storage_error error;
    (void)op, (void)result;
    struct sr *sr = srs_get(agent, args->sr, err);
    int outcome = !sr                                                           ? -1
                  : storage_changes_enable(sr->storage, args->disk, &error) < 0 ? storage_to_hv(err, &error)
                                                                                : 0;
    srs_put(agent, sr);
    return outcome;
}

int agent_changes_disable(struct agent *agent, struct agent_op *op,
                          const struct hv_changes_disable_args *args,
                          struct hv_changes_disable_result *result, struct hv_err *err)
{
    struct storage_error error;
    (void)op, (void)result;
    struct sr *sr = srs_get(agent, args->sr, err);
    int outcome = !sr                                                            ? -1
                  : storage_changes_disable(sr->storage, args->disk, &error) < 0 ? storage_to_hv(err, &error)
                                                                                 : 0;
    srs_put(agent, sr);
    return outcome;
}

int agent_changes_list(struct agent *agent, struct agent_op *op, const struct hv_changes_list_args *args,
                       struct hv_changes_list_result *result, struct hv_err *err)
{
    struct storage_error error;
    size_t len;
    AUTO_FREE uint8_t *bits = NULL;
    (void)op;
    struct sr *sr = srs_get(agent, args->sr, err);
    if (!sr)
        return -1;
    int outcome = disks_take(agent, args->sr, args->to, false, err);
    if (outcome == 0) {
        outcome = storage_changes_list(sr->storage, args->from, args->to, &bits, &len, &error) < 0
                      ? storage_to_hv(err, &error)
                      : 0;
        disks_release(agent, args->sr, args->to, false);
    }
    srs_put(agent, sr);
    if (outcome == 0 && len > (48u << 20))
        outcome = hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The disk is too large for a map of its blocks.");
    if (outcome < 0)
        return -1;
    AUTO_FREE char *text = base64_encode(bits, len);
    str_assign(&result->map, text);
    return 0;
}

int agent_data_destroy(struct agent *agent, struct agent_op *op, const struct hv_data_destroy_args *args,
                       struct hv_data_destroy_result *result, struct hv_err *err)
{
    struct storage_error error;
    (void)op, (void)result;
    struct sr *sr = srs_get(agent, args->sr, err);
    int outcome = sr ? disks_take(agent, args->sr, args->disk, true, err) : -1;
    if (outcome == 0) {
        outcome = storage_data_destroy(sr->storage, args->disk, &error) < 0 ? storage_to_hv(err, &error) : 0;
        disks_release(agent, args->sr, args->disk, true);
    }
    srs_put(agent, sr);
    return outcome;
}
