#include "fault_vfs.h"
#include <sqlite3.h>
#include <string.h>

struct fault_vfs fault_vfs;

struct fault_file {
    sqlite3_file base;
    bool log;
    sqlite3_file *real; /* behind this struct */
};

static sqlite3_vfs *real_vfs;
static sqlite3_io_methods methods;

#define REAL(file) (((struct fault_file *)(file))->real)
#define CALL(file, method, ...) (REAL(file)->pMethods->method(REAL(file) __VA_OPT__(, ) __VA_ARGS__))

/* SQLITE_OK, or the failure that is due. */
static int due(int operation)
{
    fault_vfs.count++;
    if (!(fault_vfs.operations & operation) || fault_vfs.times == 0)
        return SQLITE_OK;
    if (fault_vfs.after > 0) {
        fault_vfs.after--;
        return SQLITE_OK;
    }
    fault_vfs.times--;
    return fault_vfs.code;
}

static int f_close(sqlite3_file *file)
{
    return CALL(file, xClose);
}

static int f_read(sqlite3_file *file, void *to, int len, sqlite3_int64 at)
{
    return CALL(file, xRead, to, len, at);
}

static int f_write(sqlite3_file *file, const void *from, int len, sqlite3_int64 at)
{
    int code = due(VFS_WRITE);
    if (((struct fault_file *)file)->log)
        fault_vfs.dirty = true;
    if (code == SQLITE_OK || fault_vfs.apply_anyway) {
        int real = CALL(file, xWrite, from, len, at);
        return code ? code : real;
    }
    return code;
}

static int f_sync(sqlite3_file *file, int flags)
{
    int code = due(VFS_SYNC);
    if (code)
        return code;
    code = CALL(file, xSync, flags);
    if (code == SQLITE_OK && ((struct fault_file *)file)->log)
        fault_vfs.dirty = false;
    return code;
}

static int f_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return CALL(file, xTruncate, size);
}

static int f_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return CALL(file, xFileSize, size);
}

static int f_lock(sqlite3_file *file, int level)
{
    return CALL(file, xLock, level);
}

static int f_unlock(sqlite3_file *file, int level)
{
    return CALL(file, xUnlock, level);
}

static int f_check(sqlite3_file *file, int *out)
{
    return CALL(file, xCheckReservedLock, out);
}

static int f_control(sqlite3_file *file, int op, void *arg)
{
    return CALL(file, xFileControl, op, arg);
}

static int f_sector(sqlite3_file *file)
{
    return CALL(file, xSectorSize);
}

static int f_device(sqlite3_file *file)
{
    return CALL(file, xDeviceCharacteristics);
}

static int f_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    return CALL(file, xShmMap, page, size, extend, out);
}

static int f_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return CALL(file, xShmLock, offset, n, flags);
}

static void f_shm_barrier(sqlite3_file *file)
{
    CALL(file, xShmBarrier);
}

static int f_shm_unmap(sqlite3_file *file, int remove)
{
    return CALL(file, xShmUnmap, remove);
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    struct fault_file *mine = (struct fault_file *)file;
    mine->real = (sqlite3_file *)(mine + 1);
    mine->log = flags & SQLITE_OPEN_WAL;
    int code = real_vfs->xOpen(real_vfs, name, mine->real, flags, out_flags);
    mine->base.pMethods = mine->real->pMethods ? &methods : NULL;
    return code;
}

void fault_vfs_register(void)
{
    static sqlite3_vfs vfs;
    methods = (sqlite3_io_methods){
        .iVersion = 2,
        .xClose = f_close,
        .xRead = f_read,
        .xWrite = f_write,
        .xTruncate = f_truncate,
        .xSync = f_sync,
        .xFileSize = f_size,
        .xLock = f_lock,
        .xUnlock = f_unlock,
        .xCheckReservedLock = f_check,
        .xFileControl = f_control,
        .xSectorSize = f_sector,
        .xDeviceCharacteristics = f_device,
        .xShmMap = f_shm_map,
        .xShmLock = f_shm_lock,
        .xShmBarrier = f_shm_barrier,
        .xShmUnmap = f_shm_unmap,
    };
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs; /* its other functions ignore which vfs they are called for */
    vfs.zName = FAULT_VFS_NAME;
    vfs.szOsFile += (int)sizeof(struct fault_file);
    vfs.pNext = NULL;
    vfs.xOpen = vfs_open;
    sqlite3_vfs_register(&vfs, 0);
}
