/* A sector of the heartbeat disk: anything may stand on shared storage. What is accepted says the same again.
 */
#include <ha/statefile.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t sector[STATEFILE_SECTOR], again[STATEFILE_SECTOR];
    struct statefile_entry entry;
    memset(sector, 0, sizeof(sector));
    memcpy(sector, data, size < sizeof(sector) ? size : sizeof(sector));
    if (!statefile_decode(sector, &entry))
        return 0;
    statefile_encode(&entry, again);
    struct statefile_entry same;
    if (!statefile_decode(again, &same) || memcmp(&entry, &same, sizeof(entry)) != 0)
        abort();
    return 0;
}
