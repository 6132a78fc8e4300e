/* Kernels and ramdisks of the host. */
#include "images.h"
#include <base/mem.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int images_open(int folder, enum image_use use, const char *name, struct hv_err *err)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd AUTO_CLOSE = (int)syscall(SYS_openat2, folder, name, &how, sizeof(how));
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return TAKE_FD(fd);
    return use == IMAGE_KERNEL ? hv_fail(err, HV_ERR_KIND_NO_KERNEL, "The host has no kernel %s.", name)
                               : hv_fail(err, HV_ERR_KIND_NO_RAMDISK, "The host has no ramdisk %s.", name);
}

static int check(int folder, enum image_use use, const char *name, struct hv_err *err)
{
    int fd AUTO_CLOSE = images_open(folder, use, name, err);
    return fd < 0 ? -1 : 0;
}

int images_check(int folder, const struct domain_config *config, struct hv_err *err)
{
    if (config->firmware != FIRMWARE_KERNEL)
        return 0;
    if (check(folder, IMAGE_KERNEL, config->kernel, err) < 0)
        return -1;
    return *config->ramdisk ? check(folder, IMAGE_RAMDISK, config->ramdisk, err) : 0;
}
