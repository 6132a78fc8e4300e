/* How far SQLite's log (-wal) has certainly reached the disk, noted beside it in <log>-synced: after each
 * sync that ended a transaction, so the note is never ahead. SQLite takes a damaged frame for the torn end of
 * a crash and forgets all behind it; compared with the note, that is told. The note itself is not synced: it
 * survives the process, and a power cut about as far as the system writes things back by itself. */
#pragma once
#include <db/store.h>

/* Of one open log. Not thread-safe. */
struct log_note;
struct log_note *log_note_new(const char *log);
void log_note_free(struct log_note *note);
/* Bytes were written into the log, and: it was synced. */
void log_note_wrote(struct log_note *note, const void *data, int len, int64_t at);
void log_note_synced(struct log_note *note);

/* Compares the log of the database at `path`, which nobody writes, with what was noted. -1, STORE_E_CORRUPT:
 * changes that were acknowledged are lost in it. */
int log_note_check(const char *path, struct store_err *err);
/* What the log holds is taken for all. 0, or -1 with errno. */
int log_note_drop(const char *path);
