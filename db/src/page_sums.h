/* Sums of pages: a layer of files for SQLite, over another one, that ends each page of a database with a sum
 * of its content and place when it is written, and compares it when it is read. SQLite itself does not see a
 * flipped bit inside a value. The sums lie in bytes that SQLite keeps free in each page (PAGE_SUM_BYTES, kept
 * in the file's head), so other programs read and copy the file as any other; what they change has no valid
 * sum.
 *
 * The log (-wal) has sums of SQLite's own and passes as it is; how far it is synced is noted (log_note.h). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define PAGE_SUM_BYTES 8
#define HEAD_RESERVED 20 /* where the file's head says how many bytes each page keeps free */

/* The name of the layer over that one (NULL: the usual one), registered when it is asked for first. NULL:
 * there is no layer of that name. Any thread. */
const char *page_sums_over(const char *below);

/* The number of the damaged page that this thread has read last, and forgets it; 0: none. */
int64_t page_sums_damaged(void);

/* Writes the sums of all pages of the file at `path`, which nobody has open, as if what they hold were right.
 * False: errno says why, or 0: it has no room for sums. */
bool page_sums_renew(const char *path);
