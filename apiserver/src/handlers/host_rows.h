/* Rows of a host that goes. Within a transaction. */
#pragma once
#include <db/store.h>
#include <model/rows.h>

/* The host and what is its own: its measurements, its control domain, its connections to storage. */
void host_rows_delete(struct tx *tx, const struct host_row *host);
/* Repositories that no other host has, with their disks: they go with the host. Before host_rows_delete. */
void host_rows_delete_storage(struct tx *tx, const struct host_row *host);
