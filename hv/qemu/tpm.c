/* The process of a domain's TPM: swtpm, one a domain, as the domain's user, in a folder of its own. It
 * ends with the connection that the device model has to it, so it needs nobody to look after it; its number
 * is written down (run/<uuid>/tpm.pid) for the one that does not. */
#include "start.h"
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <io/kept.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PID_FILE "tpm.pid"
#define END_MS 2000

static int spawn(struct qemu_domain *d, int folder, int channel, struct hv_err *err)
{
    const struct hv_driver_state *state = d->driver;
    int log AUTO_CLOSE = rundir_log(&d->dir, "tpm.log");
    int pid_fd AUTO_CLOSE = openat(d->dir.fd, PID_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (log < 0 || pid_fd < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's files on the host cannot be made: %s",
                       strerror(errno));
    /* By its descriptor, since the user of the process may not walk through the agent's folder. */
    char *cwd AUTO_FREE = xasprintf("/proc/self/fd/%d", folder);
    int ruleset AUTO_CLOSE = -1;
    if (confined_ruleset(state, state->swtpm, NULL, 0, folder, &ruleset, err) < 0)
        return -1;
    const struct proc_fd fds[] = {{channel, 3}, {pid_fd, 4}, {ruleset, 5}};
    static const char *const command[] = {"--pid-fd", "4", "--keep", "3", NULL};
    static const char *const options[] = {"socket",          "--tpm2", "--tpmstate",
                                          "dir=.,mode=0600", "--ctrl", "type=unixio,clientfd=3",
                                          "--terminate",     NULL};
    char **argv = NULL;
    size_t argc = 0;
    launch_begin(d, 0, &argv, &argc);
    for (size_t i = 0; command[i]; i++)
        launch_add(&argv, &argc, xstrdup(command[i]));
    launch_add_ruleset(&argv, &argc, ruleset >= 0 ? 5 : -1);
    launch_add(&argv, &argc, xstrdup("--"));
    launch_add(&argv, &argc, xstrdup(state->swtpm));
    for (size_t i = 0; options[i]; i++)
        launch_add(&argv, &argc, xstrdup(options[i]));
    struct proc_spec spec = {.argv = (const char *const *)argv,
                             .cwd = cwd,
                             .stdout_fd = log,
                             .stderr_fd = log,
                             .fds = fds,
                             .fd_count = ARRAY_LEN(fds) - (ruleset < 0),
                             .new_session = true};
    int outcome = proc_start(&spec, &d->tpm);
    if (outcome < 0)
        hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The domain's TPM cannot be started: %s", strerror(errno));
    for (size_t i = 0; i < argc; i++)
        free(argv[i]);
    free(argv);
    return outcome;
}

int tpm_add(struct qemu_domain *d, struct handout *h, struct qemu_plan_input *input, struct hv_err *err)
{
    if (!input->config->tpm)
        return 0;
    const struct kept_user user = domain_user(d);
    int folder AUTO_CLOSE = kept_open_tpm(d->driver->state_dir, d->uuid, &user, err);
    int ends[2];
    if (folder < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The domain's TPM cannot be connected: %s",
                       strerror(errno));
    int outcome = spawn(d, folder, ends[0], err);
    close(ends[0]);
    if (outcome < 0) {
        close(ends[1]);
        return -1;
    }
    input->tpm_fd = handout_give_owned(h, ends[1]);
    return 0;
}

/* Of a domain that was adopted. */
static int open_process(struct qemu_domain *d)
{
    struct rundir_pid pid;
    if (d->dir.fd < 0 || rundir_read_pid_file(&d->dir, PID_FILE, &pid) < 0)
        return -1;
    int pidfd = pidfd_open(pid.pid, 0);
    if (pidfd >= 0 && process_start_ticks(pid.pid) == pid.start_ticks)
        return pidfd;
    if (pidfd >= 0)
        close(pidfd);
    return -1;
}

void tpm_end(struct qemu_domain *d)
{
    struct proc *proc = &d->tpm;
    if (proc->pidfd >= 0) {
        proc_kill(proc);
        *proc = (struct proc){-1, -1};
        return;
    }
    int pidfd AUTO_CLOSE = open_process(d);
    if (pidfd < 0)
        return;
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 || poll(&p, 1, END_MS) != 1)
        log_warn("qemu", "the process of a TPM does not end", "domain", d->uuid);
}
