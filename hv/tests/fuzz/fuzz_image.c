/* Any bytes as an uploaded image, as far as it is looked at before QEMU's tools are: a VHD image that is
 * taken has a size within the bound, and all of its blocks within the file. */
#include "../../storage/storage_internal.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_BOUND (INT64_C(1) << 40)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct qcow2_header header;
    struct storage_error error;
    int64_t virtual_size = -1;
    if (fd < 0 && (fd = memfd_create("image", MFD_CLOEXEC)) < 0)
        abort();
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    if (qcow2_header_read(fd, &header) && header.virtual_size < 0)
        abort();
    if (vhd_check(fd, (int64_t)size, SIZE_BOUND, &virtual_size, &error) == 0 &&
        (virtual_size <= 0 || virtual_size > SIZE_BOUND))
        abort();
    return 0;
}
