/* Any bytes as a qcow2 image's first ones, or as a note of changed blocks: what is taken from them is
 * bounded, and the name of a base is one of ours or refused. */
#include "../storage_internal.h"
#include <base/mem.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qcow2_header header;
    char uuid[UUID_TEXT_SIZE];
    enum disk_format format;
    int fd AUTO_CLOSE = memfd_create("image", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    struct storage_error error;
    struct block_map map;
    map_init(&map, INT64_C(1) << 30);
    allocated_add(fd, &map, &error); /* tables of any form: what is noted stays within the map */
    map_done(&map);
    changed_note_holds(fd);
    if (!qcow2_header_read(fd, &header))
        return 0;
    if (header.virtual_size < 0 || strnlen(header.backing, sizeof(header.backing)) == sizeof(header.backing))
        abort();
    if (base_name_parse(header.backing, uuid, &format) &&
        (strchr(header.backing, '/') || strlen(uuid) != UUID_TEXT_SIZE - 1))
        abort();
    return 0;
}
