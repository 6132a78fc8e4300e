/* The mark of an SR: a file in its folder with its uuid, so that one folder is never two repositories, and a
 * probe can tell whose it is. Kinds that are read-only have none. */
#include "storage_internal.h"
#include <base/mem.h>
#include <base/ref.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define MARK_NAME ".corral-sr"

/* 1: *uuid is set; 0: no mark; -1: *error. */
static int read_mark(const struct storage_sr *sr, char uuid[static UUID_TEXT_SIZE],
                     struct storage_error *error)
{
    char text[UUID_TEXT_SIZE] = {0};
    struct ref parsed;
    AUTO_CLOSE int fd = folder_open(sr, MARK_NAME, O_RDONLY);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || pread(fd, text, sizeof(text) - 1, 0) < 0)
        return storage_fail_errno(error, errno, "cannot read whose directory this is");
    if (!uuid_parse(text, &parsed))
        return storage_fail(error, STORAGE_UNAVAILABLE,
                            "the file " MARK_NAME " in the directory is damaged: it holds the SR's uuid");
    uuid_format(parsed, uuid);
    return 1;
}

static int write_mark(const struct storage_sr *sr, const char *uuid, bool replace,
                      struct storage_error *error)
{
    AUTO_TEMP struct temp_file t = TEMP_FILE_INIT;
    if (temp_open(sr, &t, error) < 0)
        return -1;
    if (dprintf(t.fd, "%s\n", uuid) < 0)
        return storage_fail_errno(error, errno, "cannot note whose directory this is");
    return temp_commit(&t, MARK_NAME, replace, error);
}

int storage_sr_claim(struct storage_sr *sr, const char *uuid, bool anew, struct storage_error *error)
{
    char owner[UUID_TEXT_SIZE];
    if (sr->kind->read_only)
        return 0;
    int found = read_mark(sr, owner, error);
    if (found < 0 || (found && streq(owner, uuid)))
        return found < 0 ? -1 : 0;
    if (found && !anew)
        return storage_fail(error, STORAGE_EXISTS,
                            "the directory belongs to SR %s: introduce it under that uuid", owner);
    if (!found && !anew && folder_is_empty(sr))
        return storage_fail(error, STORAGE_UNAVAILABLE,
                            "the directory is empty and not marked as an SR: is its file system mounted? An "
                            "empty directory becomes one by creating it");
    return write_mark(sr, uuid, found, error);
}

int mark_remove(const struct storage_sr *sr, struct storage_error *error)
{
    if (unlinkat(sr->dir, MARK_NAME, 0) == 0 || errno == ENOENT)
        return 0;
    return storage_fail_errno(error, errno, "cannot remove the mark of the directory");
}

bool folder_is_empty(const struct storage_sr *sr)
{
    int fd = openat(sr->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    bool empty = true;
    if (!dir) {
        fd_close_cleanup(&fd);
        return false;
    }
    for (const struct dirent *entry; empty && (entry = readdir(dir));)
        empty = streq(entry->d_name, ".") || streq(entry->d_name, "..") || streq(entry->d_name, MARK_NAME);
    closedir(dir);
    return empty;
}

int storage_sr_probe(const char *type, const struct str_map *config, struct storage_probe *out,
                     struct storage_error *error)
{
    struct storage_sr *sr;
    struct storage_probe probe = {0};
    AUTO_STORAGE_DISKS struct storage_disks disks = {0};
    if (storage_sr_attach(type, config, &sr, error) < 0)
        return -1;
    int outcome = storage_sr_scan(sr, &disks, error) < 0 || storage_sr_stats(sr, &probe.stats, error) < 0 ||
                          (!sr->kind->read_only && read_mark(sr, probe.uuid, error) < 0)
                      ? -1
                      : 0;
    probe.disk_count = disks.count;
    storage_sr_detach(sr);
    if (outcome == 0)
        *out = probe;
    return outcome;
}
