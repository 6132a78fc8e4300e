/* Fuzz target (libFuzzer): streamOptimized VMDK images of a disk of 1 MiB. A disk or a problem, never both,
 * never neither. */
#include <base/mem.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmdk.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *problem = NULL;
    int from AUTO_CLOSE = memfd_create("image", MFD_CLOEXEC),
             to AUTO_CLOSE = memfd_create("disk", MFD_CLOEXEC);
    if (from < 0 || to < 0 || write(from, data, len) != (ssize_t)len)
        abort();
    int rc = vmdk_read(from, 0, (int64_t)len, 1 << 20, to, NULL, NULL, &problem);
    if ((rc == 0) != !problem || (rc == 0 && lseek(to, 0, SEEK_END) != 1 << 20))
        abort();
    return 0;
}
