/* The journal of operations: records, each a line of text, in files that only grow (FOLDER/<number>.log). A
 * record that is of no use any more is dropped; a file goes with the last of its records, so nothing is ever
 * written twice, and adding costs one write. Nothing is synced: records outlive the process, not the machine.
 * Any thread; a place belongs to one record, and is not looked at by two threads at once. */
#pragma once
#include <base/buf.h>
#include <stdint.h>

struct journal;

/* Where a record is: the number of its file, which only the journal changes. 0: nowhere. */
struct journal_place {
    uint64_t file;
};

/* Opens the journal in a folder that is there, and hands over each of its records, the oldest first; those
 * that are of use keep their place, the others have to be dropped. The last line of a file may have been cut
 * short: it is none. 0, or -1 with errno. */
int journal_open(const char *folder,
                 void (*found)(void *arg, const char *line, size_t len, struct journal_place place),
                 void *arg, struct journal **out);
void journal_close(struct journal *journal);
/* Adds a line (which ends with its only newline). The record that `place` had is dropped, and it gets the new
 * one's. 0, or -1 with errno: then nothing has changed. */
int journal_add(struct journal *journal, const struct buf *line, struct journal_place *place);
void journal_drop(struct journal *journal, struct journal_place *place);
