/* PIF.reconfigure_ip and its like: addresses of a host that the pool gives it. Those of the host's own
 * configuration are left alone, and an agent that finds such refuses: so nobody cuts himself off by surprise.
 */
#include "pif.h"

#include <arpa/inet.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

static bool is_address(int family, const char *text)
{
    unsigned char bytes[16];
    return inet_pton(family, text, bytes) == 1;
}

static int check_address(int family, const char *name, const char *text, bool needed, struct api_err *err)
{
    if (!needed && !*text)
        return 0;
    return is_address(family, text) ? 0 : err_invalid_ip_address_specified(err, name);
}

static int check_servers(const char *list, struct api_err *err)
{
    char one[64];
    for (const char *p = list; *p;) {
        size_t len = strcspn(p, ", ");
        snprintf(one, sizeof(one), "%.*s", (int)(len < 63 ? len : 63), p);
        if (len && !is_address(AF_INET, one) && !is_address(AF_INET6, one))
            return err_invalid_ip_address_specified(err, "DNS");
        p += len;
        p += strspn(p, ", ");
    }
    return 0;
}

static int check_pif(const struct pif_row *pif, bool loses_address, struct api_err *err)
{
    if (!pif || pif_check_managed(pif, err) < 0 || pif_check_not_member(pif, err) < 0)
        return -1;
    return loses_address ? pif_check_not_management(pif, err) : 0;
}

/* The host, when the interface is up, and then the row. `wanted` is the row as it shall be. */
static int give(struct call *call, const struct pif_row *pif, const struct pif_row *wanted,
                struct api_err *err)
{
    if (!pif->currently_attached)
        return 0;
    struct hv_host *agent = hosts_get(call->server->hosts, pif->host, err);
    if (!agent)
        return -1;
    int rc = interfaces_set_addresses(agent, call->snapshot, wanted, pif, err);
    hosts_put(call->server->hosts, agent);
    return rc;
}

/* Opens a transaction with the row; NULL after failing. */
static struct pif_row *edit(struct call *call, struct ref ref, struct tx **tx, struct api_err *err)
{
    *tx = store_begin(call->server->store);
    if (tx_get(*tx, CLASS_PIF, ref))
        return pif_row_mut(tx_edit(*tx, CLASS_PIF, ref));
    tx_abort(*tx);
    fail_handle(err, CLASS_PIF, ref);
    return NULL;
}

static bool same_ip(const struct pif_row *pif, const struct pif_reconfigure_ip_args *args)
{
    if (pif->ip_configuration_mode != args->mode)
        return false;
    return args->mode != IP_CONFIGURATION_MODE_STATIC ||
           (streq(pif->IP, args->IP) && streq(pif->netmask, args->netmask) &&
            streq(pif->gateway, args->gateway) && streq(pif->DNS, args->DNS));
}

int handle_pif_reconfigure_ip(struct call *call, const struct pif_reconfigure_ip_args *args,
                              struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->self, err);
    bool fixed = args->mode == IP_CONFIGURATION_MODE_STATIC;
    struct tx *tx;
    if (!pif || check_pif(pif, args->mode == IP_CONFIGURATION_MODE_NONE, err) < 0 ||
        (fixed && (check_address(AF_INET, "IP", args->IP, true, err) < 0 ||
                   check_address(AF_INET, "netmask", args->netmask, true, err) < 0)) ||
        check_address(AF_INET, "gateway", args->gateway, false, err) < 0 || check_servers(args->DNS, err) < 0)
        return -1;
    if (fixed && netmask_length(args->netmask) <= 0)
        return err_invalid_ip_address_specified(err, "netmask");
    if (same_ip(pif, args))
        return 0;
    if (args->mode == IP_CONFIGURATION_MODE_DHCP)
        return err_pif_configuration_error(
            err, REF_TEXT(args->self),
            "A DHCP client is part of the host's own configuration: set it up there.");
    struct pif_row wanted = *pif;
    wanted.configured = true;
    wanted.IP = fixed ? args->IP : "";
    wanted.netmask = fixed ? args->netmask : "";
    wanted.gateway = fixed ? args->gateway : "";
    if (give(call, pif, &wanted, err) < 0)
        return -1;
    struct pif_row *row = edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    row->ip_configuration_mode = args->mode;
    row->configured = fixed || row->ipv6_configuration_mode == IPV6_CONFIGURATION_MODE_STATIC;
    str_assign(&row->IP, wanted.IP);
    str_assign(&row->netmask, wanted.netmask);
    str_assign(&row->gateway, wanted.gateway);
    str_assign(&row->DNS, fixed ? args->DNS : "");
    return server_commit(tx, err);
}

