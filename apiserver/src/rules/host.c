/* Rules of hosts: what takes guests away excludes what brings them, and the host is out of service before it
 * goes. */
#include "device.h"

#include <base/mem.h>
#include <model/errors.h>

#define OP(name) (1u << HOST_ALLOWED_OPERATIONS_##name)

static const unsigned creating = OP(PROVISION) | OP(VM_RESUME) | OP(VM_MIGRATE) | OP(VM_START);
static const unsigned removing = OP(EVACUATE) | OP(REBOOT) | OP(SHUTDOWN);
static const unsigned ending = OP(REBOOT) | OP(SHUTDOWN) | OP(APPLY_UPDATES);

static bool in_the_way(unsigned op, unsigned running)
{
    if (op & creating)
        return running & (removing | ending);
    if (op & removing && running & creating)
        return true;
    return op & (removing | ending) && running & (removing | ending);
}

static int check_power_on(struct tx *tx, const struct host_row *host, const struct refusals *all,
                          struct api_err *err)
{
    const struct host_metrics_row *metrics = host_metrics_row(tx_get(tx, CLASS_host_metrics, host->metrics));
    if (metrics && metrics->live && refused(all, err_host_is_live(err, REF_TEXT(host->row.ref)), err))
        return -1;
    return *host->power_on_mode ? 0 : err_host_power_on_mode_disabled(err);
}

int host_operation_check(struct tx *tx, const struct host_row *host, enum host_allowed_operations op,
                         const struct refusals *all, struct api_err *err)
{
    unsigned bit = 1u << op;
    for (size_t i = 0; host->current_operations && i < host->current_operations->count; i++) {
        const struct str_pair *running = &host->current_operations->pairs[i];
        int other = enum_find(&model_enum_host_allowed_operations, running->value);
        if ((other < 0 || in_the_way(bit, 1u << other)) &&
            refused(all, operation_in_the_way(err, &host->row, running), err))
            return -1;
    }
    if (bit & ending && host->enabled && refused(all, err_host_not_disabled(err), err))
        return -1;
    return op == HOST_ALLOWED_OPERATIONS_POWER_ON ? check_power_on(tx, host, all, err) : 0;
}
