/* First rows, and what follows from those that are there. Idempotent: what exists is left alone. */
#include "bootstrap.h"

#include "gate/role_rows.h"
#include "handlers/storage.h"
#include "http/import.h"
#include "plan/overhead.h"
#include "rules/operations.h"
#include "server.h"
#include <base/log.h>

static bool first(const struct row *row, void *arg)
{
    *(struct ref *)arg = row->ref;
    return false;
}

static void add_network(struct tx *tx)
{
    static const struct str_pair config[] = {{"is_guest_installer_network", "false"},
                                             {"corral:kind", "user"}};
    struct network_row *network = network_row_mut(tx_create(tx, CLASS_network));
    str_assign(&network->name_label, "User-mode network (NAT)");
    str_assign(&network->name_description, "Each VM gets an address by DHCP and reaches the outside through "
                                           "its host; nothing outside reaches it");
    network->MTU = 1500;
    str_assign(&network->bridge, "user0");
    network->managed = true;
    str_map_assign(&network->other_config, str_map_new(config, sizeof(config) / sizeof(config[0])));
}

/* allowed_operations are in memory only. */
static void settle_operations(struct tx *tx)
{
    for (size_t i = 0; i < model_class_count; i++)
        if (model_classes[i].row_size && field_find(&model_classes[i], "allowed_operations"))
            tx_settle(tx, &model_classes[i], operations_settle, NULL);
}

int bootstrap(struct server *server, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    settle_operations(tx);
    overhead_refresh_all(tx);
    if (tx_count(tx, CLASS_pool) == 0) {
        struct pool_row *pool = pool_row_mut(tx_create(tx, CLASS_pool));
        pool->tls_verification_enabled = true;
        log_info("poold", "made a new pool", "pool", pool->uuid);
    }
    tx_each(tx, CLASS_pool, first, &server->pool_ref);
    if (tx_count(tx, CLASS_network) == 0)
        add_network(tx);
    role_rows_bootstrap(tx);
    storage_bootstrap(tx);
    import_sweep(tx);
    return server_commit(tx, err);
}
