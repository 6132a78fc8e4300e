/* Thin copies: images that stand on a common base, base-<uuid>.<format>, which is nobody's disk. A base is
 * only what some image in the folder names as its backing file; the names are read by us and must be of that
 * form, so that none leads out of the folder.
 *
 * Order of a copy of disk A (the essay on what a kill leaves):
 *   1. under temporary names, empty images over the base to be: the new top of A, and the copy;
 *   2. link: A's file gets its second name, base-X          a kill: a base without images on it, removed by
 * the sweep
 *   3. rename: the new top takes A's name                   a kill: A stands on the base, which holds all of
 * it (A was raw: its old name goes; a kill before: repair)
 *   4. rename: the copy takes its name.
 * A device model that had A open writes into base-X between 3 and its own change to the new top, which is
 * empty until then: whoever reads A in case of a death reads all that was written. Only the copy must wait
 * for it. */
#include "storage_internal.h"
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define BASE_PREFIX "base-"
#define PIECE ((off_t)16 << 20)

bool base_name_parse(const char *name, char uuid[static UUID_TEXT_SIZE], enum disk_format *format)
{
    size_t prefix = strlen(BASE_PREFIX);
    char text[UUID_TEXT_SIZE];
    struct ref parsed;
    if (strncmp(name, BASE_PREFIX, prefix) != 0 || strlen(name) <= prefix + 37 || name[prefix + 36] != '.' ||
        !disk_format_parse(name + prefix + 37, format))
        return false;
    snprintf(text, sizeof(text), "%s", name + prefix);
    if (!uuid_parse(text, &parsed))
        return false;
    uuid_format(parsed, uuid);
    return strncmp(uuid, name + prefix, 36) == 0;
}

static void base_name(char out[static FILE_NAME_SIZE], const char *uuid, enum disk_format format)
{
    snprintf(out, FILE_NAME_SIZE, BASE_PREFIX "%s.%s", uuid, disk_format_name(format));
}

/* ---- opening ---- */

void disk_layers_done(struct disk_layers *layers)
{
    for (size_t i = 0; i < layers->count; i++)
        disk_file_done(&layers->files[i]);
    free(layers->files);
    *layers = (struct disk_layers){0};
}

static int open_base(const struct storage_sr *sr, const char *name, int flags, struct disk_file *out,
                     struct storage_error *error)
{
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    char uuid[UUID_TEXT_SIZE];
    if (!base_name_parse(name, uuid, &d.format))
        return storage_fail(error, STORAGE_BAD_IMAGE, "the disk's image refers to another file");
    snprintf(d.name, sizeof(d.name), "%s", name);
    d.fd = folder_open(sr, name, flags);
    if (d.fd < 0)
        return storage_fail(error, STORAGE_BAD_IMAGE, "an image that the disk stands on cannot be opened: %s",
                            strerror(errno));
    if (disk_file_look(&d, error) < 0)
        return -1;
    *out = d;
    d.fd = -1;
    return 0;
}

/* Adds what files[0] stands on. */
static int open_below(const struct storage_sr *sr, int flags, struct disk_layers *layers,
                      struct storage_error *error)
{
    while (layers->files[layers->count - 1].backing[0]) {
        if (layers->count == LAYERS_MAX)
            return storage_fail(error, STORAGE_BAD_IMAGE, "the disk's images stand on each other too deeply");
        layers->files = xreallocarray(layers->files, layers->count + 1, sizeof(*layers->files));
        if (open_base(sr, layers->files[layers->count - 1].backing, layers->count == 1 ? flags : O_RDONLY,
                      &layers->files[layers->count], error) < 0)
            return -1;
        layers->count++;
    }
    return 0;
}

