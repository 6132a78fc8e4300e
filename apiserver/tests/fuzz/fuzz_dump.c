/* Any bytes as a dump of the database, in two pieces. */
#include <dr/dump_read.h>
#include <model/rows.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct store_config config = {.path = NULL};
    struct store_err cause;
    struct store *store;
    if (store_open(&store, &config, &cause) < 0)
        abort();
    struct snapshot *own = store_snapshot(store);
    struct tx *tx = store_begin(store);
    struct dump_reader *reader = dump_reader_new(tx, own);
    size_t first = size / 2;
    int rc = dump_reader_feed(reader, (const char *)data, first, &err);
    if (rc == 0)
        rc = dump_reader_feed(reader, (const char *)data + first, size - first, &err);
    if (rc == 0)
        rc = dump_reader_end(reader, &err);
    dump_reader_free(reader);
    if (rc < 0) {
        tx_abort(tx);
    } else if (tx_commit(tx, NULL, &cause) < 0 || store_check(store, &cause) < 0) {
        fprintf(stderr, "%s\n", cause.text);
        abort();
    }
    snapshot_unref(own);
    store_close(store);
    return 0;
}
