/* What an agent says of its host, into the host's rows. Within a transaction. */
#pragma once
#include <db/store.h>
#include <hv/types.h>
#include <model/rows.h>

/* Makes the rows of a host that joins: host, host_metrics, its control domain. */
struct ref host_rows_create(struct tx *tx, const char *uuid, const char *address, int port,
                            const struct host_facts *facts);
void host_rows_update(struct tx *tx, struct ref host, const struct host_facts *facts);
void host_rows_live(struct tx *tx, struct ref host, bool live, int64_t memory_free_bytes);
/* How the host's own system is set; nothing when its agent may not change that. */
void host_rows_system(struct host_row *host, const struct system_settings *system);
