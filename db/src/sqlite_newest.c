/* How far the file at this path had come, noted beside it in <path>-newest: an older copy that somebody puts
 * in its place is behind that. The number is the file's own (generations that may have been handed out),
 * noted after the file has it, so it is never ahead of the file by itself. */
#include "sqlite_impl.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>

#define NOTE_MAX 64

static char *note_path(const char *file)
{
    return xasprintf("%s-newest", file);
}

uint64_t sqlite_newest(const char *file)
{
    AUTO_FREE char *path = note_path(file);
    AUTO_FREE char *text = file_read(path, NOTE_MAX, NULL);
    return text ? strtoull(text, NULL, 10) : 0;
}

void sqlite_note_newest(const char *file, uint64_t reserve)
{
    char text[NOTE_MAX];
    AUTO_FREE char *path = note_path(file);
    int len = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)reserve);
    if (file_write_atomic(path, text, (size_t)len, 0600) < 0)
        log_warn("store", "how far the file has come could not be noted: an older copy would not be noticed",
                 "path", path, "why", strerror(errno));
}

/* More than a new file has, or is ever handed out between two notes. */
#define GENERATIONS_APART (UINT64_C(1) << 22)

void sqlite_note_apart(const char *file)
{
    sqlite_note_newest(file, sqlite_newest(file) + GENERATIONS_APART);
}

/* So that a copy of any moment until now is behind. */
void sqlite_note_end(struct sqlite_engine *engine)
{
    static const char sql[] =
        "BEGIN IMMEDIATE; UPDATE \"_meta\" SET value = value + 1 WHERE key = 'reserve'; COMMIT";
    struct store_err err;
    int64_t reserve;
    if (sqlite_run(engine, "PRAGMA synchronous = FULL", &err) == 0 && sqlite_run(engine, sql, &err) == 0 &&
        sqlite_number(engine, "SELECT value FROM \"_meta\" WHERE key = 'reserve'", &reserve, &err) == 0)
        sqlite_note_newest(engine->path, (uint64_t)reserve);
    else
        log_warn("store", "the end of this run could not be noted in the file", "why", err.text);
}
