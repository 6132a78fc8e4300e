/* Whether the file and its log still stand where they were opened: what is written into one that was removed,
 * or that another has taken the place of, is gone with this process. */
#include "sqlite_impl.h"
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* Only where it stands: who asks for its times makes the next write change them anew (since Linux 6.13), and
 * then each sync of the log would write its inode, too. */
static int look(const char *path, struct statx *st, struct store_err *err)
{
    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, st) == 0)
        return 0;
    if (errno == ENOENT)
        return store_err_set(err, STORE_E_IO, "%s was removed while it was in use", path);
    return store_err_set(err, STORE_E_IO, "%s: %s", path, strerror(errno));
}

static int compare(const char *path, const struct sqlite_place *known, struct store_err *err)
{
    struct statx st;
    if (look(path, &st, err) != 0)
        return -1;
    if (st.stx_dev_major == known->dev_major && st.stx_dev_minor == known->dev_minor &&
        st.stx_ino == known->ino)
        return 0;
    return store_err_set(err, STORE_E_IO, "%s was replaced while it was in use", path);
}

static int note(const char *path, struct sqlite_place *place, struct store_err *err)
{
    struct statx st;
    if (look(path, &st, err) != 0)
        return -1;
    *place = (struct sqlite_place){true, st.stx_dev_major, st.stx_dev_minor, st.stx_ino};
    return 0;
}

int sqlite_place_expect(const char *path, struct store_err *err)
{
    struct stat st;
    bool has_content = stat(path, &st) == 0 && st.st_size > 0;
    if (has_content || sqlite_newest(path) == 0)
        return 0;
    return store_err_set(
        err, STORE_E_CORRUPT,
        "%s is gone or empty, and %s-newest says that it was in use: put a copy in its place, "
        "or remove that note to begin with nothing",
        path, path);
}

int sqlite_place_note(struct sqlite_engine *engine, struct store_err *err)
{
    return note(engine->path, &engine->file, err);
}

int sqlite_place_check(struct sqlite_engine *engine, struct store_err *err)
{
    AUTO_FREE char *log = xasprintf("%s-wal", engine->path);
    if (compare(engine->path, &engine->file, err) != 0)
        return -1;
    return engine->log.known ? compare(log, &engine->log, err) : note(log, &engine->log, err);
}