static bool is_cidr6(const char *text)
{
    char address[64];
    const char *slash = strchr(text, '/');
    snprintf(address, sizeof(address), "%.*s", slash ? (int)(slash - text < 63 ? slash - text : 63) : 0,
             text);
    char *end;
    long length = slash ? strtol(slash + 1, &end, 10) : 0;
    return slash && slash[1] >= '0' && slash[1] <= '9' && !*end && length >= 1 && length <= 128 &&
           is_address(AF_INET6, address);
}

int handle_pif_reconfigure_ipv6(struct call *call, const struct pif_reconfigure_ipv6_args *args,
                                struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->self, err);
    bool fixed = args->mode == IPV6_CONFIGURATION_MODE_STATIC,
         none = args->mode == IPV6_CONFIGURATION_MODE_NONE;
    struct tx *tx;
    bool loses = none && pif && pif->primary_address_type == PRIMARY_ADDRESS_TYPE_IPV6;
    if (!pif || check_pif(pif, loses, err) < 0)
        return -1;
    if (fixed && !is_cidr6(args->IPv6))
        return err_invalid_cidr_address_specified(err, "IPv6");
    if (check_address(AF_INET6, "gateway", args->gateway, false, err) < 0 ||
        check_servers(args->DNS, err) < 0)
        return -1;
    if (pif->ipv6_configuration_mode == args->mode && !fixed)
        return 0;
    if (!fixed && !none)
        return err_pif_configuration_error(
            err, REF_TEXT(args->self),
            "What is asked for on the network is part of the host's own configuration: set it up there.");
    AUTO_STR_SET const struct str_set *list = fixed ? str_set_new(&args->IPv6, 1) : NULL;
    struct pif_row wanted = *pif;
    wanted.configured = true;
    wanted.IPv6 = list;
    wanted.ipv6_gateway = fixed ? args->gateway : "";
    if (give(call, pif, &wanted, err) < 0)
        return -1;
    struct pif_row *row = edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    row->ipv6_configuration_mode = args->mode;
    row->configured =
        fixed || (row->configured && row->ip_configuration_mode == IP_CONFIGURATION_MODE_STATIC);
    str_set_assign(&row->IPv6, str_set_ref(list));
    str_assign(&row->ipv6_gateway, wanted.ipv6_gateway);
    if (fixed && *args->DNS)
        str_assign(&row->DNS, args->DNS);
    return server_commit(tx, err);
}

int handle_pif_set_primary_address_type(struct call *call,
                                        const struct pif_set_primary_address_type_args *args,
                                        struct api_err *err)
{
    struct tx *tx;
    const struct pif_row *pif = pif_find(call, args->self, err);
    if (!pif)
        return -1;
    if (pif->management && pif->primary_address_type != args->primary_address_type)
        return err_pif_is_management_interface(err, REF_TEXT(args->self));
    struct pif_row *row = edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    row->primary_address_type = args->primary_address_type;
    return server_commit(tx, err);
}

int handle_pif_set_property(struct call *call, const struct pif_set_property_args *args, struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->self, err);
    struct hv_network_offload_args offload;
    struct hv_network_offload_result result;
    struct hv_err cause;
    struct tx *tx;
    if (!pif)
        return -1;
    if (pif->VLAN >= 0 || !ref_is_null(pif->bond_slave_of) || pif_is_tunnel_access(pif))
        return err_cannot_change_pif_properties(err, REF_TEXT(args->self));
    if (!streq(args->name, "gro") || (!streq(args->value, "on") && !streq(args->value, "off"))) {
        AUTO_STR const char *both = str_newf("%s = %s", args->name, args->value);
        return err_invalid_value(err, "properties", both);
    }
    struct hv_host *agent = hosts_get(call->server->hosts, pif->host, err);
    if (!agent)
        return -1;
    hv_network_offload_args_init(&offload);
    str_assign(&offload.device, pif->device);
    offload.gro = streq(args->value, "on");
    int rc = hv_network_offload(agent, NULL, &offload, &result, &cause);
    hv_network_offload_args_done(&offload);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return interfaces_fail(err, pif->host, args->self, &cause);
    hv_network_offload_result_done(&result);
    struct pif_row *row = edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    str_map_put(&row->properties, args->name, args->value);
    return server_commit(tx, err);
}
