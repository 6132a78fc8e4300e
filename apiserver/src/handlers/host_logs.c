/* host.*: what the machine and its agent say, and the machine's name. */
#include "../hosts/hosts.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

static int read_log(struct call *call, struct ref host, enum host_log_source source, bool clear,
                    const char **out, struct api_err *err)
{
    struct hosts_op op;
    struct hv_host_log_args args;
    struct hv_host_log_result result;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(call->server->hosts, host, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_host_log_args_init(&args);
    args.source = source;
    args.clear = clear;
    int rc = hv_host_log(agent, &op.op, &args, &result, &cause);
    hv_host_log_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail(err, host, &cause);
    *out = str_ref(result.text);
    hv_host_log_result_done(&result);
    return 0;
}

int handle_host_dmesg(struct call *call, const struct host_dmesg_args *args, const char **result,
                      struct api_err *err)
{
    return read_log(call, args->host, HOST_LOG_SOURCE_KERNEL, false, result, err);
}

int handle_host_dmesg_clear(struct call *call, const struct host_dmesg_clear_args *args, const char **result,
                            struct api_err *err)
{
    return read_log(call, args->host, HOST_LOG_SOURCE_KERNEL, true, result, err);
}

int handle_host_get_log(struct call *call, const struct host_get_log_args *args, const char **result,
                        struct api_err *err)
{
    return read_log(call, args->host, HOST_LOG_SOURCE_AGENT, false, result, err);
}

/* ---- the name ---- */

static int check_name(const char *name, struct api_err *err)
{
    size_t len = strlen(name);
    if (len == 0)
        return err_host_name_invalid(err, "The name is empty.");
    if (len > 63)
        return err_host_name_invalid(err, "The name is longer than 63 characters.");
    if (name[0] == '-' || name[0] == '.' ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != len)
        return err_host_name_invalid(
            err, "A name has letters, digits, '-' and '.', and begins with a letter or digit.");
    return 0;
}

static int record_name(struct call *call, struct ref ref, const char *name, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_host, ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_host, ref);
    }
    struct host_row *host = host_row_mut(tx_edit(tx, CLASS_host, ref));
    str_assign(&host->hostname, name);
    str_map_put(&host->software_version, "hostname", name);
    return server_commit(tx, err);
}

int handle_host_set_hostname_live(struct call *call, const struct host_set_hostname_live_args *args,
                                  struct api_err *err)
{
    struct hosts_op op;
    struct hv_host_set_hostname_args set;
    struct hv_host_set_hostname_result result;
    struct hv_err cause;
    if (check_name(args->hostname, err) < 0)
        return -1;
    struct hv_host *agent = hosts_get(call->server->hosts, args->host, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_host_set_hostname_args_init(&set);
    str_assign(&set.hostname, args->hostname);
    int rc = hv_host_set_hostname(agent, &op.op, &set, &result, &cause);
    hv_host_set_hostname_args_done(&set);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail(err, args->host, &cause);
    hv_host_set_hostname_result_done(&result);
    return record_name(call, args->host, args->hostname, err);
}
