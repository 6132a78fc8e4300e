/* host.*: what the pool sets of a host's own system: SSH, idle shells, time, sleep states, screen, logs. The
 * agent does it (hv/system) and tells how all of it is set then; that goes into the host's row. */
#include "host_system.h"
#include "../hosts/facts.h"
#include "../hosts/hosts.h"
#include "../hosts/system.h"
#include "../server.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define SSH_TIMEOUT_MAX_S (2 * 86400)
#define CSTATE_DIGITS_MAX 2

static const struct host_row *find(struct call *call, struct ref ref, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, CLASS_host, ref);
    if (!row)
        fail_handle(err, CLASS_host, ref);
    return host_row(row);
}

/* What the agent said, and with `timeout_s` >= 0 what it does not know. `now` is finished. */
static int record(struct call *call, struct ref host, struct system_settings *now, int64_t timeout_s,
                  struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_host, host)) {
        tx_abort(tx);
        system_settings_done(now);
        return fail_handle(err, CLASS_host, host);
    }
    struct host_row *row = host_row_mut(tx_edit(tx, CLASS_host, host));
    host_rows_system(row, now);
    if (timeout_s >= 0)
        row->ssh_enabled_timeout = timeout_s;
    system_settings_done(now);
    return server_commit(tx, err);
}

/* `wanted` is finished. *cause is as system_ask leaves it. */
static int set(struct call *call, struct ref host, enum system_part part, struct system_settings *wanted,
               int64_t timeout_s, struct hv_err *cause, struct api_err *err)
{
    struct system_settings now;
    int rc = system_ask(call, host, part, wanted, &now, cause, err);
    system_settings_done(wanted);
    return rc < 0 ? -1 : record(call, host, &now, timeout_s, err);
}

static struct system_settings blank(void)
{
    struct system_settings s;
    system_settings_init(&s);
    return s;
}

/* ---- SSH ---- */

static int set_ssh(struct call *call, struct ref host, bool enabled, int64_t expiry, bool automatic,
                   int64_t timeout_s, struct hv_err *cause, struct api_err *err)
{
    struct system_settings wanted = blank();
    wanted.ssh_enabled = enabled;
    wanted.ssh_expiry = expiry;
    wanted.ssh_auto = automatic;
    return set(call, host, SYSTEM_PART_SSH, &wanted, timeout_s, cause, err);
}

int host_system_enable_ssh(struct call *call, struct ref ref, struct api_err *err)
{
    struct hv_err cause = {0};
    const struct host_row *host = find(call, ref, err);
    if (!host)
        return -1;
    int64_t timeout = host->ssh_enabled_timeout;
    if (set_ssh(call, ref, true, timeout ? clock_unix_seconds() + timeout : 0, false, -1, &cause, err) == 0)
        return 0;
    return cause.kind == HV_ERR_KIND_IO ? err_enable_ssh_failed(err, REF_TEXT(ref))
                                        : system_fail(err, ref, "ssh_enabled", "true", &cause);
}

int host_system_disable_ssh(struct call *call, struct ref ref, struct api_err *err)
{
    struct hv_err cause = {0};
    if (!find(call, ref, err))
        return -1;
    if (set_ssh(call, ref, false, clock_unix_seconds(), false, -1, &cause, err) == 0)
        return 0;
    return cause.kind == HV_ERR_KIND_IO ? err_disable_ssh_failed(err, REF_TEXT(ref))
                                        : system_fail(err, ref, "ssh_enabled", "false", &cause);
}

