/* Records of a VM that are kept as text in its own fields: last_booted_record and snapshot_metadata. They are
 * the record as JSON; nobody but this server reads them. Pure. */
#pragma once
#include <model/rows.h>

/* The record of the VM as it is. rc string; the caller's count. */
const char *vm_record_text(const struct vm_row *vm);
/* A row that is in no store, with what the text says; NULL: it is not such a text. */
struct row *vm_record_read(const char *text);
/* Takes over into `to` every field of `from` that is a setting of people: not its identity, state, place in a
 * snapshot tree or in groups, nor what the server keeps of it. */
void vm_record_take_settings(struct vm_row *to, const struct vm_row *from);
/* Every field that is the class's own: neither the uuid nor the sets that relations fill. */
void row_take_fields(struct row *to, const struct row *from);
/* A copy of the VM's row in which what is fixed while the VM lives (memory, processors, how it boots) is as
 * it was when it started. The caller's count. */
struct row *vm_record_as_booted(const struct vm_row *vm);
