/* What a domain boots by: flash images of UEFI, kernels out of the host's folder of images. */
#include "start.h"
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <io/images.h>
#include <io/kept.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

void boot_words_done(struct boot_words *words)
{
    free(words->cmdline);
}

/* A copy in memory of a file that the device model's user may not open itself. */
static int copy_to_memory(int from, off_t size)
{
    int fd = memfd_create("boot", MFD_CLOEXEC);
    off_t at = 0;
    while (fd >= 0 && at < size) {
        ssize_t n = sendfile(fd, from, &at, (size_t)(size - at));
        if (n <= 0) {
            close(fd);
            return -1;
        }
    }
    return fd;
}

/* A kernel or ramdisk out of the images folder; QEMU opens it anew through /dev/fd. */
static int open_image(const struct hv_driver_state *state, enum image_use use, const char *name,
                      struct hv_err *err)
{
    int fd = images_open(state->env.images_fd, use, name, err);
    struct stat st;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0) {
        hv_fail(err, HV_ERR_KIND_IO, "The image %s cannot be read: %s", name, strerror(errno));
        close(fd);
        return -1;
    }
    if (st.st_mode & S_IROTH)
        return fd;
    int copy = copy_to_memory(fd, st.st_size);
    close(fd);
    if (copy < 0)
        hv_fail(err, HV_ERR_KIND_IO, "The image %s cannot be read: %s", name, strerror(errno));
    return copy;
}

static int add_kernel(struct qemu_domain *d, struct handout *h, struct qemu_plan_input *input,
                      struct boot_words *words, struct hv_err *err)
{
    const struct domain_config *config = input->config;
    int fd = open_image(d->driver, IMAGE_KERNEL, config->kernel, err);
    if (fd < 0)
        return -1;
    input->kernel_fd = handout_give_owned(h, fd);
    if (*config->ramdisk) {
        if ((fd = open_image(d->driver, IMAGE_RAMDISK, config->ramdisk, err)) < 0)
            return -1;
        input->ramdisk_fd = handout_give_owned(h, fd);
    }
    words->cmdline = xstrdup(config->cmdline ? config->cmdline : "");
    input->cmdline = words->cmdline;
    return 0;
}

static int add_guest_kernel(struct qemu_domain *d, const struct disk_chain *chains, struct handout *h,
                            struct qemu_plan_input *input, struct boot_words *words, struct hv_err *err)
{
    struct guest_kernel kernel;
    if (guest_kernel_read(d, input->config, chains, &kernel, err) < 0)
        return -1;
    input->kernel_fd = handout_give_owned(h, kernel.kernel_fd);
    if (kernel.ramdisk_fd >= 0)
        input->ramdisk_fd = handout_give_owned(h, kernel.ramdisk_fd);
    words->cmdline = kernel.cmdline;
    input->cmdline = words->cmdline;
    return 0;
}

static int add_uefi(struct qemu_domain *d, struct handout *h, struct qemu_plan_input *input,
                    struct hv_err *err)
{
    const struct hv_driver_state *state = d->driver;
    bool possible = hv_qemu_driver.capabilities(state) & DRIVER_CAN_SECURE_BOOT;
    enum secure_boot wanted = input->config->secure_boot;
    input->secure_boot = wanted == SECURE_BOOT_ON || (wanted == SECURE_BOOT_AUTO && possible);
    const char *code = input->secure_boot ? state->ovmf_secure_code : state->ovmf_code;
    int fd = open(code, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The host has no UEFI firmware (package ovmf).");
    input->ovmf_code_fd = handout_give_owned(h, fd);
    fd = kept_open_flash(state->state_dir, d->uuid, state->ovmf_vars,
                         possible ? state->ovmf_secure_vars : NULL, input->secure_boot, err);
    if (fd < 0)
        return -1;
    input->ovmf_vars_fd = handout_give_owned(h, fd);
    return 0;
}

int firmware_add(struct qemu_domain *d, const struct disk_chain *chains, struct handout *h,
                 struct qemu_plan_input *input, struct boot_words *words, struct hv_err *err)
{
    switch (input->config->firmware) {
    case FIRMWARE_BIOS:
        return 0;
    case FIRMWARE_UEFI:
        return add_uefi(d, h, input, err);
    case FIRMWARE_KERNEL:
        return add_kernel(d, h, input, words, err);
    case FIRMWARE_GUEST_KERNEL:
        return add_guest_kernel(d, chains, h, input, words, err);
    }
    return hv_fail(err, HV_ERR_KIND_INTERNAL, "The firmware is unknown.");
}
