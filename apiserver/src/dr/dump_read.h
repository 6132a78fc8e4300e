/* The database as XML (http/dump.c writes it), read back in pieces into a transaction of a store that is
 * empty: rows of known classes, fields of their types, no more. What is no longer or not yet known is passed
 * over. Memory: the rows, and one tag. */
#pragma once
#include <db/store.h>
#include <model/error.h>

struct dump_reader;
/* `own` (borrowed, as the transaction is): what a dump does not tell is taken from rows of the same reference
 * there. */
struct dump_reader *dump_reader_new(struct tx *tx, const struct snapshot *own);
/* The next bytes. -1 with *err: it is no such dump (COULD_NOT_IMPORT_DATABASE with a sentence) or one of a
 * newer server (RESTORE_INCOMPATIBLE_VERSION); nothing more may be given to it. */
int dump_reader_feed(struct dump_reader *r, const char *data, size_t len, struct api_err *err);
/* There is no more. 0: it was whole, has one pool, and each row has its own reference and uuid. */
int dump_reader_end(struct dump_reader *r, struct api_err *err);
void dump_reader_free(struct dump_reader *r);
