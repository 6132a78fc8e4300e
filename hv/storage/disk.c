/* Disks: names, finding, making, removing, growing, handing out. Content goes in and out in import.c
 * and export.c. */
#include "storage_internal.h"
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>

#define SIZE_MAX_BYTES (INT64_C(64) << 40)

static const enum disk_format formats[] = {DISK_QCOW2, DISK_RAW};

/* ---- names and sizes ---- */

int disk_check_uuid(const char *uuid, char out[static UUID_TEXT_SIZE], struct storage_error *error)
{
    struct ref parsed;
    if (!uuid_parse(uuid, &parsed))
        return storage_fail(error, STORAGE_BAD_NAME, "a disk of this SR is named by a uuid");
    uuid_format(parsed, out); /* one spelling for one disk */
    return 0;
}

int disk_check_size(int64_t size, int64_t *out, struct storage_error *error)
{
    if (size <= 0 || size > SIZE_MAX_BYTES)
        return storage_fail(error, STORAGE_BAD_SIZE, "a disk has from 1 byte to 64 TiB, not %lld",
                            (long long)size);
    *out = (size + 511) / 512 * 512;
    return 0;
}

/* One plain component of a path. */
static bool is_file_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len >= FILE_NAME_SIZE || name[0] == '.' || strchr(name, '/') || !utf8_valid(name, len))
        return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcasecmp(name + len - suffix_len, suffix) == 0;
}

bool disk_name_parse(const struct storage_sr *sr, const char *name, char location[static FILE_NAME_SIZE],
                     enum disk_format *format)
{
    if (sr->kind->by_file) {
        *format = DISK_RAW;
        if (!is_file_name(name) || !has_suffix(name, ".iso"))
            return false;
        snprintf(location, FILE_NAME_SIZE, "%s", name);
        return true;
    }
    char text[UUID_TEXT_SIZE];
    struct ref uuid;
    if (strlen(name) <= 37 || name[36] != '.' || !disk_format_parse(name + 37, format))
        return false;
    snprintf(text, sizeof(text), "%s", name);
    if (!uuid_parse(text, &uuid))
        return false;
    uuid_format(uuid, location);
    return strncmp(location, name, 36) == 0; /* lower case only */
}

void disk_file_name(char out[static FILE_NAME_SIZE], const char *uuid, enum disk_format format)
{
    snprintf(out, FILE_NAME_SIZE, "%s.%s", uuid, disk_format_name(format));
}

int disk_refuse_change(const struct storage_sr *sr, struct storage_error *error)
{
    return sr->kind->read_only ? storage_fail(error, STORAGE_READ_ONLY, "the disks of this SR are read-only")
                               : 0;
}

/* ---- finding ---- */

void disk_file_done(struct disk_file *d)
{
    fd_close_cleanup(&d->fd);
}

int disk_file_look(struct disk_file *d, struct storage_error *error)
{
    if (fstat(d->fd, &d->st) < 0)
        return storage_fail_errno(error, errno, "cannot look at the disk's file");
    d->virtual_size = d->st.st_size;
    if (d->format != DISK_QCOW2)
        return 0;
    struct qcow2_header header;
    if (!qcow2_header_read(d->fd, &header))
        return storage_fail(error, STORAGE_BAD_IMAGE, "the disk's file is not a qcow2 image");
    char base[UUID_TEXT_SIZE];
    enum disk_format base_format;
    if (header.data_file || (header.backing_file && !base_name_parse(header.backing, base, &base_format)))
        return storage_fail(error, STORAGE_BAD_IMAGE, "the disk's image refers to another file");
    snprintf(d->backing, sizeof(d->backing), "%s", header.backing);
    d->virtual_size = header.virtual_size;
    return 0;
}

/* 1: found; 0: no such file; -1: *error. */
static int try_name(const struct storage_sr *sr, int flags, struct disk_file *d, struct storage_error *error)
{
    d->fd = folder_open(sr, d->name, flags);
    if (d->fd >= 0)
        return 1;
    if (errno == ENOENT)
        return 0;
    if (errno == ELOOP || errno == EINVAL || errno == ENXIO || errno == EXDEV)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the disk's file is not a regular file");
    return storage_fail_errno(error, errno, "cannot open the disk's file");
}

