/* Files of blobs. New bytes stand in a file of their own until they are complete and on disk; its rename and
 * the row's new size come one behind the other, and blobs_start puts right what a crash between them leaves.
 */
#include "blobs.h"

#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART ".part"

/* Two uploads of one blob end one after the other, so that file and row agree. */
static pthread_mutex_t ending = PTHREAD_MUTEX_INITIALIZER;

static char *folder_of(const struct server *server)
{
    return xasprintf("%s/blobs", server->state_dir);
}

static char *path_of(const struct server *server, const char *uuid)
{
    return xasprintf("%s/blobs/%s", server->state_dir, uuid);
}

/* ---- rows ---- */

struct ref blob_create(struct tx *tx, const char *mime_type, bool is_public)
{
    struct blob_row *blob = blob_row_mut(tx_create(tx, CLASS_blob));
    str_assign(&blob->mime_type, *mime_type ? mime_type : "application/octet-stream");
    blob->public = is_public;
    return blob->row.ref;
}

void blobs_delete(struct tx *tx, const struct str_map *blobs)
{
    for (size_t i = 0; blobs && i < blobs->count; i++) {
        struct ref ref;
        if (ref_parse(blobs->pairs[i].value, &ref) && tx_get(tx, CLASS_blob, ref))
            tx_delete(tx, CLASS_blob, ref);
    }
}

/* ---- sweeping ---- */

void blob_forget(struct server *server, const char *uuid)
{
    if (server->rehearsal)
        return;
    AUTO_FREE char *path = path_of(server, uuid);
    if (unlink(path) < 0 && errno != ENOENT)
        log_warn("blobs", "the file of a blob that is gone could not be removed", "blob", uuid, "cause",
                 strerror(errno));
}

/* A file is made after its row: who has none when the file is already seen has lost it. */
static bool has_row(struct server *server, const char *name)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    return snapshot_by_uuid(snap, CLASS_blob, name) != NULL;
}

static bool is_part(const char *name)
{
    size_t len = strlen(name), end = strlen(PART);
    return len > end && streq(name + len - end, PART);
}

static void sweep(struct server *server, bool parts)
{
    AUTO_FREE char *folder = folder_of(server);
    DIR *dir = opendir(folder);
    if (!dir) {
        log_warn("blobs", "the folder of blobs could not be read", "cause", strerror(errno));
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && (is_part(entry->d_name) ? parts : !has_row(server, entry->d_name)))
            blob_forget(server, entry->d_name);
    closedir(dir);
}

void blobs_sweep(struct server *server)
{
    sweep(server, false);
}

struct sizes {
    struct server *server;
    struct tx *tx;
};

static bool correct_size(const struct row *row, void *arg)
{
    const struct sizes *sizes = arg;
    const struct blob_row *blob = blob_row(row);
    AUTO_FREE char *path = path_of(sizes->server, blob->uuid);
    struct stat st;
    int64_t size = stat(path, &st) == 0 ? st.st_size : 0;
    if (blob->size == size)
        return true;
    log_warn("blobs", "the size of a blob was not what its file has: corrected", "blob", blob->uuid);
    blob_row_mut(tx_edit(sizes->tx, CLASS_blob, row->ref))->size = size;
    return true;
}

int blobs_start(struct server *server)
{
    AUTO_FREE char *folder = folder_of(server);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
        log_error("blobs", "the folder of blobs could not be made", "cause", strerror(errno));
        return -1;
    }
    sweep(server, true);
    struct sizes sizes = {server, store_begin(server->store)};
    tx_each(sizes.tx, CLASS_blob, correct_size, &sizes);
    return server_commit(sizes.tx, &err);
}

/* ---- bytes ---- */

int blob_open(struct server *server, const char *uuid)
{
    AUTO_FREE char *path = path_of(server, uuid);
    return open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

int blob_upload_begin(struct server *server, const char *uuid, struct blob_upload *out)
{
    char *path = xasprintf("%s/blobs/%s.%s" PART, server->state_dir, uuid, UUID_TEXT(ref_new()));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        free(path);
        return -1;
    }
    *out = (struct blob_upload){fd, path};
    return 0;
}

void blob_upload_abort(struct blob_upload *upload)
{
    if (unlink(upload->path) < 0)
        log_warn("blobs", "an unfinished upload could not be removed; the next start does it", "cause",
                 strerror(errno));
    close(upload->fd);
    free(upload->path);
}

static int sync_folder(const struct server *server)
{
    AUTO_FREE char *folder = folder_of(server);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int place(struct server *server, struct ref ref, const struct blob_upload *upload, int64_t size,
                 struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct blob_row *now = blob_row(snapshot_get(snap, CLASS_blob, ref));
    if (!now)
        return fail_handle(err, CLASS_blob, ref);
    AUTO_FREE char *path = path_of(server, now->uuid);
    if (rename(upload->path, path) < 0 || sync_folder(server) < 0)
        return fail_internal(err, "The bytes of the blob could not be kept: %s.", strerror(errno));
    struct tx *tx = store_begin(server->store);
    if (!tx_get(tx, CLASS_blob, ref)) {
        tx_abort(tx);
        unlink(path); /* destroyed just now */
        return fail_handle(err, CLASS_blob, ref);
    }
    struct blob_row *blob = blob_row_mut(tx_edit(tx, CLASS_blob, ref));
    blob->size = size;
    blob->last_updated = clock_unix_seconds();
    return server_commit(tx, err);
}

int blob_upload_end(struct server *server, struct ref blob, struct blob_upload *upload, struct api_err *err)
{
    struct stat st;
    if (fsync(upload->fd) < 0 || fstat(upload->fd, &st) < 0) {
        fail_internal(err, "The bytes of the blob could not be kept: %s.", strerror(errno));
        blob_upload_abort(upload);
        return -1;
    }
    pthread_mutex_lock(&ending);
    int rc = place(server, blob, upload, st.st_size, err);
    pthread_mutex_unlock(&ending);
    if (rc < 0 && unlink(upload->path) < 0 && errno != ENOENT)
        log_warn("blobs", "an unfinished upload could not be removed; the next start does it", "cause",
                 strerror(errno));
    close(upload->fd);
    free(upload->path);
    return rc;
}
