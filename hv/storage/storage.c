/* Repositories: the kinds of SR, their life, their space. Disks are in disk.c. */
#include "storage_internal.h"
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/statvfs.h>

static const struct sr_kind kinds[] = {
    {.type = "file", .makes_folder = true},
    {.type = "iso", .read_only = true, .by_file = true},
};

static const char *const failure_names[] = {
    "not supported", "bad configuration", "unavailable", "bad name",   "no such disk", "exists already",
    "full",          "bad size",          "bad image",   "data short", "data long",    "read-only",
    "cancelled",     "unrelated",         "i/o error",
};

static struct {
    uid_t uid;
    gid_t gid;
} user;

void storage_set_user(uid_t uid, gid_t gid)
{
    user.uid = uid;
    user.gid = gid;
}

static const char *launcher;

void storage_set_launcher(const char *path)
{
    launcher = path;
}

const char *storage_launcher(void)
{
    return launcher;
}

uid_t storage_uid(void)
{
    return geteuid() == 0 ? user.uid : 0;
}

gid_t storage_gid(void)
{
    return geteuid() == 0 ? user.gid : 0;
}

const char *storage_failure_name(enum storage_failure kind)
{
    return failure_names[kind];
}

const char *disk_format_name(enum disk_format format)
{
    static const char *const names[] = {
        [DISK_RAW] = "raw", [DISK_QCOW2] = "qcow2", [DISK_VHD] = "vpc", [DISK_VMDK] = "vmdk"};
    return names[format];
}

bool disk_format_parse(const char *text, enum disk_format *out)
{
    if (!streq(text, "raw") && !streq(text, "qcow2"))
        return false;
    *out = streq(text, "qcow2") ? DISK_QCOW2 : DISK_RAW;
    return true;
}

int storage_fail(struct storage_error *error, enum storage_failure kind, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    error->kind = kind;
    vsnprintf(error->text, sizeof(error->text), format, ap);
    va_end(ap);
    return -1;
}

int storage_fail_errno(struct storage_error *error, int saved, const char *what)
{
    enum storage_failure kind = saved == ENOSPC || saved == EDQUOT || saved == EFBIG ? STORAGE_FULL
                                : saved == EROFS                                     ? STORAGE_READ_ONLY
                                                                                     : STORAGE_IO;
    return storage_fail(error, kind, "%s: %s", what, strerror(saved));
}

/* ---- kinds and configuration ---- */

static const struct sr_kind *find_kind(const char *type)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (streq(kinds[i].type, type))
            return &kinds[i];
    return NULL;
}