int disk_file_open(const struct storage_sr *sr, const char *location, int flags, struct disk_file *out,
                   struct storage_error *error)
{
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    int found = 0;
    if (sr->kind->by_file) {
        if (!is_file_name(location) || !has_suffix(location, ".iso"))
            return storage_fail(error, STORAGE_BAD_NAME, "a disk of this SR is named by a plain file name");
        snprintf(d.name, sizeof(d.name), "%s", location);
        d.format = DISK_RAW;
        found = try_name(sr, flags, &d, error);
    } else {
        char uuid[UUID_TEXT_SIZE];
        if (disk_check_uuid(location, uuid, error) < 0)
            return -1;
        for (size_t i = 0; i < ARRAY_LEN(formats) && found == 0; i++) {
            d.format = formats[i];
            disk_file_name(d.name, uuid, d.format);
            found = try_name(sr, flags, &d, error);
        }
    }
    if (found < 0)
        return -1;
    if (found == 0)
        return storage_fail(error, STORAGE_NO_DISK, "there is no such disk in the SR");
    if (disk_file_look(&d, error) < 0)
        return -1;
    *out = d;
    d.fd = -1;
    return 0;
}

int storage_disk_stat(struct storage_sr *sr, const char *location, struct storage_disk *out,
                      struct storage_error *error)
{
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    if (disk_file_open(sr, location, O_RDONLY, &d, error) < 0)
        return -1;
    char name[FILE_NAME_SIZE];
    enum disk_format format;
    if (!disk_name_parse(sr, d.name, name, &format))
        return storage_fail(error, STORAGE_BAD_NAME, "the disk's file has an odd name");
    *out = (struct storage_disk){
        .location = xstrdup(name),
        .format = d.format,
        .read_only = sr->kind->read_only,
        .virtual_size_bytes = d.virtual_size,
        .physical_bytes = (int64_t)d.st.st_blocks * 512,
    };
    if (d.backing[0])
        base_name_parse(d.backing, out->parent, &format);
    /* Whoever changes the content writes to this file, or puts another in its place. */
    snprintf(out->version, sizeof(out->version), "%llx-%llx-%llx", (unsigned long long)d.st.st_ino,
             (unsigned long long)d.st.st_size,
             (unsigned long long)d.st.st_mtim.tv_sec * 1000000000ULL +
                 (unsigned long long)d.st.st_mtim.tv_nsec);
    return 0;
}

int storage_disk_open(struct storage_sr *sr, const char *location, bool writable, int *fd,
                      enum disk_format *format, struct storage_error *error)
{
    if (writable && disk_refuse_change(sr, error) < 0)
        return -1;
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    if (disk_file_open(sr, location, writable ? O_RDWR : O_RDONLY, &d, error) < 0)
        return -1;
    if (d.backing[0])
        return storage_fail(error, STORAGE_NOT_SUPPORTED, "the disk is a thin copy, not one file");
    *format = d.format;
    *fd = TAKE_FD(d.fd);
    return 0;
}

int storage_disk_open_images(struct storage_sr *sr, const char *location, bool writable,
                             struct storage_images *out, struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    if ((writable && disk_refuse_change(sr, error) < 0) ||
        disk_layers_open(sr, location, writable ? O_RDWR : O_RDONLY, &layers, error) < 0)
        return -1;
    out->items = xcalloc(layers.count, sizeof(*out->items));
    out->count = layers.count;
    for (size_t i = 0; i < layers.count; i++)
        out->items[i] = (struct storage_image){TAKE_FD(layers.files[i].fd), layers.files[i].format};
    return 0;
}

void storage_images_done(struct storage_images *images)
{
    for (size_t i = 0; i < images->count; i++)
        fd_close_cleanup(&images->items[i].fd);
    free(images->items);
    *images = (struct storage_images){0};
}

/* ---- changing ---- */

int disk_make(struct temp_file *t, enum disk_format format, int64_t size, struct storage_error *error)
{
    if (format == DISK_RAW)
        return ftruncate(t->fd, size) == 0 ? 0
                                           : storage_fail_errno(error, errno, "cannot size the disk's file");
    if (format == DISK_VHD)
        return vhd_make(t, size, error);
    char size_text[24];
    snprintf(size_text, sizeof(size_text), "%lld", (long long)size);
    const char *const argv[] = {"create",         "-q",      "-f", "qcow2", "-o", "lazy_refcounts=off",
                                TOOL_PATH_SOURCE, size_text, NULL};
    return tool_run(t->sr,
                    &(struct tool_run){.argv = argv,
                                       .fds = &t->fd,
                                       .fd_count = 1,
                                       .timeout_ms = 60000,
                                       .file_size_max = (rlim_t)size / 64 + (64 << 20)},
                    error);
}

