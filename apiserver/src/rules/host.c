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

int host_operation_check(struct tx *tx, const struct host_row *host, enum host_allowed_operations op,
                         struct api_err *err)
{
    const char *self = REF_TEXT(host->row.ref);
    unsigned bit = 1u << op;
    for (size_t i = 0; host->current_operations && i < host->current_operations->count; i++) {
        const struct str_pair *running = &host->current_operations->pairs[i];
        int other = enum_find(&model_enum_host_allowed_operations, running->value);
        if (other < 0 || in_the_way(bit, 1u << other))
            return operation_in_the_way(err, &host->row, running);
    }
    if (bit & ending && host->enabled)
        return err_host_not_disabled(err);
    if (op == HOST_ALLOWED_OPERATIONS_POWER_ON) {
        const struct host_metrics_row *metrics =
            host_metrics_row(tx_get(tx, CLASS_host_metrics, host->metrics));
        if (metrics && metrics->live)
            return err_host_is_live(err, self);
        if (!*host->power_on_mode)
            return err_host_power_on_mode_disabled(err);
    }
    return 0;
}
