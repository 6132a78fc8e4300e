#include "page_sums.h"

#include "log_note.h"
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define PAGE_MIN 512
#define PAGE_MAX 65536
#define HEAD_BYTES 100 /* of the first page */
#define HEAD_PAGE_SIZE 16

struct sums_file {
    sqlite3_file base;
    bool on;              /* its pages have sums */
    struct log_note *log; /* NULL: it is no log */
    sqlite3_file *below;
};

static _Thread_local int64_t damaged_page;

/* ---- the sum ---- */

/* What other programs change in a copy of the file that they make (counters of changes, sizes, the version of
 * the layout): SQLite compares these by itself. */
static const struct {
    uint8_t at, len;
} head_gaps[] = {{24, 8}, {40, 4}, {92, 8}};

static uint64_t sum_of(const uint8_t *page, int len, int64_t at)
{
    if (at != 0)
        return XXH3_64bits_withSeed(page, (size_t)len - PAGE_SUM_BYTES, (uint64_t)at);
    uint8_t first[PAGE_MAX];
    memcpy(first, page, (size_t)len);
    first[HEAD_RESERVED] = PAGE_SUM_BYTES; /* a flip there is not to look like a file without sums */
    for (size_t i = 0; i < ARRAY_LEN(head_gaps); i++)
        memset(first + head_gaps[i].at, 0, head_gaps[i].len);
    return XXH3_64bits(first, (size_t)len - PAGE_SUM_BYTES);
}

enum verdict { SUM_RIGHT, SUM_WRONG, SUM_NONE };

/* Pages are without a sum (0) in SQLite's memory and log: another program that empties the log into the file,
 * or copies from it, leaves them so. A page that is nothing but zeros was never written. */
static enum verdict judge(const uint8_t *page, int len, int64_t at)
{
    uint64_t sum;
    memcpy(&sum, page + len - PAGE_SUM_BYTES, sizeof(sum));
    if (sum == 0)
        return page[0] == 0 && memcmp(page, page + 1, (size_t)len - 1) == 0 ? SUM_WRONG : SUM_NONE;
    return sum == sum_of(page, len, at) ? SUM_RIGHT : SUM_WRONG;
}

static bool is_page(int len, int64_t at)
{
    return len >= PAGE_MIN && len <= PAGE_MAX && (len & (len - 1)) == 0 && at % len == 0;
}

/* ---- one file ---- */

#define BELOW(file) (((struct sums_file *)(file))->below)
#define CALL(file, method, ...) (BELOW(file)->pMethods->method(BELOW(file) __VA_OPT__(, ) __VA_ARGS__))

static int sums_close(sqlite3_file *file)
{
    log_note_free(((struct sums_file *)file)->log);
    return CALL(file, xClose);
}

static int sums_read(sqlite3_file *base, void *to, int len, sqlite3_int64 at)
{
    struct sums_file *file = (struct sums_file *)base;
    int rc = CALL(base, xRead, to, len, at);
    if (rc != SQLITE_OK || file->log || !is_page(len, at))
        return rc;
    uint8_t *page = to;
    if (at == 0)
        file->on = page[HEAD_RESERVED] == PAGE_SUM_BYTES;
    if (!file->on && at != 0)
        return SQLITE_OK;
    enum verdict verdict = judge(page, len, at);
    /* In a file without sums, a right one is what a flip in its head has left. */
    if (verdict == (file->on ? SUM_WRONG : SUM_RIGHT)) {
        damaged_page = at / len + 1;
        return SQLITE_IOERR_DATA;
    }
    if (file->on)
        memset(page + len - PAGE_SUM_BYTES, 0, PAGE_SUM_BYTES);
    return SQLITE_OK;
}

static int sums_write(sqlite3_file *base, const void *from, int len, sqlite3_int64 at)
{
    struct sums_file *file = (struct sums_file *)base;
    if (file->log) {
        log_note_wrote(file->log, from, len, at);
        return CALL(base, xWrite, from, len, at);
    }
    if (at == 0 && len > HEAD_RESERVED)
        file->on = ((const uint8_t *)from)[HEAD_RESERVED] == PAGE_SUM_BYTES;
    if (!file->on || !is_page(len, at))
        return CALL(base, xWrite, from, len, at);
    uint8_t page[PAGE_MAX];
    memcpy(page, from, (size_t)len);
    uint64_t sum = sum_of(page, len, at);
    memcpy(page + len - PAGE_SUM_BYTES, &sum, sizeof(sum));
    return CALL(base, xWrite, page, len, at);
}

static int sums_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return CALL(file, xTruncate, size);
}

static int sums_sync(sqlite3_file *file, int flags)
{
    int rc = CALL(file, xSync, flags);
    if (rc == SQLITE_OK && ((struct sums_file *)file)->log)
        log_note_synced(((struct sums_file *)file)->log);
    return rc;
}

static int sums_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return CALL(file, xFileSize, size);
}

static int sums_lock(sqlite3_file *file, int level)
{
    return CALL(file, xLock, level);
}

static int sums_unlock(sqlite3_file *file, int level)
{
    return CALL(file, xUnlock, level);
}

static int sums_check(sqlite3_file *file, int *out)
{
    return CALL(file, xCheckReservedLock, out);
}

static int sums_control(sqlite3_file *file, int op, void *arg)
{
    return CALL(file, xFileControl, op, arg);
}

static int sums_sector(sqlite3_file *file)
{
    return CALL(file, xSectorSize);
}

static int sums_device(sqlite3_file *file)
{
    return CALL(file, xDeviceCharacteristics);
}

