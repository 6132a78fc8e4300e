/* Several fields of one object set as one change. Each is judged as its own setter would be; those that only
 * store a value are then written in one transaction. A setter that does more (has a handler, marks an
 * operation) runs by itself before that, and what such ones have changed is put back when a later one is
 * refused. Blocks: for a worker.
 */
#pragma once
#include "../server.h"

struct patch_field {
    const struct method_desc *setter; /* of the object's class, with a reference and a value */
    json_t *value;                    /* as the XenAPI's JSON has it; the caller's */
};

/* `generation` not 0: only if the object is still in this version; else -1 with *changed set. 0, or -1 with
 * *err. */
int patch_apply(struct server *server, struct session *session, const char *peer, struct ref object,
                const struct patch_field *fields, size_t count, uint64_t generation, bool *changed,
                struct api_err *err);
/* It only stores a value. */
bool patch_stores_only(const struct method_desc *setter);
