/* The network interfaces of a simulated host: eth0 with an address and a default route, as a host has that
 * one logs in to, eth1 and eth2 with nothing but a cable. What calls change of them lasts as long as the
 * agent. */
#include "network_sim.h"
#include <base/mem.h>
#include <stdio.h>

#define CARDS 3
#define BONDS 8

struct sim_interfaces {
    struct host_interface items[CARDS + BONDS];
    size_t count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct sim_interfaces net;

static struct host_interface *add(const char *device, const char *mac)
{
    struct host_interface *one = &net.items[net.count++];
    host_interface_init(one);
    str_assign(&one->device, device);
    str_assign(&one->mac, mac);
    return one;
}

/* With the lock held: made when first asked for, of the host's uuid, so that they are the same each time. */
static struct host_interface *first(const struct agent *agent)
{
    char mac[18];
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (net.count)
        return net.items;
    sscanf(agent->host_uuid, "%2x%2x%2x%2x", &a, &b, &c, &d);
    for (unsigned i = 0; i < CARDS; i++) {
        char device[8], address[32];
        snprintf(device, sizeof(device), "eth%u", i);
        snprintf(mac, sizeof(mac), "02:%02x:%02x:%02x:%02x:%02x", a & 0xff, b & 0xff, c & 0xff, d & 0xff, i);
        struct host_interface *one = add(device, mac);
        one->speed_mbit = 1000;
        one->full_duplex = true;
        char bus[16];
        snprintf(bus, sizeof(bus), "0000:00:%02x.0", 3 + i);
        str_assign(&one->bus, bus);
        if (i > 0)
            continue;
        snprintf(address, sizeof(address), "192.0.2.%u/24", 1 + d % 250);
        str_assign(&one->address, address);
        str_assign(&one->gateway, "192.0.2.254");
        str_assign(&one->dns, "192.0.2.253");
    }
    return net.items;
}

static struct host_interface *find(const struct agent *agent, const char *device)
{
    struct host_interface *all = first(agent);
    for (size_t i = 0; i < net.count; i++)
        if (streq(all[i].device, device))
            return &all[i];
    return NULL;
}

/* With the lock held. */
static struct host_interface *need(const struct agent *agent, const char *device, struct hv_err *err)
{
    struct host_interface *found = find(agent, device);
    if (!found)
        hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The host has no interface %s.", device);
    return found;
}

void sim_network_list(struct agent *agent, struct hv_network_list_result *result)
{
    pthread_mutex_lock(&lock);
    first(agent);
    for (size_t i = 0; i < net.count; i++) {
        struct host_interface *slot = hv_network_list_result_add_interfaces(result);
        host_interface_done(slot);
        host_interface_copy(slot, &net.items[i]);
    }
    pthread_mutex_unlock(&lock);
}

/* As a bridge does with the interface that it gets. */
int sim_network_uplink(struct agent *agent, const char *device, struct hv_err *err)
{
    pthread_mutex_lock(&lock);
    struct host_interface *one = need(agent, device, err);
    if (one)
        one->up = one->carrier = true;
    pthread_mutex_unlock(&lock);
    return one ? 0 : -1;
}

/* The address is one of this host's. */
int sim_network_tunnel(struct agent *agent, const char *local, struct hv_err *err)
{
    size_t len = strlen(local);
    bool here = false;
    pthread_mutex_lock(&lock);
    first(agent);
    for (size_t i = 0; i < net.count; i++)
        here |= strncmp(net.items[i].address, local, len) == 0 && net.items[i].address[len] == '/';
    pthread_mutex_unlock(&lock);
    return here ? 0 : hv_fail(err, HV_ERR_KIND_NOT_FOUND, "%s is no address of this host.", local);
}

int sim_network_link(struct agent *agent, const char *device, bool up, struct hv_err *err)
{
    pthread_mutex_lock(&lock);
    struct host_interface *one = need(agent, device, err);
    int outcome = one ? 0 : -1;
    if (one && !up && (*one->address || one->addresses6_count))
        outcome = hv_fail(err, HV_ERR_KIND_IN_USE, "%s carries addresses of the host: it stays on.", device);
    if (outcome == 0)
        one->up = one->carrier = up;
    pthread_mutex_unlock(&lock);
    return outcome;
}

static bool is_former(const struct hv_network_addresses_args *args, const char *address)
{
    for (size_t i = 0; i < args->former_count; i++)
        if (streq(args->former[i], address))
            return true;
    for (size_t i = 0; i < args->addresses_count; i++)
        if (streq(args->addresses[i], address))
            return true;
    return false;
}

static void set_addresses(struct host_interface *one, const struct hv_network_addresses_args *args)
{
    for (size_t i = 0; i < one->addresses6_count; i++)
        str_assign(&one->addresses6[i], "");
    str_assign(&one->address, "");
    one->addresses6_count = 0;
    for (size_t i = 0; i < args->addresses_count; i++)
        if (strchr(args->addresses[i], ':'))
            host_interface_add_addresses6(one, args->addresses[i]);
        else
            str_assign(&one->address, args->addresses[i]);
    str_assign(&one->gateway, args->gateway);
    str_assign(&one->gateway6, args->gateway6);
    one->up = true;
}

int sim_network_addresses(struct agent *agent, const struct hv_network_addresses_args *args,
                          struct hv_err *err)
{
    pthread_mutex_lock(&lock);
    struct host_interface *one = need(agent, args->device, err);
    int outcome = one ? 0 : -1;
    bool strange = one && *one->address && !is_former(args, one->address);
    for (size_t i = 0; one && i < one->addresses6_count; i++)
        strange = strange || !is_former(args, one->addresses6[i]);
    if (strange)
        outcome =
            hv_fail(err, HV_ERR_KIND_IN_USE,
                    "%s carries addresses of the host's own configuration: change them there.", args->device);
    if (outcome == 0)
        set_addresses(one, args);
    pthread_mutex_unlock(&lock);
    return outcome;
}

int sim_network_bond(struct agent *agent, const struct hv_network_bond_args *args, struct hv_err *err)
{
    int outcome = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < args->members_count && outcome == 0; i++) {
        struct host_interface *member = need(agent, args->members[i], err);
        if (!member)
            outcome = -1;
        else if (*member->address)
            outcome =
                hv_fail(err, HV_ERR_KIND_IN_USE,
                        "%s carries addresses of the host: make the bond in the host's own configuration.",
                        args->members[i]);
    }
    if (outcome == 0 && !find(agent, args->device) && net.count == ARRAY_LEN(net.items))
        outcome = hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "A simulated host has %d bonds at most.", BONDS);
    if (outcome == 0) {
        struct host_interface *bond = find(agent, args->device);
        if (!bond)
            bond = add(args->device, "");
        bond->physical = false;
        bond->speed_mbit = 1000;
        bond->full_duplex = true;
        str_assign(&bond->mac, *args->mac ? args->mac : find(agent, args->members[0])->mac);
        for (size_t i = 0; i < args->members_count; i++)
            str_assign(&find(agent, args->members[i])->master, args->device);
    }
    pthread_mutex_unlock(&lock);
    return outcome;
}

void sim_network_unbond(struct agent *agent, const char *device)
{
    pthread_mutex_lock(&lock);
    struct host_interface *bond = find(agent, device);
    for (size_t i = 0; bond && i < net.count; i++)
        if (streq(net.items[i].master, device))
            str_assign(&net.items[i].master, "");
    if (bond && !bond->physical) {
        host_interface_done(bond);
        size_t at = (size_t)(bond - net.items);
        memmove(bond, bond + 1, (--net.count - at) * sizeof(*bond));
    }
    pthread_mutex_unlock(&lock);
}