int disk_exists_already(const struct storage_sr *sr, const char *uuid, struct storage_error *error)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        char name[FILE_NAME_SIZE];
        disk_file_name(name, uuid, formats[i]);
        if (faccessat(sr->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return storage_fail(error, STORAGE_EXISTS, "there is a disk of that name already");
    }
    return 0;
}

int storage_disk_create(struct storage_sr *sr, const char *uuid_text, int64_t size, enum disk_format format,
                        int64_t *out, struct storage_error *error)
{
    AUTO_TEMP struct temp_file t = TEMP_FILE_INIT;
    char uuid[UUID_TEXT_SIZE], name[FILE_NAME_SIZE];
    int64_t made = 0;
    if (disk_refuse_change(sr, error) < 0 || disk_check_uuid(uuid_text, uuid, error) < 0 ||
        disk_check_size(size, &made, error) < 0 || disk_exists_already(sr, uuid, error) < 0 ||
        temp_open(sr, &t, error) < 0 || disk_make(&t, format, made, error) < 0)
        return -1;
    disk_file_name(name, uuid, format);
    if (temp_commit(&t, name, false, error) < 0)
        return -1;
    *out = made;
    return 0;
}

int disk_remove_files(struct storage_sr *sr, const char *uuid, struct storage_error *error)
{
    struct storage_error ignored; /* what cannot be read can be removed all the same */
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    bool on_base = disk_file_open(sr, uuid, O_RDONLY, &d, &ignored) == 0 && d.backing[0];
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        char name[FILE_NAME_SIZE];
        disk_file_name(name, uuid, formats[i]);
        if (unlinkat(sr->dir, name, 0) < 0 && errno != ENOENT)
            return storage_fail_errno(error, errno, "cannot remove the disk's file");
    }
    if (on_base)
        layers_sweep(sr);
    return upload_remove(sr, uuid, error) < 0 ? -1 : folder_sync(sr, error);
}

int storage_disk_destroy(struct storage_sr *sr, const char *location, struct storage_error *error)
{
    char uuid[UUID_TEXT_SIZE];
    if (disk_refuse_change(sr, error) < 0 || disk_check_uuid(location, uuid, error) < 0)
        return -1;
    pthread_mutex_lock(&sr->layers);
    int outcome = changed_forget(sr, uuid, error);
    pthread_mutex_unlock(&sr->layers);
    return outcome < 0 ? -1 : disk_remove_files(sr, uuid, error);
}

int storage_disk_resize(struct storage_sr *sr, const char *location, int64_t size, int64_t *out,
                        struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    int64_t wanted = 0;
    if (disk_refuse_change(sr, error) < 0 || disk_check_size(size, &wanted, error) < 0 ||
        disk_layers_open(sr, location, O_RDWR, &layers, error) < 0)
        return -1;
    const struct disk_file *d = &layers.files[0];
    if (wanted < d->virtual_size)
        return storage_fail(error, STORAGE_BAD_SIZE, "a disk can only grow: it has %lld bytes",
                            (long long)d->virtual_size);
    if (wanted > d->virtual_size && d->format == DISK_RAW) {
        if (ftruncate(d->fd, wanted) < 0)
            return storage_fail_errno(error, errno, "cannot size the disk's file");
    } else if (wanted > d->virtual_size && image_resize(sr, &layers, wanted, error) < 0) {
        return -1;
    }
    if (fsync(d->fd) < 0)
        return storage_fail_errno(error, errno, "cannot write the disk's data");
    *out = wanted;
    return 0;
}

int storage_disk_copy(struct storage_sr *sr, const char *location, struct storage_sr *to_sr,
                      const char *to_uuid, enum disk_format to_format, const struct storage_job *job,
                      struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    AUTO_TEMP struct temp_file t = TEMP_FILE_INIT;
    char uuid[UUID_TEXT_SIZE], name[FILE_NAME_SIZE];
    int64_t size = 0;
    if (disk_refuse_change(to_sr, error) < 0 || disk_check_uuid(to_uuid, uuid, error) < 0 ||
        disk_exists_already(to_sr, uuid, error) < 0 ||
        disk_layers_open(sr, location, O_RDONLY, &layers, error) < 0 ||
        disk_check_size(layers.files[0].virtual_size, &size, error) < 0 || temp_open(to_sr, &t, error) < 0 ||
        disk_make(&t, to_format, size, error) < 0)
        return -1;
    struct conversion how = {
        .to = t.fd, .to_format = to_format, .target_size = size, .job = job, .progress_to = 1};
    if (image_convert_layers(to_sr, &layers, &how, error) < 0)
        return -1;
    disk_file_name(name, uuid, to_format);
    return temp_commit(&t, name, false, error);
}