int host_system_set_ssh_timeout(struct call *call, struct ref ref, int64_t value, struct api_err *err)
{
    struct hv_err cause = {0};
    AUTO_STR const char *text = str_newf("%lld", (long long)value);
    const struct host_row *host = find(call, ref, err);
    if (!host)
        return -1;
    if (value < 0 || value > SSH_TIMEOUT_MAX_S)
        return err_invalid_value(err, "ssh_enabled_timeout", text);
    bool counts = host->ssh_enabled && !host->ssh_auto_mode;
    int64_t expiry = counts ? value ? clock_unix_seconds() + value : 0 : host->ssh_expiry;
    if (set_ssh(call, ref, host->ssh_enabled, expiry, host->ssh_auto_mode, value, &cause, err) == 0)
        return 0;
    return system_fail(err, ref, "ssh_enabled_timeout", text, &cause);
}

int host_system_set_ssh_auto(struct call *call, struct ref ref, bool value, struct api_err *err)
{
    struct hv_err cause = {0};
    const struct host_row *host = find(call, ref, err);
    if (!host)
        return -1;
    /* The server is there: SSH is closed until it is silent. */
    bool enabled = !value && host->ssh_enabled;
    if (set_ssh(call, ref, enabled, value ? 0 : host->ssh_expiry, value, -1, &cause, err) == 0)
        return 0;
    return system_fail(err, ref, "ssh_auto_mode", value ? "true" : "false", &cause);
}

int handle_host_enable_ssh(struct call *call, const struct host_enable_ssh_args *args, struct api_err *err)
{
    return host_system_enable_ssh(call, args->self, err);
}

int handle_host_disable_ssh(struct call *call, const struct host_disable_ssh_args *args, struct api_err *err)
{
    return host_system_disable_ssh(call, args->self, err);
}

int handle_host_set_ssh_enabled_timeout(struct call *call,
                                        const struct host_set_ssh_enabled_timeout_args *args,
                                        struct api_err *err)
{
    return host_system_set_ssh_timeout(call, args->self, args->value, err);
}

int handle_host_set_ssh_auto_mode(struct call *call, const struct host_set_ssh_auto_mode_args *args,
                                  struct api_err *err)
{
    return host_system_set_ssh_auto(call, args->self, args->value, err);
}

/* ---- idle shells ---- */

int host_system_set_console_idle(struct call *call, struct ref ref, int64_t value, struct api_err *err)
{
    struct hv_err cause = {0};
    AUTO_STR const char *text = str_newf("%lld", (long long)value);
    struct system_settings wanted = blank();
    wanted.console_idle_seconds = value;
    if (value < 0 || value > INT32_MAX)
        return err_invalid_value(err, "console_idle_timeout", text);
    if (set(call, ref, SYSTEM_PART_CONSOLE_IDLE, &wanted, -1, &cause, err) == 0)
        return 0;
    return system_fail(err, ref, "console_idle_timeout", text, &cause);
}

int handle_host_set_console_idle_timeout(struct call *call,
                                         const struct host_set_console_idle_timeout_args *args,
                                         struct api_err *err)
{
    return host_system_set_console_idle(call, args->self, args->value, err);
}

/* ---- time ---- */

static enum ntp_mode agents_mode(enum host_ntp_mode mode)
{
    switch (mode) {
    case HOST_NTP_MODE_DHCP:
        return NTP_MODE_DHCP;
    case HOST_NTP_MODE_CUSTOM:
        return NTP_MODE_CUSTOM;
    case HOST_NTP_MODE_DISABLED:
        return NTP_MODE_DISABLED;
    case HOST_NTP_MODE_FACTORY:
        break;
    }
    return NTP_MODE_FACTORY;
}

static int set_ntp(struct call *call, struct ref ref, enum host_ntp_mode mode, const struct str_set *servers,
                   struct api_err *err)
{
    struct hv_err cause = {0};
    struct system_settings wanted = blank();
    if (mode == HOST_NTP_MODE_CUSTOM && (!servers || servers->count == 0))
        return err_invalid_ntp_config(
            err, "No time server is named for the mode Custom: ntp_custom_servers is empty.");
    if (servers && servers->count > 16)
        return err_invalid_ntp_config(err, "More than 16 time servers.");
    wanted.ntp_mode = agents_mode(mode);
    for (size_t i = 0; servers && i < servers->count; i++)
        system_settings_add_ntp_servers(&wanted, servers->items[i]);
    if (set(call, ref, SYSTEM_PART_NTP, &wanted, -1, &cause, err) == 0)
        return 0;
    return cause.kind == HV_ERR_KIND_BAD_ARGUMENT ? err_invalid_ntp_config(err, cause.text)
                                                  : system_fail(err, ref, "ntp_mode", "", &cause);
}

