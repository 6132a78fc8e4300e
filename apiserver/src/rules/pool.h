/* The one row of class pool, and who speaks for the pool. */
#pragma once
#include <db/store.h>
#include <model/rows.h>

/* NULL before there is one. Valid as long as the transaction. */
const struct pool_row *pool_in(struct tx *tx);
/* The coordinator's host; null before one is known. */
struct ref pool_coordinator(struct tx *tx);
