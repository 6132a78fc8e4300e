/* Any bytes as a qcow2 image: it is refused, or can be read anywhere without harm. */
#include <boot/view.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    char words[32], bytes[4096];
    const char *why;
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        return 0;
    snprintf(words, sizeof(words), "qcow2:%d", fd);
    struct view *view = view_open(words, &why);
    for (uint64_t i = 0; view && i < 8; i++)
        view_read(view, bytes, sizeof(bytes), view_size(view) / 8 * i);
    view_close(view);
    close(fd);
    return 0;
}