static int read_config(const char *type, const struct str_map *config, const struct sr_kind **kind,
                       const char **location, struct storage_error *error)
{
    *kind = find_kind(type);
    if (!*kind)
        return storage_fail(error, STORAGE_NOT_SUPPORTED,
                            "there is no SR type \"%.32s\" here; there are: file, iso", type);
    *location = str_map_get(config, "location");
    if (!*location)
        return storage_fail(error, STORAGE_BAD_CONFIG, "device_config needs location=<absolute directory>");
    const char *p = *location;
    bool dots = strstr(p, "/../") != NULL || (strlen(p) >= 3 && streq(p + strlen(p) - 3, "/.."));
    if (p[0] != '/' || p[1] == '\0' || dots || strlen(p) > 1024)
        return storage_fail(
            error, STORAGE_BAD_CONFIG,
            "device_config:location must be an absolute directory, without \"..\" and not \"/\"");
    for (; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return storage_fail(error, STORAGE_BAD_CONFIG, "device_config:location has control characters");
    return 0;
}

/* ---- life ---- */

/* Anybody who may write to the folder could swap disks under running VMs. */
static int check_folder(const struct sr_kind *kind, int dir, struct storage_error *error)
{
    struct stat st;
    if (fstat(dir, &st) < 0)
        return storage_fail_errno(error, errno, "cannot look at the directory");
    if (!S_ISDIR(st.st_mode))
        return storage_fail(error, STORAGE_UNAVAILABLE, "the location is not a directory");
    if (st.st_nlink == 0)
        return storage_fail(error, STORAGE_UNAVAILABLE, "the directory was removed");
    if (kind->read_only)
        return 0;
    if (st.st_mode & S_IWOTH)
        return storage_fail(error, STORAGE_UNAVAILABLE, "the directory can be written by everybody");
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return storage_fail(error, STORAGE_UNAVAILABLE, "the directory belongs to another user");
    return 0;
}

static int open_folder(const struct sr_kind *kind, const char *location, int *out,
                       struct storage_error *error)
{
    AUTO_CLOSE int dir = open(location, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return storage_fail(error, STORAGE_UNAVAILABLE, "cannot open the directory: %s", strerror(errno));
    if (check_folder(kind, dir, error) < 0)
        return -1;
    *out = TAKE_FD(dir);
    return 0;
}

int storage_sr_create(const char *type, const struct str_map *config, struct storage_error *error)
{
    const struct sr_kind *kind;
    const char *location;
    if (read_config(type, config, &kind, &location, error) < 0)
        return -1;
    if (kind->makes_folder && mkdir(location, 0700) < 0 && errno != EEXIST)
        return storage_fail(error, errno == ENOSPC ? STORAGE_FULL : STORAGE_UNAVAILABLE,
                            "cannot make the directory: %s", strerror(errno));
    struct storage_sr *sr;
    if (storage_sr_attach(type, config, &sr, error) < 0)
        return -1;
    AUTO_STORAGE_DISKS struct storage_disks disks = {0};
    int result = storage_sr_scan(sr, &disks, error);
    if (result == 0 && kind->makes_folder && disks.count > 0)
        result = storage_fail(error, STORAGE_EXISTS,
                              "the directory holds disks already: introduce the SR instead");
    storage_sr_detach(sr);
    return result;
}

int storage_sr_attach(const char *type, const struct str_map *config, struct storage_sr **out,
                      struct storage_error *error)
{
    const struct sr_kind *kind;
    const char *location;
    int dir = -1;
    if (read_config(type, config, &kind, &location, error) < 0 ||
        open_folder(kind, location, &dir, error) < 0)
        return -1;
    struct storage_sr *sr = xcalloc(1, sizeof(*sr));
    sr->kind = kind;
    sr->location = xstrdup(location);
    sr->dir = dir;
    pthread_mutex_init(&sr->layers, NULL);
    if (!kind->read_only) {
        folder_clean(sr);
        layers_repair(sr);
    }
    *out = sr;
    return 0;
}

void storage_sr_detach(struct storage_sr *sr)
{
    if (!sr)
        return;
    close(sr->dir);
    pthread_mutex_destroy(&sr->layers);
    free(sr->location);
    free(sr);
}

int storage_sr_destroy(const char *type, const struct str_map *config, struct storage_error *error)
{
    const struct sr_kind *kind;
    const char *location;
    if (read_config(type, config, &kind, &location, error) < 0)
        return -1;
    if (!kind->makes_folder)
        return storage_fail(error, STORAGE_NOT_SUPPORTED, "an SR of type %s is forgotten, not destroyed",
                            type);
    struct storage_sr *sr;
    if (storage_sr_attach(type, config, &sr, error) < 0)
        return -1;
    int outcome = folder_is_empty(sr) ? mark_remove(sr, error)
                                      : storage_fail(error, STORAGE_EXISTS, "the directory is not empty");
    storage_sr_detach(sr);
    if (outcome < 0 || rmdir(location) == 0 || errno == ENOENT)
        return outcome;
    if (errno == ENOTEMPTY || errno == EEXIST)
        return storage_fail(error, STORAGE_EXISTS, "the directory is not empty");
    return storage_fail_errno(error, errno, "cannot remove the directory");
}

/* ---- content and space ---- */

void storage_disk_done(struct storage_disk *disk)
{
    free(disk->location);
    *disk = (struct storage_disk){0};
}

void storage_disks_done(struct storage_disks *disks)
{
    for (size_t i = 0; i < disks->count; i++)
        storage_disk_done(&disks->items[i]);
    free(disks->items);
    *disks = (struct storage_disks){0};
}

static int by_location(const void *a, const void *b)
{
    return strcmp(((const struct storage_disk *)a)->location, ((const struct storage_disk *)b)->location);
}

static void close_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static void scan_one(struct storage_sr *sr, const char *name, struct storage_disks *disks)
{
    char location[FILE_NAME_SIZE];
    enum disk_format format;
    struct storage_disk disk;
    struct storage_error error;
    if (!disk_name_parse(sr, name, location, &format))
        return;
    if (storage_disk_stat(sr, location, &disk, &error) < 0) {
        log_warn("storage", "a file in an SR is no disk", "file", name, "why", error.text);
        return;
    }
    disks->items = xreallocarray(disks->items, disks->count + 1, sizeof(*disks->items));
    disks->items[disks->count++] = disk;
}

int storage_sr_scan(struct storage_sr *sr, struct storage_disks *out, struct storage_error *error)
{
    int fd = openat(sr->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return storage_fail_errno(error, errno, "cannot read the directory");
    CLEANUP(close_dir) DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return storage_fail_errno(error, ENOMEM, "cannot read the directory");
    }
    AUTO_STORAGE_DISKS struct storage_disks disks = {0};
    errno = 0;
    for (const struct dirent *entry; (entry = readdir(dir)); errno = 0)
        scan_one(sr, entry->d_name, &disks);
    if (errno)
        return storage_fail_errno(error, errno, "cannot read the directory");
    if (disks.count > 1)
        qsort(disks.items, disks.count, sizeof(*disks.items), by_location);
    *out = disks;
    disks = (struct storage_disks){0};
    return 0;
}

int storage_sr_stats(struct storage_sr *sr, struct storage_stats *out, struct storage_error *error)
{
    struct statvfs fs;
    if (fstatvfs(sr->dir, &fs) < 0)
        return storage_fail_errno(error, errno, "cannot ask for the space");
    int64_t unit = (int64_t)fs.f_frsize;
    *out = (struct storage_stats){
        .physical_size_bytes = (int64_t)fs.f_blocks * unit,
        .physical_used_bytes = (int64_t)(fs.f_blocks - fs.f_bfree) * unit,
    };
    return 0;
}