int disk_layers_open(const struct storage_sr *sr, const char *location, int flags, struct disk_layers *out,
                     struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {.files = xcalloc(1, sizeof(struct disk_file))};
    if (disk_file_open(sr, location, flags, &layers.files[0], error) < 0)
        return -1;
    layers.count = 1;
    if (open_below(sr, O_RDONLY, &layers, error) < 0)
        return -1;
    *out = layers;
    layers = (struct disk_layers){0};
    return 0;
}

int layers_open_from(const struct storage_sr *sr, const char *name, int flags, struct disk_layers *out,
                     struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {.files = xcalloc(1, sizeof(struct disk_file))};
    char location[FILE_NAME_SIZE];
    enum disk_format format;
    int outcome = disk_name_parse(sr, name, location, &format)
                      ? disk_file_open(sr, location, flags, &layers.files[0], error)
                      : open_base(sr, name, flags, &layers.files[0], error);
    if (outcome < 0)
        return -1;
    layers.count = 1;
    if (open_below(sr, flags, &layers, error) < 0)
        return -1;
    *out = layers;
    layers = (struct disk_layers){0};
    return 0;
}

/* ---- copying ---- */

struct storage_layer {
    struct storage_sr *sr;
    struct temp_file overlay, copy;
    char old_name[FILE_NAME_SIZE], top_name[FILE_NAME_SIZE], base_name[FILE_NAME_SIZE];
    char copy_name[FILE_NAME_SIZE];
    char token[24];
    char tracked[UUID_TEXT_SIZE], copy_uuid[UUID_TEXT_SIZE]; /* the disk, when its changes are to be noted */
    bool plain;                                              /* a full copy and no base */
    bool flat; /* the base is a full copy: what was below is in no use any more */
};

static void layer_free(struct storage_layer *layer)
{
    temp_done(&layer->overlay);
    temp_done(&layer->copy);
    free(layer);
}

static int name_base(struct storage_layer *layer, struct temp_file *flat, struct storage_error *error)
{
    if (flat->fd >= 0)
        return temp_commit(flat, layer->base_name, false, error);
    int dir = layer->sr->dir;
    return linkat(dir, layer->old_name, dir, layer->base_name, 0) == 0
               ? 0
               : storage_fail_errno(error, errno, "cannot make the disk a base");
}

/* Steps 2 and 3. */
static int change_names(struct storage_layer *layer, struct temp_file *flat, struct storage_error *error)
{
    struct storage_sr *sr = layer->sr;
    pthread_mutex_lock(&sr->layers);
    failpoint("layer:made");
    int outcome = name_base(layer, flat, error);
    failpoint("layer:linked");
    if (outcome == 0 &&
        temp_commit(&layer->overlay, layer->top_name, streq(layer->old_name, layer->top_name), error) < 0) {
        outcome = -1;
        if (layer->overlay.name[0])
            unlinkat(sr->dir, layer->base_name, 0);
    }
    if (outcome == 0 && !streq(layer->old_name, layer->top_name) && unlinkat(sr->dir, layer->old_name, 0) < 0)
        outcome = storage_fail_errno(error, errno, "cannot rename the disk");
    if (outcome == 0)
        outcome = folder_sync(sr, error);
    failpoint("layer:renamed");
    pthread_mutex_unlock(&sr->layers);
    return outcome;
}

