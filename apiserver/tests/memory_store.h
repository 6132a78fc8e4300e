/* A store without a file. */
#pragma once
#include <criterion/criterion.h>
#include <db/store.h>

static inline struct store *store_new(void)
{
    struct store *store;
    struct store_err err;
    cr_assert_eq(store_open(&store, &(struct store_config){0}, &err), 0, "%s", err.text);
    return store;
}

static inline void commit(struct tx *tx)
{
    struct store_err err;
    cr_assert_eq(tx_commit(tx, NULL, &err), 0, "%s", err.text);
}
