/* A layer of files for SQLite ("corral-fault") that passes everything to the usual one, counts the
 * operations on the write-ahead log and the database, and fails the ones that a test asks for. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

enum vfs_operation { VFS_WRITE = 1, VFS_SYNC = 2 };

struct fault_vfs {
    _Atomic int operations;    /* a set of enum vfs_operation: which ones may fail */
    _Atomic int after;         /* that many such operations succeed first */
    _Atomic int times;         /* then that many fail */
    _Atomic int code;          /* with this result code of SQLite */
    _Atomic bool apply_anyway; /* a failing operation is done all the same */
    _Atomic int count;         /* operations seen */
    _Atomic bool dirty;        /* the log was written after its last successful sync */
};
extern struct fault_vfs fault_vfs;
#define FAULT_VFS_NAME "corral-fault"
/* Once in a process. */
void fault_vfs_register(void);
