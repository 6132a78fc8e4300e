/* Bonds: several interfaces that work as one, by the kernel's bonding driver. */
#include "netlink.h"
#include <base/mem.h>
#include <linux/if.h>
#include <linux/if_bonding.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/addr.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <stdio.h>
#include <stdlib.h>

/* Traffic of one guest over one member, without the switch's help. */
#define HASH_VLAN_SRCMAC 5
#define MIIMON_MS 100
#define DELAY_MAX_MS 3600000

static int number(const struct str_map *properties, const char *key, uint32_t most, uint32_t *slot,
                  struct network_error *error)
{
    const char *text = str_map_get(properties, key);
    char *end;
    if (!text)
        return 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value > most)
        return network_fail(error, NETWORK_BAD_NAME, "%s is a number up to %u.", key, (unsigned)most);
    *slot = (uint32_t)value;
    return 0;
}

int network_bond_options(const struct network_bond *bond, struct network_bond_options *out,
                         struct network_error *error)
{
    struct network_bond_options o = {.miimon_ms = MIIMON_MS, .use_carrier = 1};
    uint32_t use_carrier = 1;
    const char *hash = str_map_get(bond->properties, "hashing_algorithm");
    const char *time = str_map_get(bond->properties, "lacp-time");
    switch (bond->mode) {
    case NETWORK_BOND_BALANCE_SLB:
        o.mode = BOND_MODE_XOR;
        o.hash_policy = HASH_VLAN_SRCMAC;
        break;
    case NETWORK_BOND_ACTIVE_BACKUP:
        o.mode = BOND_MODE_ACTIVEBACKUP;
        break;
    case NETWORK_BOND_LACP:
        o.mode = BOND_MODE_8023AD;
        o.hash_policy = hash && streq(hash, "src_mac") ? HASH_VLAN_SRCMAC : BOND_XMIT_POLICY_LAYER34;
        break;
    }
    if (hash && !streq(hash, "src_mac") && !streq(hash, "tcpudp_ports"))
        return network_fail(error, NETWORK_BAD_NAME, "hashing_algorithm is src_mac or tcpudp_ports.");
    if (time && !streq(time, "fast") && !streq(time, "slow"))
        return network_fail(error, NETWORK_BAD_NAME, "lacp-time is fast or slow.");
    o.lacp_fast = bond->mode == NETWORK_BOND_LACP && time && streq(time, "fast");
    if (number(bond->properties, "miimon", DELAY_MAX_MS, &o.miimon_ms, error) < 0 ||
        number(bond->properties, "updelay", DELAY_MAX_MS, &o.up_delay_ms, error) < 0 ||
        number(bond->properties, "downdelay", DELAY_MAX_MS, &o.down_delay_ms, error) < 0 ||
        number(bond->properties, "use_carrier", 1, &use_carrier, error) < 0)
        return -1;
    o.use_carrier = (uint8_t)use_carrier;
    *out = o;
    return 0;
}

/* libnl has no setters for these. The mode can only be said while there are no members. */
static int put_options(struct nl_msg *msg, const struct network_bond_options *o, bool first)
{
    if (first && nla_put_u8(msg, IFLA_BOND_MODE, o->mode) < 0)
        return -1;
    if (nla_put_u32(msg, IFLA_BOND_MIIMON, o->miimon_ms) < 0 ||
        nla_put_u32(msg, IFLA_BOND_UPDELAY, o->up_delay_ms) < 0 ||
        nla_put_u32(msg, IFLA_BOND_DOWNDELAY, o->down_delay_ms) < 0 ||
        nla_put_u8(msg, IFLA_BOND_USE_CARRIER, o->use_carrier) < 0)
        return -1;
    if (o->mode != BOND_MODE_ACTIVEBACKUP && nla_put_u8(msg, IFLA_BOND_XMIT_HASH_POLICY, o->hash_policy) < 0)
        return -1;
    return o->mode == BOND_MODE_8023AD ? nla_put_u8(msg, IFLA_BOND_AD_LACP_RATE, o->lacp_fast) : 0;
}

static int send_bond(struct nl_sock *sock, const char *name, const struct network_bond_options *o, bool first,
                     struct network_error *error)
{
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWLINK, first ? NLM_F_CREATE | NLM_F_EXCL : 0);
    struct nlattr *info, *data;
    int rc = -NLE_NOMEM;
    if (msg && nlmsg_append(msg, &header, sizeof(header), NLMSG_ALIGNTO) == 0 &&
        nla_put_string(msg, IFLA_IFNAME, name) == 0 && (info = nla_nest_start(msg, IFLA_LINKINFO)) &&
        nla_put_string(msg, IFLA_INFO_KIND, "bond") == 0 && (data = nla_nest_start(msg, IFLA_INFO_DATA)) &&
        put_options(msg, o, first) == 0) {
        nla_nest_end(msg, data);
        nla_nest_end(msg, info);
        rc = nl_send_sync(sock, msg); /* frees the message */
    } else {
        nlmsg_free(msg);
    }
    if (rc == -NLE_OPNOTSUPP)
        return network_fail(error, NETWORK_NOT_ALLOWED,
                            "The host's kernel has no bonds (its module bonding is missing).");
    return rc < 0 ? network_fail_netlink(error, rc, "make", name) : 0;
}

