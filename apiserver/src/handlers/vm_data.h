/* VM.xenstore_data: keys that begin with vm-data/ are shared with the guest while it runs
 * (docs/guest-data.md). The agent of its host has the truth then; the row follows. */
#pragma once
#include <db/store.h>
#include <hv/client.h>
#include <model/rows.h>

struct call;

/* The part that a guest shares, for its configuration. The caller has a count. NULL: nothing. */
const struct str_map *vm_data_shared(const struct vm_row *vm);
/* Within a transaction: the guest's part is `shared` now. */
void vm_data_record(struct tx *tx, struct ref vm, const struct str_map *shared);
/* The domain was started with `started`, and its row says so now: what was set meanwhile is sent after it. */
void vm_data_settle(struct call *call, struct ref vm, const struct str_map *started);
