/* Whether a pool of one host may join another one: xapi's list, in its order. */
#pragma once
#include "remote.h"
#include <db/store.h>

/* `remote` is logged in. `force` leaves out that processors are alike. 0, or -1 with the first error. */
int join_check(const struct snapshot *snap, struct ref pool, struct remote *remote, bool force,
               struct api_err *err);
