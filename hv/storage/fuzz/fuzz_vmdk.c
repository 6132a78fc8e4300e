/* Any bytes as a VMDK image's: its size is bounded, and nothing is read behind its end. */
#include "../storage_internal.h"
#include <base/mem.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct storage_error error;
    int64_t virtual_size;
    int fd AUTO_CLOSE = memfd_create("image", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    if (vmdk_check_head(fd, (int64_t)size, INT64_C(1) << 40, &virtual_size, &error) == 0 &&
        (virtual_size < 512 || virtual_size > INT64_C(1) << 40))
        abort();
    return 0;
}
