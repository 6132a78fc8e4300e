/* Network cards on bridges: their taps, and what of them can change while the guest runs. */
#include "internal.h"
#include <base/mem.h>
#include <hv/network.h>

static struct network_card card_of(const char *domain, const struct domain_nic *nic)
{
    static const enum network_locking locking[] = {[NIC_LOCKING_OPEN] = NETWORK_OPEN,
                                                   [NIC_LOCKING_LOCKED] = NETWORK_LOCKED,
                                                   [NIC_LOCKING_CLOSED] = NETWORK_CLOSED};
    return (struct network_card){.owner = domain,
                                 .index = (int)nic->index,
                                 .mac = nic->mac,
                                 .locking = locking[nic->locking],
                                 .ipv4 = nic->ipv4_allowed,
                                 .ipv4_count = nic->ipv4_allowed_count,
                                 .ipv6 = nic->ipv6_allowed,
                                 .ipv6_count = nic->ipv6_allowed_count,
                                 .rate_kbytes = nic->rate_kbytes,
                                 .trunks = nic->trunks,
                                 .trunk_count = nic->trunks_count};
}

static int to_hv(struct hv_err *err, const struct network_error *error)
{
    switch (error->kind) {
    case NETWORK_NOT_ALLOWED:
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "%s", error->text);
    case NETWORK_BAD_NAME:
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "%s", error->text);
    case NETWORK_NO_DEVICE:
    case NETWORK_CONFLICT:
    case NETWORK_SYSTEM:
        break;
    }
    return hv_fail(err, HV_ERR_KIND_IO, "%s", error->text);
}

int nic_open_tap(const char *domain, const struct domain_nic *nic, struct hv_err *err)
{
    const struct network_card card = card_of(domain, nic);
    struct network_error error;
    int fd;
    return network_tap_open(nic->bridge, &card, &fd, &error) == 0 ? fd : to_hv(err, &error);
}

static void replace(struct rundir_record *record, void *arg)
{
    const struct domain_nic *nic = arg;
    for (size_t i = 0; i < record->config.nics_count; i++)
        if (record->config.nics[i].index == nic->index) {
            domain_nic_done(&record->config.nics[i]);
            domain_nic_copy(&record->config.nics[i], nic);
        }
}

int qemu_nic_update(struct hv_driver_state *state, const char *uuid, const struct domain_nic *nic,
                    const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    const struct network_card card = card_of(uuid, nic);
    struct network_error error;
    (void)deadline;
    if (!d)
        return -1;
    /* Written down after it is so: the same call again, after a death between the two, does both. */
    if (nic->kind == NIC_KIND_BRIDGE && network_tap_change(nic->bridge, &card, &error) < 0)
        return to_hv(err, &error);
    return domain_change(d, replace, (void *)(uintptr_t)nic, err);
}