static int sums_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    return CALL(file, xShmMap, page, size, extend, out);
}

static int sums_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return CALL(file, xShmLock, offset, n, flags);
}

static void sums_shm_barrier(sqlite3_file *file)
{
    CALL(file, xShmBarrier);
}

static int sums_shm_unmap(sqlite3_file *file, int remove)
{
    return CALL(file, xShmUnmap, remove);
}

/* Version 2: without mapped reads, which would go past the comparison. */
static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = sums_close,
    .xRead = sums_read,
    .xWrite = sums_write,
    .xTruncate = sums_truncate,
    .xSync = sums_sync,
    .xFileSize = sums_size,
    .xLock = sums_lock,
    .xUnlock = sums_unlock,
    .xCheckReservedLock = sums_check,
    .xFileControl = sums_control,
    .xSectorSize = sums_sector,
    .xDeviceCharacteristics = sums_device,
    .xShmMap = sums_shm_map,
    .xShmLock = sums_shm_lock,
    .xShmBarrier = sums_shm_barrier,
    .xShmUnmap = sums_shm_unmap,
};

/* ---- the layer ---- */

struct layer {
    sqlite3_vfs vfs;
    sqlite3_vfs *below;
    struct layer *next;
    char name[];
};

/* What the first page says, which may be in the log as well; or it is a new file, and other pages come first.
 */
static bool wants_sums(sqlite3_file *file)
{
    uint8_t head[HEAD_BYTES];
    sqlite3_int64 size;
    if (file->pMethods->xFileSize(file, &size) != SQLITE_OK || size == 0)
        return true;
    return file->pMethods->xRead(file, head, sizeof(head), 0) == SQLITE_OK &&
           head[HEAD_RESERVED] == PAGE_SUM_BYTES;
}

static int layer_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *out_flags)
{
    sqlite3_vfs *below = ((struct layer *)vfs->pAppData)->below;
    if (!(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)))
        return below->xOpen(below, name, base, flags, out_flags);
    struct sums_file *file = (struct sums_file *)base;
    *file = (struct sums_file){.below = (sqlite3_file *)(file + 1)};
    int rc = below->xOpen(below, name, file->below, flags, out_flags);
    file->base.pMethods = file->below->pMethods ? &methods : NULL;
    if (rc == SQLITE_OK && flags & SQLITE_OPEN_WAL)
        file->log = log_note_new(name);
    else if (rc == SQLITE_OK)
        file->on = wants_sums(file->below);
    return rc;
}

#define BELOW_CALL(vfs, method, ...)                                                                         \
    (((struct layer *)(vfs)->pAppData)->below->method(((struct layer *)(vfs)->pAppData)->below, __VA_ARGS__))

static int layer_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    return BELOW_CALL(vfs, xDelete, name, sync);
}

static int layer_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    return BELOW_CALL(vfs, xAccess, name, flags, out);
}

static int layer_path(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
    return BELOW_CALL(vfs, xFullPathname, name, size, out);
}

static struct layer *layer_new(sqlite3_vfs *below)
{
    struct layer *layer = xcalloc(1, sizeof(*layer) + strlen(below->zName) + sizeof("sums-"));
    sprintf(layer->name, "sums-%s", below->zName);
    layer->below = below;
    layer->vfs = *below; /* its clocks and the like ignore which layer they are called for */
    layer->vfs.zName = layer->name;
    layer->vfs.pAppData = layer;
    layer->vfs.szOsFile = below->szOsFile + (int)sizeof(struct sums_file);
    layer->vfs.pNext = NULL;
    layer->vfs.xOpen = layer_open;
    layer->vfs.xDelete = layer_delete;
    layer->vfs.xAccess = layer_access;
    layer->vfs.xFullPathname = layer_path;
    return layer;
}

const char *page_sums_over(const char *name)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct layer *layers; /* for the life of the process */
    sqlite3_vfs *below = sqlite3_vfs_find(name);
    pthread_mutex_lock(&lock);
    struct layer *layer = layers;
    while (layer && layer->below != below)
        layer = layer->next;
    if (!layer && below) {
        layer = layer_new(below);
        if (sqlite3_vfs_register(&layer->vfs, 0) == SQLITE_OK) {
            layer->next = layers;
            layers = layer;
        } else {
            free(layer);
            layer = NULL;
        }
    }
    pthread_mutex_unlock(&lock);
    return layer ? layer->name : NULL;
}

int64_t page_sums_damaged(void)
{
    int64_t page = damaged_page;
    damaged_page = 0;
    return page;
}

/* ---- new sums for what is there ---- */

bool page_sums_renew(const char *path)
{
    uint8_t page[PAGE_MAX];
    struct stat st;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0 || pread(fd, page, HEAD_BYTES, 0) != HEAD_BYTES)
        return false;
    int size = page[HEAD_PAGE_SIZE] << 8 | page[HEAD_PAGE_SIZE + 1];
    size = size == 1 ? PAGE_MAX : size;
    errno = 0;
    if (page[HEAD_RESERVED] != PAGE_SUM_BYTES || !is_page(size, 0))
        return false;
    for (int64_t at = 0; at + size <= st.st_size; at += size) {
        if (pread(fd, page, (size_t)size, at) != size)
            return false;
        uint64_t sum = sum_of(page, size, at);
        if (judge(page, size, at) != SUM_RIGHT &&
            pwrite(fd, &sum, sizeof(sum), at + size - PAGE_SUM_BYTES) != sizeof(sum))
            return false;
    }
    return fsync(fd) == 0;
}