static int check_member(struct nl_sock *sock, const char *name, int bond, struct network_error *error)
{
    AUTO_LINK struct rtnl_link *link = NULL;
    if (network_check_name(name, error) < 0)
        return -1;
    int found = link_find(sock, name, &link, error);
    if (found <= 0)
        return found < 0 ? -1 : network_fail(error, NETWORK_NO_DEVICE, "The host has no interface %s.", name);
    int master = rtnl_link_get_master(link);
    if (master > 0 && master != bond)
        return network_fail(error, NETWORK_CONFLICT, "%s belongs to a bridge or another bond.", name);
    int strange = link_strange_addresses(sock, rtnl_link_get_ifindex(link), NULL, 0, error);
    if (strange > 0)
        return network_fail(
            error, NETWORK_CONFLICT,
            "%s carries addresses of the host: make the bond in the host's own configuration.", name);
    return strange;
}

static int add_member(struct nl_sock *sock, const char *name, int bond, struct network_error *error)
{
    AUTO_LINK struct rtnl_link *link = NULL, *down = rtnl_link_alloc();
    if (link_find(sock, name, &link, error) != 1)
        return network_fail(error, NETWORK_NO_DEVICE, "The host has no interface %s.", name);
    if (rtnl_link_get_master(link) == bond)
        return 0;
    /* A bond takes only what is switched off. */
    rtnl_link_unset_flags(down, IFF_UP);
    int rc = rtnl_link_change(sock, link, down, 0);
    if (rc < 0)
        return network_fail_netlink(error, rc, "switch off", name);
    AUTO_LINK struct rtnl_link *off = NULL;
    if (link_find(sock, name, &off, error) != 1)
        return network_fail(error, NETWORK_NO_DEVICE, "The host has no interface %s.", name);
    return link_settle(sock, off, 0, bond, error);
}

static int fill(struct nl_sock *sock, struct rtnl_link *link, const struct network_bond *bond,
                struct network_error *error)
{
    AUTO_LINK struct rtnl_link *change = rtnl_link_alloc();
    char alias[ALIAS_SIZE];
    struct nl_addr *mac = NULL;
    link_alias(bond->owner, alias);
    rtnl_link_set_ifalias(change, alias);
    if (*bond->mac && nl_addr_parse(bond->mac, AF_LLC, &mac) == 0)
        rtnl_link_set_addr(change, mac);
    int rc = rtnl_link_change(sock, link, change, 0);
    if (mac)
        nl_addr_put(mac);
    if (rc < 0)
        return network_fail_netlink(error, rc, "change", bond->name);
    for (size_t i = 0; i < bond->member_count; i++)
        if (add_member(sock, bond->members[i], rtnl_link_get_ifindex(link), error) < 0)
            return -1;
    return link_settle(sock, link, 0, 0, error);
}

int network_bond_ensure(const struct network_bond *bond, struct network_error *error)
{
    struct network_bond_options options;
    if (network_check_name(bond->name, error) < 0 || network_bond_options(bond, &options, error) < 0)
        return -1;
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    AUTO_LINK struct rtnl_link *link = NULL;
    int found = sock ? link_find(sock, bond->name, &link, error) : -1;
    if (found < 0)
        return -1;
    if (found && !link_is_ours(link, bond->owner))
        return network_fail(error, NETWORK_CONFLICT, "%s is there and is the host's own.", bond->name);
    for (size_t i = 0; i < bond->member_count; i++)
        if (check_member(sock, bond->members[i], found ? rtnl_link_get_ifindex(link) : 0, error) < 0)
            return -1;
    if (send_bond(sock, bond->name, &options, !found, error) < 0)
        return -1;
    if (!found && link_find(sock, bond->name, &link, error) != 1)
        return network_fail(error, NETWORK_SYSTEM, "%s vanished as soon as it was made.", bond->name);
    if (fill(sock, link, bond, error) == 0)
        return 0;
    if (!found)
        rtnl_link_delete(sock, link);
    return -1;
}

int network_bond_remove(const char *name, const char *owner, struct network_error *error)
{
    if (network_check_name(name, error) < 0)
        return -1;
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    AUTO_LINK struct rtnl_link *link = NULL;
    int found = sock ? link_find(sock, name, &link, error) : -1;
    if (found <= 0 || !link_is_ours(link, owner))
        return found < 0 ? -1 : 0;
    return link_delete(sock, rtnl_link_get_ifindex(link), name, error);
}
