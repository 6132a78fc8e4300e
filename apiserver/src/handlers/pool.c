/* pool.*: what is asked of the pool as a whole. */
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* Every change is on disk before it is acknowledged; what does not wait for it (tasks) does now. */
int handle_pool_sync_database(struct call *call, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    tx_renew(tx, CLASS_pool, call->server->pool_ref);
    tx_sync(tx);
    return server_commit(tx, err);
}

static int check_pool(const struct call *call, struct ref self, struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_pool, self) ? 0 : fail_handle(err, CLASS_pool, self);
}

int handle_pool_get_license_state(struct call *call, const struct pool_get_license_state_args *args,
                                  const struct str_map **result, struct api_err *err)
{
    static const struct str_pair state[] = {{"edition", "free"}, {"expiry", "never"}};
    if (check_pool(call, args->self, err) < 0)
        return -1;
    *result = str_map_new(state, ARRAY_LEN(state));
    return 0;
}

int handle_pool_apply_edition(struct call *call, const struct pool_apply_edition_args *args,
                              struct api_err *err)
{
    if (check_pool(call, args->self, err) < 0)
        return -1;
    return streq(args->edition, "free") ? 0 : err_invalid_edition(err, args->edition);
}

int handle_pool_has_extension(struct call *call, const struct pool_has_extension_args *args, bool *result,
                              struct api_err *err)
{
    *result = false; /* the API has no extensions */
    return check_pool(call, args->self, err);
}
