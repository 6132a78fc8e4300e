/* What the processes of a domain may open besides what they are handed open: Landlock's rules for each. */
#include "start.h"
#include <base/confine.h>
#include <base/mem.h>
#include <errno.h>
#include <unistd.h>

/* Where a program that is not the system's own may have its libraries and data: PREFIX of PREFIX/bin/program,
 * else its folder. */
static char *home_of(const char *program)
{
    const char *slash = strrchr(program, '/');
    size_t len = slash ? (size_t)(slash - program) : 0;
    if (len > 4 && strncmp(program + len - 4, "/bin", 4) == 0)
        len -= 4;
    return xstrndup(program, len);
}

static int allow_home(int ruleset, const char *program)
{
    char *home AUTO_FREE = home_of(program);
    return *home ? confine_allow(ruleset, home, CONFINE_READ) : 0;
}

/* Devices that are passed through, KVM, and where libusb and the resolver of user networks look things up.
 * Who may open which of the devices says their owner. */
static int allow_devices(int ruleset)
{
    static const struct {
        const char *path;
        enum confine_access access;
    } all[] = {
        {"/dev/kvm", CONFINE_DEVICE},           {"/dev/vfio", CONFINE_DEVICE},
        {"/dev/bus/usb", CONFINE_DEVICE},       {"/run/udev", CONFINE_READ},
        {"/run/systemd/resolve", CONFINE_READ}, {"/run/resolvconf", CONFINE_READ},
        {"/run/NetworkManager", CONFINE_READ},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (confine_allow(ruleset, all[i].path, all[i].access) < 0)
            return -1;
    return 0;
}

static int fill(int ruleset, const struct hv_driver_state *state, const char *program,
                const struct proc_fd *fds, size_t fd_count, int folder)
{
    if (allow_home(ruleset, state->launcher) < 0 || allow_home(ruleset, program) < 0 ||
        (program == state->qemu_binary && allow_devices(ruleset) < 0) ||
        (folder >= 0 && confine_allow_fd(ruleset, folder, CONFINE_FOLDER) < 0))
        return -1;
    for (size_t i = 0; i < fd_count; i++)
        if (confine_allow_fd(ruleset, fds[i].parent, CONFINE_READ) < 0)
            return -1;
    return 0;
}

int confined_ruleset(const struct hv_driver_state *state, const char *program, const struct proc_fd *fds,
                     size_t fd_count, int folder, int *ruleset, struct hv_err *err)
{
    *ruleset = -1;
    if (!state->confines)
        return 0;
    int made = confine_new(false);
    if (made >= 0 && fill(made, state, program, fds, fd_count, folder) == 0) {
        *ruleset = made;
        return 0;
    }
    hv_fail(err, HV_ERR_KIND_INTERNAL,
            "The files that a process of the domain may open cannot be limited: %s", strerror(errno));
    if (made >= 0)
        close(made);
    return -1;
}