/* `flat` becomes a full copy when the disk's images are too many. */
static int make_images(struct storage_layer *layer, const struct disk_layers *disk, struct temp_file *flat,
                       const struct storage_job *job, struct storage_error *error)
{
    const struct disk_file *top = &disk->files[0];
    char uuid[UUID_TEXT_SIZE];
    struct ref fresh = ref_new();
    enum disk_format format = layer->flat ? DISK_QCOW2 : top->format;
    uuid_format(fresh, uuid);
    base_name(layer->base_name, uuid, format);
    snprintf(layer->token, sizeof(layer->token), "%.8s%.4s%.4s", uuid, uuid + 9, uuid + 14);
    if (layer->flat) {
        if (temp_open(layer->sr, flat, error) < 0 ||
            disk_make(flat, DISK_QCOW2, top->virtual_size, error) < 0)
            return -1;
        struct conversion how = {.to = flat->fd,
                                 .to_format = DISK_QCOW2,
                                 .target_size = top->virtual_size,
                                 .job = job,
                                 .progress_to = 1};
        if (image_convert_layers(layer->sr, disk, &how, error) < 0)
            return -1;
    }
    if (temp_open(layer->sr, &layer->overlay, error) < 0 ||
        image_make_overlay(&layer->overlay, layer->base_name, format, top->virtual_size, error) < 0 ||
        temp_open(layer->sr, &layer->copy, error) < 0 ||
        image_make_overlay(&layer->copy, layer->base_name, format, top->virtual_size, error) < 0)
        return -1;
    return 0;
}

static int begin(struct storage_sr *sr, const char *location, const char *new_uuid, bool at_rest,
                 const struct storage_job *job, struct storage_layer **out, struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers disk = {0};
    AUTO_TEMP struct temp_file flat = TEMP_FILE_INIT;
    char uuid[UUID_TEXT_SIZE], copy[UUID_TEXT_SIZE];
    if (sr->kind->by_file)
        return storage_fail(error, STORAGE_NOT_SUPPORTED, "an SR of type %s makes no thin copies",
                            sr->kind->type);
    if (disk_refuse_change(sr, error) < 0 || disk_check_uuid(location, uuid, error) < 0 ||
        disk_check_uuid(new_uuid, copy, error) < 0 || disk_exists_already(sr, copy, error) < 0 ||
        disk_layers_open(sr, location, O_RDONLY, &disk, error) < 0)
        return -1;
    if (disk.count >= LAYERS_LIVE && !at_rest)
        return storage_fail(
            error, STORAGE_TOO_DEEP,
            "the disk's images stand on each other %zu deep: remove snapshots that nobody needs, or copy it "
            "while no VM runs with it",
            disk.count);
    if (at_rest && fsync(disk.files[0].fd) < 0)
        return storage_fail_errno(error, errno, "cannot write the disk's data");
    struct storage_layer *layer = xcalloc(1, sizeof(*layer));
    *layer = (struct storage_layer){.sr = sr,
                                    .overlay = TEMP_FILE_INIT,
                                    .copy = TEMP_FILE_INIT,
                                    .flat = at_rest && disk.count >= LAYERS_DEEP};
    snprintf(layer->old_name, sizeof(layer->old_name), "%s", disk.files[0].name);
    disk_file_name(layer->top_name, uuid, DISK_QCOW2);
    disk_file_name(layer->copy_name, copy, DISK_QCOW2);
    if (make_images(layer, &disk, &flat, job, error) < 0 || change_names(layer, &flat, error) < 0) {
        layer_free(layer);
        return -1;
    }
    *out = layer;
    return 0;
}

int storage_layer_begin(struct storage_sr *sr, const char *location, const char *new_uuid,
                        struct storage_layer **out, struct storage_error *error)
{
    return begin(sr, location, new_uuid, false, NULL, out, error);
}

/* Copies what holds data; holes stay holes. */
static int copy_bytes(int from, int to, int64_t size, const struct storage_job *job,
                      struct storage_error *error)
{
    for (off_t at = 0; at < size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return 0;
        off_t end = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
        if (end < 0)
            return storage_fail_errno(error, errno, "cannot read the disk's data");
        for (off_t in = data; in < end;) {
            off_t out = in, piece = end - in < PIECE ? end - in : PIECE;
            if (job_cancelled(job))
                return storage_fail(error, STORAGE_CANCELLED, "cancelled");
            ssize_t n = copy_file_range(from, &in, to, &out, (size_t)piece, 0);
            if (n < 0)
                return storage_fail_errno(error, errno, "cannot copy the disk's data");
            if (n == 0)
                return 0; /* it became shorter: what is missing reads as zeros */
            job_progress(job, (double)in / (double)size);
        }
        at = end;
    }
    return 0;
}