int handle_host_set_ntp_mode(struct call *call, const struct host_set_ntp_mode_args *args,
                             struct api_err *err)
{
    const struct host_row *host = find(call, args->self, err);
    return host ? set_ntp(call, args->self, args->value, host->ntp_custom_servers, err) : -1;
}

int handle_host_set_ntp_custom_servers(struct call *call, const struct host_set_ntp_custom_servers_args *args,
                                       struct api_err *err)
{
    const struct host_row *host = find(call, args->self, err);
    return host ? set_ntp(call, args->self, host->ntp_mode, args->value, err) : -1;
}

/* *servers is counted. */
static int clock_status(struct call *call, struct ref ref, bool *synchronized, const struct str_map **servers,
                        struct api_err *err)
{
    struct hosts_op op;
    struct hv_system_clock_status_args args;
    struct hv_system_clock_status_result result;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(call->server->hosts, ref, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_system_clock_status_args_init(&args);
    int rc = hv_system_clock_status(agent, &op.op, &args, &result, &cause);
    hv_system_clock_status_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return system_fail(err, ref, "self", REF_TEXT(ref), &cause);
    *synchronized = result.synchronized;
    *servers = str_map_ref(result.servers);
    hv_system_clock_status_result_done(&result);
    return 0;
}

int handle_host_get_ntp_servers_status(struct call *call, const struct host_get_ntp_servers_status_args *args,
                                       const struct str_map **result, struct api_err *err)
{
    bool synchronized;
    return clock_status(call, args->self, &synchronized, result, err);
}

int handle_host_get_ntp_synchronized(struct call *call, const struct host_get_ntp_synchronized_args *args,
                                     bool *result, struct api_err *err)
{
    AUTO_STR_MAP const struct str_map *servers = NULL;
    return clock_status(call, args->self, result, &servers, err);
}

int handle_host_set_timezone(struct call *call, const struct host_set_timezone_args *args,
                             struct api_err *err)
{
    struct hv_err cause = {0};
    struct system_settings wanted = blank();
    if (strlen(args->value) > 64)
        return err_invalid_value(err, "timezone", args->value);
    str_assign(&wanted.timezone, args->value);
    if (set(call, args->self, SYSTEM_PART_TIMEZONE, &wanted, -1, &cause, err) == 0)
        return 0;
    return system_fail(err, args->self, "timezone", args->value, &cause);
}

int handle_host_list_timezones(struct call *call, const struct host_list_timezones_args *args,
                               const struct str_set **result, struct api_err *err)
{
    struct hosts_op op;
    struct hv_system_timezones_args ask;
    struct hv_system_timezones_result answer;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(call->server->hosts, args->self, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_system_timezones_args_init(&ask);
    int rc = hv_system_timezones(agent, &op.op, &ask, &answer, &cause);
    hv_system_timezones_args_done(&ask);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return system_fail(err, args->self, "self", REF_TEXT(args->self), &cause);
    *result = str_set_new(answer.zones, answer.zones_count);
    hv_system_timezones_result_done(&answer);
    return 0;
}

int handle_host_set_servertime(struct call *call, const struct host_set_servertime_args *args,
                               struct api_err *err)
{
    struct hosts_op op;
    struct hv_system_clock_set_args set_clock;
    struct hv_system_clock_set_result result;
    struct hv_err cause;
    char text[DATETIME_TEXT_SIZE];
    datetime_format(args->value, text);
    if (args->value < 0)
        return err_invalid_value(err, "value", text);
    struct hv_host *agent = hosts_get(call->server->hosts, args->self, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_system_clock_set_args_init(&set_clock);
    set_clock.time = args->value;
    int rc = hv_system_clock_set(agent, &op.op, &set_clock, &result, &cause);
    hv_system_clock_set_args_done(&set_clock);
    hosts_put(call->server->hosts, agent);
    if (rc == 0) {
        hv_system_clock_set_result_done(&result);
        return 0;
    }
    return cause.kind == HV_ERR_KIND_BAD_STATE
               ? err_not_allowed_when_ntp_is_enabled(err, REF_TEXT(args->self))
               : system_fail(err, args->self, "value", text, &cause);
}

/* ---- processors, screen, logs ---- */

/* "", "unlimited", "1" and "C1": no limit, the same, C1, the same. */
static const char *cstate_number(const char *value)
{
    const char *digits = *value == 'C' ? value + 1 : value;
    size_t count = strspn(digits, "0123456789");
    if (!*value || streq(value, "unlimited"))
        return "";
    return count && count <= CSTATE_DIGITS_MAX && !digits[count] ? digits : NULL;
}

int handle_host_set_max_cstate(struct call *call, const struct host_set_max_cstate_args *args,
                               struct api_err *err)
{
    struct hv_err cause = {0};
    const char *number = cstate_number(args->value);
    if (!number)
        return err_invalid_value(err, "max_cstate", args->value);
    struct system_settings wanted = blank();
    str_assign(&wanted.max_cstate, number);
    if (set(call, args->self, SYSTEM_PART_CSTATE, &wanted, -1, &cause, err) == 0)
        return 0;
    return system_fail(err, args->self, "max_cstate", args->value, &cause);
}

static int set_display(struct call *call, struct ref ref, bool on, enum host_display *result,
                       struct api_err *err)
{
    struct hv_err cause = {0};
    struct system_settings wanted = blank();
    wanted.display = on;
    if (set(call, ref, SYSTEM_PART_DISPLAY, &wanted, -1, &cause, err) < 0)
        return system_fail(err, ref, "display", on ? "enabled" : "disabled", &cause);
    *result = on ? HOST_DISPLAY_ENABLED : HOST_DISPLAY_DISABLED;
    return 0;
}

int handle_host_enable_display(struct call *call, const struct host_enable_display_args *args,
                               enum host_display *result, struct api_err *err)
{
    return set_display(call, args->host, true, result, err);
}

int handle_host_disable_display(struct call *call, const struct host_disable_display_args *args,
                                enum host_display *result, struct api_err *err)
{
    return set_display(call, args->host, false, result, err);
}

int handle_host_syslog_reconfigure(struct call *call, const struct host_syslog_reconfigure_args *args,
                                   struct api_err *err)
{
    struct hv_err cause = {0};
    const struct host_row *host = find(call, args->host, err);
    if (!host)
        return -1;
    const char *found = str_map_get(host->logging, "syslog_destination");
    AUTO_STR const char *where = str_new(found ? found : "");
    if (strlen(where) > 255)
        return err_invalid_value(err, "logging:syslog_destination", where);
    struct system_settings wanted = blank();
    str_assign(&wanted.syslog, where);
    if (set(call, args->host, SYSTEM_PART_SYSLOG, &wanted, -1, &cause, err) == 0)
        return 0;
    return system_fail(err, args->host, "logging:syslog_destination", where, &cause);
}

/* Keys that a hypervisor takes on its serial line. */
int handle_host_send_debug_keys(struct call *call, const struct host_send_debug_keys_args *args,
                                struct api_err *err)
{
    return find(call, args->host, err)
               ? err_operation_not_allowed(
                     err, "No hypervisor that takes debug keys runs below this host's kernel.")
               : -1;
}
