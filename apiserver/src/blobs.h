/* Where the bytes of blobs are: DIR/blobs, a file each, named by the blob's uuid. The row says how many bytes
 * there are; a file that has no row is swept away. Blocking: for workers, and before the server answers. */
#pragma once
#include "server.h"

#define BLOB_BYTES_MAX (128LL * 1024 * 1024)

/* Makes the folder, removes what unfinished uploads and dead blobs left, and corrects sizes that a crash kept
 * from being recorded. 0, or -1 after logging why. */
int blobs_start(struct server *server);
/* Removes files without a row, apart from uploads under way. */
void blobs_sweep(struct server *server);

/* Makes a blob's row. An empty type becomes application/octet-stream. */
struct ref blob_create(struct tx *tx, const char *mime_type, bool is_public);
/* With an owner whose row is deleted in the same transaction; the files go with the next sweep. */
void blobs_delete(struct tx *tx, const struct str_map *blobs);
/* Removes the file of a blob whose row is gone. */
void blob_forget(struct server *server, const char *uuid);

/* Its bytes for reading; a new empty file when it never had any. -1 with errno. */
int blob_open(struct server *server, const char *uuid);
/* A file for new bytes, which replace the old ones when all have arrived. */
struct blob_upload {
    int fd;
    char *path; /* temporary */
};
int blob_upload_begin(struct server *server, const char *uuid, struct blob_upload *out);
/* Puts the bytes in place and records their number and the time: 0, or -1. Frees the upload in any case. */
int blob_upload_end(struct server *server, struct ref blob, struct blob_upload *upload, struct api_err *err);
void blob_upload_abort(struct blob_upload *upload);