static int copy_plain(struct storage_sr *sr, const char *location, struct storage_sr *to_sr,
                      struct temp_file *to, const struct storage_job *job, struct storage_error *error)
{
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    if (disk_file_open(sr, location, O_RDONLY, &d, error) < 0)
        return -1;
    if (d.format != DISK_RAW)
        return storage_fail(error, STORAGE_NOT_SUPPORTED, "only raw disks can be copied as they are");
    if (temp_open(to_sr, to, error) < 0 || disk_make(to, DISK_RAW, d.virtual_size, error) < 0)
        return -1;
    return copy_bytes(d.fd, to->fd, d.virtual_size, job, error);
}

static int plain_target(struct storage_sr *to_sr, const char *to_uuid, char name[static FILE_NAME_SIZE],
                        struct storage_error *error)
{
    char uuid[UUID_TEXT_SIZE];
    if (disk_refuse_change(to_sr, error) < 0 || disk_check_uuid(to_uuid, uuid, error) < 0 ||
        disk_exists_already(to_sr, uuid, error) < 0)
        return -1;
    disk_file_name(name, uuid, DISK_RAW);
    return 0;
}

int storage_disk_copy_plain(struct storage_sr *sr, const char *location, struct storage_sr *to_sr,
                            const char *to_uuid, const struct storage_job *job, struct storage_error *error)
{
    AUTO_TEMP struct temp_file t = TEMP_FILE_INIT;
    char name[FILE_NAME_SIZE];
    if (plain_target(to_sr, to_uuid, name, error) < 0 || copy_plain(sr, location, to_sr, &t, job, error) < 0)
        return -1;
    return temp_commit(&t, name, false, error);
}

int storage_layer_begin_plain(struct storage_sr *sr, const char *location, const char *new_uuid,
                              struct storage_layer **out, struct storage_error *error)
{
    struct storage_layer *layer = xcalloc(1, sizeof(*layer));
    *layer =
        (struct storage_layer){.sr = sr, .overlay = TEMP_FILE_INIT, .copy = TEMP_FILE_INIT, .plain = true};
    if (plain_target(sr, new_uuid, layer->copy_name, error) < 0 ||
        copy_plain(sr, location, sr, &layer->copy, NULL, error) < 0) {
        layer_free(layer);
        return -1;
    }
    *out = layer;
    return 0;
}

int storage_layer_fd(const struct storage_layer *layer)
{
    return layer->overlay.fd;
}

const char *storage_layer_token(const struct storage_layer *layer)
{
    return layer->token;
}

static void forget_copy(struct storage_layer *layer)
{
    struct storage_error error;
    pthread_mutex_lock(&layer->sr->layers);
    if (changed_forget(layer->sr, layer->copy_uuid, &error) < 0)
        log_warn("storage", "a note of changed blocks stays for a disk that was not made", "disk",
                 layer->copy_uuid, "why", error.text);
    pthread_mutex_unlock(&layer->sr->layers);
}

int storage_layer_commit(struct storage_layer *layer, struct storage_error *error)
{
    int outcome = 0;
    if (layer->tracked[0]) {
        pthread_mutex_lock(&layer->sr->layers);
        outcome = changed_snapshot(layer->sr, layer->tracked, layer->copy_uuid, layer->base_name, error);
        pthread_mutex_unlock(&layer->sr->layers);
    }
    if (outcome == 0)
        outcome = temp_commit(&layer->copy, layer->copy_name, false, error);
    if (outcome < 0 && layer->tracked[0])
        forget_copy(layer);
    if (layer->flat)
        layers_sweep(layer->sr);
    layer_free(layer);
    return outcome;
}

