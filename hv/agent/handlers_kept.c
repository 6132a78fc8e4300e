/* What the calls about a VM's firmware mean: giving and taking what it has written down. The prototypes are
 * generated from openapi/agent/domain.toml. */
#include "agent.h"
#include <base/mem.h>
#include <io/kept.h>

int agent_domain_keep(struct agent *agent, struct agent_op *op, const struct hv_domain_keep_args *args,
                      struct hv_domain_keep_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    if (domain_check_absent(agent, args->domain, err) < 0) {
        if (err)
            err->kind = HV_ERR_KIND_BAD_STATE;
        return -1;
    }
    return kept_put(agent->options.state_dir, args->domain, args->variables ? args->variables : "",
                    args->tpm ? args->tpm : "", err);
}

int agent_domain_kept(struct agent *agent, struct agent_op *op, const struct hv_domain_kept_args *args,
                      struct hv_domain_kept_result *result, struct hv_err *err)
{
    (void)op;
    return kept_get(agent->options.state_dir, args->domain, &result->variables, &result->tpm, err);
}

int agent_firmware_keys(struct agent *agent, struct agent_op *op, const struct hv_firmware_keys_args *args,
                        struct hv_firmware_keys_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    return kept_keys(agent->options.ovmf_secure_vars, &result->variables, err);
}
