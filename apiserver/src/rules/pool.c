#include "pool.h"

static bool take(const struct row *row, void *arg)
{
    *(const struct row **)arg = row;
    return false;
}

const struct pool_row *pool_in(struct tx *tx)
{
    const struct row *row = NULL;
    tx_each(tx, CLASS_pool, take, &row);
    return pool_row(row);
}

struct ref pool_coordinator(struct tx *tx)
{
    const struct pool_row *pool = pool_in(tx);
    return pool ? pool->master : REF_NULL;
}
