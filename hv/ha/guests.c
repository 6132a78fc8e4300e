/* The device models of a host, as STATE/run/<uuid>/pid names them: by number and start time, so that no other
 * process is ever meant. */
#include "internal.h"

#include <base/mem.h>
#include <dirent.h>
#include <io/rundir.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <unistd.h>

/* -1: it is not there any more. */
static int open_guest(const char *state_dir, const char *uuid)
{
    struct rundir dir = RUNDIR_INIT;
    struct rundir_pid pid;
    if (rundir_open(state_dir, uuid, &dir) < 0)
        return -1;
    int known = rundir_read_pid(&dir, &pid);
    rundir_close(&dir);
    int fd = known == 0 ? pidfd_open(pid.pid, 0) : -1;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (fd >= 0 && process_start_ticks(pid.pid) == pid.start_ticks && poll(&p, 1, 0) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static size_t each_guest(const char *state_dir, bool end)
{
    AUTO_FREE char *path = xasprintf("%s/run", state_dir);
    DIR *list = opendir(path);
    size_t alive = 0;
    if (!list)
        return 0;
    for (struct dirent *e; (e = readdir(list));) {
        int fd AUTO_CLOSE = e->d_name[0] == '.' ? -1 : open_guest(state_dir, e->d_name);
        if (fd < 0)
            continue;
        alive++;
        if (end)
            pidfd_send_signal(fd, SIGKILL, NULL, 0);
    }
    closedir(list);
    return alive;
}

size_t guests_end(const char *state_dir)
{
    return each_guest(state_dir, true);
}

bool guests_gone(const char *state_dir)
{
    return each_guest(state_dir, false) == 0;
}
