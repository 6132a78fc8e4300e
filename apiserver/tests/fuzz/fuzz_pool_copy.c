/* Any bytes as the rows of a pool's database on a disk, with a head that fits them. */
#include <base/mem.h>
#include <dr/pool_copy.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pool_copy_head head = {.pool = "6a3b4c5d-0000-4000-8000-000000000000", .size = size};
    char error[POOL_COPY_ERROR], *first = xcalloc(1, POOL_COPY_HEAD);
    struct store *store;
    memcpy(first, data, size < POOL_COPY_HEAD ? size : POOL_COPY_HEAD);
    struct pool_copy_head read;
    if (pool_copy_read_head(first, &read) && read.size > POOL_COPY_MAX)
        abort();
    free(first);
    sha256_text(data, size, head.sha256);
    if (pool_copy_load(&head, (const char *)data, &store, error) == 0) {
        struct store_err cause;
        if (store_check(store, &cause) < 0) {
            fprintf(stderr, "%s\n", cause.text);
            abort();
        }
        store_close(store);
    }
    return 0;
}