/* The base is the disk again. */
static int undo_names(struct storage_layer *layer)
{
    int dir = layer->sr->dir;
    if (streq(layer->old_name, layer->top_name))
        return renameat(dir, layer->base_name, dir, layer->old_name);
    if (linkat(dir, layer->base_name, dir, layer->old_name, 0) < 0 || unlinkat(dir, layer->top_name, 0) < 0)
        return -1;
    return unlinkat(dir, layer->base_name, 0);
}

void storage_layer_abort(struct storage_layer *layer, bool applied)
{
    /* A disk that stands on a full copy of itself is as good as before. */
    if (!applied && !layer->flat && !layer->plain) {
        pthread_mutex_lock(&layer->sr->layers);
        struct storage_error error = {.text = ""};
        if (undo_names(layer) < 0 || folder_sync(layer->sr, &error) < 0)
            log_warn("storage", "a disk keeps the image of a copy that was not made", "file", layer->top_name,
                     "why", strerror(errno));
        pthread_mutex_unlock(&layer->sr->layers);
    }
    layer_free(layer);
}

void storage_layer_track(struct storage_layer *layer, const char *location, const char *new_uuid)
{
    struct storage_error ignored; /* they were checked */
    if (disk_check_uuid(location, layer->tracked, &ignored) < 0 ||
        disk_check_uuid(new_uuid, layer->copy_uuid, &ignored) < 0)
        layer->tracked[0] = '\0';
}

int storage_disk_clone(struct storage_sr *sr, const char *location, const char *new_uuid, bool track,
                       const struct storage_job *job, struct storage_error *error)
{
    struct storage_layer *layer;
    if (begin(sr, location, new_uuid, true, job, &layer, error) < 0)
        return -1;
    if (track)
        storage_layer_track(layer, location, new_uuid);
    return storage_layer_commit(layer, error);
}

/* ---- putting right ---- */

void layers_found_done(struct layers_found *f)
{
    free(f->items);
    free(f->tops);
    *f = (struct layers_found){.count = 0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct layer_found *)a)->name, ((const struct layer_found *)b)->name);
}

struct layer_found *layers_find_base(const struct layers_found *f, const char *name)
{
    struct layer_found key = {.users = 0};
    snprintf(key.name, sizeof(key.name), "%s", name);
    return f->count ? bsearch(&key, f->items, f->count, sizeof(key), by_name) : NULL;
}

static struct layer_found *add_found(struct layer_found **items, size_t *count, const char *name)
{
    *items = xreallocarray(*items, *count + 1, sizeof(**items));
    struct layer_found *one = &(*items)[(*count)++];
    *one = (struct layer_found){.users = 0};
    snprintf(one->name, sizeof(one->name), "%s", name);
    return one;
}

/* What a file of the folder stands on; "": nothing of ours. -1: that cannot be seen. */
static int read_backing(const struct storage_sr *sr, const char *name, char out[static FILE_NAME_SIZE])
{
    struct qcow2_header header;
    char first;
    int fd AUTO_CLOSE = folder_open(sr, name, O_RDONLY);
    out[0] = '\0';
    if (fd < 0) /* gone, or a link or folder, which is no image */
        return errno == ENOENT || errno == ELOOP || errno == EINVAL || errno == ENXIO || errno == EXDEV ? 0
                                                                                                        : -1;
    if (pread(fd, &first, 1, 0) < 0)
        return -1;
    if (!qcow2_header_read(fd, &header) || !header.backing_file)
        return 0;
    snprintf(out, FILE_NAME_SIZE, "%s", header.backing);
    return header.backing[0] ? 0 : -1;
}

static void note_base(const struct storage_sr *sr, const char *name, void *arg)
{
    struct layers_found *bases = arg;
    char uuid[UUID_TEXT_SIZE];
    enum disk_format format;
    (void)sr;
    if (base_name_parse(name, uuid, &format))
        add_found(&bases->items, &bases->count, name);
}

