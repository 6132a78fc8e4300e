/* What an export of metadata writes, for other parts of the server. */
#pragma once
#include "../server.h"
#include <base/buf.h>

/* VMs of `snap`, which may be of another database, at rest and with their snapshots, as the archive that
 * GET /export_metadata gives. */
int export_metadata(struct server *server, const struct snapshot *snap, const struct ref *vms, size_t count,
                    struct buf *out, struct api_err *err);
/* The same of one VM without its snapshots and network cards. */
int export_metadata_bare(struct server *server, const struct snapshot *snap, const struct vm_row *vm,
                         struct buf *out, struct api_err *err);
