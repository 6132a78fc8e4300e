/* Another database in the place of one that is not open: first it is offered, by its name beside the file,
 * which decides it; whoever opens the file then exchanges the two. Each step can be the last one of a
 * process, and is then made by the next. */
#include "sqlite_impl.h"
#include <base/failpoint.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <unistd.h>

struct names {
    char *file, *log, *index, *offered, *replaced, *replaced_log;
};

static struct names names_of(const char *path)
{
    return (struct names){xstrdup(path),
                          xasprintf("%s-wal", path),
                          xasprintf("%s-shm", path),
                          xasprintf("%s-offered", path),
                          xasprintf("%s-replaced", path),
                          xasprintf("%s-replaced-wal", path)};
}

static void names_done(struct names *n)
{
    free(n->file);
    free(n->log);
    free(n->index);
    free(n->offered);
    free(n->replaced);
    free(n->replaced_log);
}

static int sync_file(const char *path, int flags)
{
    AUTO_CLOSE int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

static int sync_folder_of(const char *path)
{
    AUTO_FREE char *copy = xstrdup(path);
    return sync_file(dirname(copy), O_RDONLY | O_DIRECTORY);
}

static int remove_if_there(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? 0 : -1;
}

static int move_if_there(const char *from, const char *to)
{
    return rename(from, to) == 0 || errno == ENOENT ? 0 : -1;
}

int store_offer_file(const char *path, const char *from, struct store_err *err)
{
    struct names n = names_of(path);
    /* What was kept of an earlier exchange goes now: later nobody could tell it from what this one keeps. */
    int rc = sync_file(from, O_RDWR) < 0 || remove_if_there(n.replaced_log) < 0 ||
                     remove_if_there(n.replaced) < 0 || rename(from, n.offered) < 0
                 ? -1
                 : sync_folder_of(path);
    if (rc < 0) {
        store_err_set(err, STORE_E_IO, "%s: could not be put in place: %s", n.offered, strerror(errno));
        unlink(n.offered);
    }
    names_done(&n);
    return rc;
}

/* The log first: without its file it is nothing, while a file without its log is an older state. */
static int exchange(const struct names *n)
{
    if (move_if_there(n->log, n->replaced_log) < 0 || remove_if_there(n->index) < 0)
        return -1;
    failpoint("database-log-aside:");
    if (move_if_there(n->file, n->replaced) < 0)
        return -1;
    failpoint("database-aside:");
    return rename(n->offered, n->file) < 0 ? -1 : sync_folder_of(n->file);
}

int sqlite_take_offer(const struct sqlite_engine *engine, struct store_err *err)
{
    struct names n = names_of(engine->path);
    int rc = 0;
    if (access(n.offered, F_OK) == 0) {
        sqlite_note_apart(engine->path);
        rc = exchange(&n);
        if (rc < 0)
            store_err_set(err, STORE_E_IO, "%s: could not be put in place: %s", n.offered, strerror(errno));
        else
            log_warn("store", "another database is in the place of the old one, which is kept", "path",
                     n.file, "old", n.replaced);
    }
    names_done(&n);
    return rc;
}
