/* The socket between hostd and its watchdog, STATE/ha/watchdog.sock: messages of fixed size between two
 * programs that are one file. */
#include "internal.h"

#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* By the folder's descriptor: a path may be longer than an address of a socket. */
static int open_folder(const char *state_dir, struct sockaddr_un *address)
{
    AUTO_FREE char *path = xasprintf("%s/ha", state_dir);
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/watchdog.sock", fd);
    return fd;
}

int link_listen(const char *state_dir)
{
    struct sockaddr_un address;
    int folder AUTO_CLOSE = open_folder(state_dir, &address);
    int fd = folder < 0 ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    unlinkat(folder, "watchdog.sock", 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 8) == 0)
        return fd;
    int cause = errno;
    close(fd);
    errno = cause;
    return -1;
}

int watchdog_ask(const char *state_dir, enum watchdog_request what, int64_t value, int64_t timeout_ms,
                 struct watchdog_status *status)
{
    struct sockaddr_un address;
    struct link_request request = {.what = what, .value = value};
    int folder AUTO_CLOSE = open_folder(state_dir, &address);
    int fd AUTO_CLOSE = folder < 0 ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        send(fd, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
        return -1;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, (int)timeout_ms) != 1)
        return -1;
    struct watchdog_status answer;
    if (recv(fd, &answer, sizeof(answer), 0) != sizeof(answer))
        return -1;
    *status = answer;
    return 0;
}