static bool holds_no_image(const char *name)
{
    size_t len = strlen(name);
    char uuid[UUID_TEXT_SIZE];
    /* What a raw disk holds is its guest's business. */
    return streq(name, ".") || streq(name, "..") || (len > 4 && streq(name + len - 4, ".raw")) ||
           changed_name_parse(name, uuid);
}

/* Everything counts that names a base, images under temporary names too. */
static void note_user(const struct storage_sr *sr, const char *name, void *arg)
{
    struct layers_found *bases = arg;
    char backing[FILE_NAME_SIZE], uuid[FILE_NAME_SIZE];
    enum disk_format format;
    if (holds_no_image(name))
        return;
    if (read_backing(sr, name, backing) < 0) {
        log_warn("storage", "a file cannot be examined: no base is removed", "file", name);
        bases->blind = true;
        return;
    }
    struct layer_found *below = backing[0] ? layers_find_base(bases, backing) : NULL;
    struct layer_found *self = layers_find_base(bases, name);
    if (below) {
        below->users++;
        snprintf(below->user, sizeof(below->user), "%s", name);
    }
    if (!self && below && disk_name_parse(sr, name, uuid, &format))
        self = add_found(&bases->tops, &bases->top_count, name);
    if (self)
        snprintf(self->backing, sizeof(self->backing), "%s", backing);
}

int layers_find(const struct storage_sr *sr, struct layers_found *out)
{
    *out = (struct layers_found){.count = 0};
    if (folder_each(sr, note_base, out) < 0)
        return -1;
    if (out->count == 0)
        return 0;
    qsort(out->items, out->count, sizeof(*out->items), by_name);
    return folder_each(sr, note_user, out);
}

static void sweep_locked(struct storage_sr *sr)
{
    AUTO_LAYERS_FOUND struct layers_found bases = {.count = 0};
    /* Without a look at every file nothing is known to be unused. */
    if (layers_find(sr, &bases) < 0 || bases.blind)
        return;
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < bases.count; i++) {
            struct layer_found *base = &bases.items[i];
            if (base->users > 0 || unlinkat(sr->dir, base->name, 0) < 0)
                continue;
            log_debug("storage", "removed a base that no disk stands on", "file", base->name);
            base->users = 1; /* once */
            struct layer_found *below = base->backing[0] ? layers_find_base(&bases, base->backing) : NULL;
            if (below && below->users > 0)
                below->users--;
            again = true;
        }
    }
}

void layers_sweep(struct storage_sr *sr)
{
    pthread_mutex_lock(&sr->layers);
    sweep_locked(sr);
    pthread_mutex_unlock(&sr->layers);
}

/* <uuid>.raw beside a <uuid>.qcow2 that stands on the same file: a death between steps 3 and 4. */
static void repair_one(const struct storage_sr *sr, const char *name, void *arg)
{
    char uuid[FILE_NAME_SIZE], top[FILE_NAME_SIZE], backing[FILE_NAME_SIZE];
    enum disk_format format;
    struct stat old_st, base_st;
    (void)arg;
    if (!disk_name_parse(sr, name, uuid, &format) || format != DISK_RAW)
        return;
    disk_file_name(top, uuid, DISK_QCOW2);
    if (read_backing(sr, top, backing) == 0 && backing[0] &&
        fstatat(sr->dir, name, &old_st, AT_SYMLINK_NOFOLLOW) == 0 &&
        fstatat(sr->dir, backing, &base_st, AT_SYMLINK_NOFOLLOW) == 0 && old_st.st_dev == base_st.st_dev &&
        old_st.st_ino == base_st.st_ino && unlinkat(sr->dir, name, 0) == 0)
        log_info("storage", "finished the change of a disk's name that was cut short", "file", name);
}

void layers_repair(struct storage_sr *sr)
{
    pthread_mutex_lock(&sr->layers);
    folder_each(sr, repair_one, NULL);
    sweep_locked(sr);
    pthread_mutex_unlock(&sr->layers);
}
