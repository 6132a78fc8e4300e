/* Uploads in parts, as rows. VDI.upload says what is on its way: until it is whole (and checked) the disk
 * holds what it held, and the rules refuse everything with it. The bytes wait on the SR, where an agent knows
 * how many count; SR.unfinished_disks names them, so that they go when nobody sends any more for
 * server->upload_keep_s, or when the VDI is gone.
 *
 * The last byte counts only when the disk is whole: who is told that all bytes are there, is told that the
 * upload has succeeded. All functions but upload_of block. */
#pragma once
#include "storage.h"

struct upload {
    char id[UUID_TEXT_SIZE];
    int64_t length, until; /* bytes; Unix seconds */
    enum image_format format;
    bool open;                     /* else it is finished */
    bool finishing;                /* the agent was asked to make it the disk's content */
    const char *sha256, *metadata; /* "" unless given; borrowed from the row */
};
/* False: there is none. */
bool upload_of(const struct vdi_row *vdi, struct upload *out);

/* Begins one, with `length`, `format`, `sha256` and `metadata` of `upload`, which then has its `id` and
 * `until`, too. */
int upload_begin(struct server *server, struct ref vdi, struct upload *upload, struct api_err *err);
/* All that keeps it from beginning, one by one. */
void upload_refusals(struct server *server, struct ref vdi, const struct upload *wish,
                     void (*each)(void *arg, const struct api_err *err), void *arg);
/* How many bytes count; *all_there (may be NULL): the last one has come, too, and only the end is missing.
 * HANDLE_INVALID: it is not, or not any more, an upload of this VDI. */
int upload_offset(struct server *server, struct ref vdi, const char *id, int64_t *offset, bool *all_there,
                  struct api_err *err);
/* The upload is `task`'s alone until upload_release, and kept for the whole time anew. A task that has it
 * already is cancelled: its client has lost the connection, and comes again. OTHER_OPERATION_IN_PROGRESS when
 * that does not end soon. */
int upload_take(struct server *server, struct ref vdi, const char *id, struct ref task, struct api_err *err);
void upload_release(struct server *server, struct ref vdi, struct ref task);
/* All bytes have come, and the caller has taken it: checks them and makes them the disk's content. Data that
 * is not what was announced ends the upload: IMPORT_ERROR. */
int upload_finish(struct server *server, struct ref vdi, const char *id, const struct hv_op *op,
                  struct api_err *err);
/* Its client ends it, also while bytes come: those are forgotten. */
int upload_end(struct server *server, struct ref vdi, const char *id, struct api_err *err);

/* For the sweep: may what SR.unfinished_disks calls `value` go? An upload that nobody sends any more is ended
 * for that. */
bool upload_may_go(struct server *server, const char *id, const char *value);
/* It is an upload's. */
bool upload_is_value(const char *value);
