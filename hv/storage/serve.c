/* A disk over NBD: qemu-storage-daemon, run as the storage user, with the disk's files and a listening socket
 * as descriptors. The socket has a name that the kernel chose and lets one connection in, which was made
 * before the program started: it is ours. */
#include "storage_internal.h"
#include <base/json.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SOCKET_FD 3
#define LAUNCH_WORDS 6 /* of the command line, for the launcher */

struct storage_server {
    const struct storage_sr *sr;
    struct disk_layers layers;
    struct proc proc;
    bool runs;
};

int storage_serve_open(struct storage_sr *sr, const char *location, struct storage_server **out,
                       struct storage_error *error)
{
    struct disk_layers layers = {0};
    if (disk_layers_open(sr, location, O_RDONLY, &layers, error) < 0)
        return -1;
    *out = xcalloc(1, sizeof(**out));
    (*out)->sr = sr;
    (*out)->layers = layers;
    return 0;
}

/* A listening socket, and one that is connected with it. */
static int make_pair(int *listening, int *connected)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(address.sun_family); /* no more: the kernel chooses a name */
    int a AUTO_CLOSE = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int b AUTO_CLOSE = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (a < 0 || b < 0 || bind(a, (struct sockaddr *)&address, len) < 0 || listen(a, 1) < 0)
        return -1;
    len = sizeof(address);
    if (getsockname(a, (struct sockaddr *)&address, &len) < 0 ||
        connect(b, (struct sockaddr *)&address, len) < 0)
        return -1;
    *listening = TAKE_FD(a);
    *connected = TAKE_FD(b);
    return 0;
}

int storage_serve_start(struct storage_server *server, int *fd, struct storage_error *error)
{
    struct proc_fd fds[LAYERS_MAX + 2];
    int files[LAYERS_MAX], listening AUTO_CLOSE = -1, connected AUTO_CLOSE = -1, ruleset AUTO_CLOSE = -1;
    size_t count = layers_fds(&server->layers, files);
    AUTO_JSON json_t *node = layers_node(&server->layers, 0);
    AUTO_BUF struct buf blockdev = BUF_INIT;
    json_object_set_new(node, "node-name", json_string("disk"));
    json_object_set_new(node, "read-only", json_true());
    json_write(&blockdev, node);
    if (make_pair(&listening, &connected) < 0)
        return storage_fail_errno(error, errno, "no socket for the disk's server");
    if (tool_hand_over(server->sr, files, count, fds, error) < 0 ||
        tool_confine(files, count, &ruleset, error) < 0)
        return -1;
    AUTO_BUF struct buf keep = BUF_INIT;
    char ruleset_text[16];
    int ruleset_at = TOOL_FD + (int)count;
    buf_printf(&keep, "%d", SOCKET_FD);
    for (size_t i = 0; i < count; i++)
        buf_printf(&keep, ",%zu", TOOL_FD + i);
    snprintf(ruleset_text, sizeof(ruleset_text), "%d", ruleset_at);
    fds[count] = (struct proc_fd){listening, SOCKET_FD};
    fds[count + 1] = (struct proc_fd){ruleset, ruleset_at};
    const char *const argv[] = {storage_launcher(),
                                "--ruleset",
                                ruleset_text,
                                "--keep",
                                keep.data,
                                "--",
                                "/usr/bin/qemu-storage-daemon",
                                "--blockdev",
                                blockdev.data,
                                "--nbd-server",
                                "addr.type=fd,addr.str=3,max-connections=1",
                                "--export",
                                "type=nbd,id=disk,node-name=disk,name=disk,writable=off",
                                NULL};
    const struct proc_limit limits[] = {{RLIMIT_AS, (rlim_t)4 << 30}, {RLIMIT_CORE, 0}, {RLIMIT_FSIZE, 0}};
    const struct proc_spec spec = {.argv = ruleset >= 0 ? argv : argv + LAUNCH_WORDS,
                                   .fds = fds,
                                   .fd_count = ruleset >= 0 ? count + 2 : count + 1,
                                   .ends_with_caller = true,
                                   .uid = storage_uid(),
                                   .gid = storage_gid(),
                                   .limits = limits,
                                   .limit_count = ARRAY_LEN(limits)};
    if (proc_start(&spec, &server->proc) < 0)
        return storage_fail_errno(error, errno, "qemu-storage-daemon cannot be started");
    server->runs = true;
    *fd = TAKE_FD(connected);
    return 0;
}

void storage_serve_close(struct storage_server *server)
{
    if (!server)
        return;
    if (server->runs)
        proc_kill(&server->proc);
    disk_layers_done(&server->layers);
    free(server);
}
