/* Running a child to its end while its output is captured, with a deadline and a cancel flag. */
#include <base/clock.h>
#include <base/mem.h>
#include <base/proc.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#define CANCEL_LOOK_MS 100

void proc_result_done(struct proc_result *r)
{
    buf_done(&r->out);
    buf_done(&r->err);
}

bool proc_ok(const struct proc_result *r)
{
    return r->exited && r->code == 0;
}

struct capture {
    int fd; /* -1: ended or not captured */
    struct buf *to;
    bool hand_on; /* to on_out instead */
};

/* Reads what is there. False: nothing at the moment, or the end. */
static bool drain(struct capture *c, const struct proc_run_options *options, struct proc_result *result)
{
    char piece[16384];
    ssize_t n = read(c->fd, piece, sizeof(piece));
    if (n < 0)
        return errno == EINTR;
    if (n == 0) {
        close(c->fd);
        c->fd = -1;
        return false;
    }
    if (c->hand_on) {
        options->on_out(options->arg, piece, (size_t)n);
        return true;
    }
    size_t room = options->capture_max > c->to->len ? options->capture_max - c->to->len : 0;
    if ((size_t)n > room)
        result->truncated = true;
    buf_add(c->to, piece, (size_t)n < room ? (size_t)n : room);
    return true;
}

/* At most a pipe full (1 MiB): a child that never stops talking must not outlast its deadline. */
static void drain_all(struct capture *c, const struct proc_run_options *options, struct proc_result *result)
{
    for (int i = 0; i < 64 && c->fd >= 0 && drain(c, options, result); i++)
        ;
}

/* The child leads its own session and group: whatever it started goes with it. */
static void kill_group(const struct proc *p, bool *told)
{
    kill(-p->pid, SIGKILL);
    proc_signal(p, SIGKILL);
    *told = true;
}

static void watch(struct proc *p, struct capture captures[2], const struct proc_run_options *options,
                  struct proc_result *result)
{
    int64_t end = options->timeout_ms < 0 ? INT64_MAX : clock_mono_ms() + options->timeout_ms;
    bool killed = false;
    for (;;) {
        int64_t now = clock_mono_ms();
        if (!killed && now >= end)
            kill_group(p, &result->timed_out);
        else if (!killed && options->cancel && *options->cancel)
            kill_group(p, &result->cancelled);
        killed = result->timed_out || result->cancelled;
        int64_t wait = killed ? -1 : end == INT64_MAX ? -1 : end - now;
        if (!killed && options->cancel && (wait < 0 || wait > CANCEL_LOOK_MS))
            wait = CANCEL_LOOK_MS;
        struct pollfd ready[3] = {{.fd = p->pidfd, .events = POLLIN},
                                  {.fd = captures[0].fd, .events = POLLIN},
                                  {.fd = captures[1].fd, .events = POLLIN}};
        if (poll(ready, 3, wait > 1000000 ? 1000000 : (int)wait) <= 0)
            continue;
        for (int i = 0; i < 2; i++)
            if (ready[i + 1].revents)
                drain_all(&captures[i], options, result);
        if (ready[0].revents) {
            drain_all(&captures[0], options, result);
            drain_all(&captures[1], options, result);
            return;
        }
    }
}

/* Gives the child the writing end and the capture the reading end of a pipe. */
static int open_capture(struct capture *c, int *child_end)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    /* Only this side: the child may want to block. */
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
        close(ends[0]);
        close(ends[1]);
        return -1;
    }
    c->fd = ends[0];
    *child_end = ends[1];
    return 0;
}

int proc_run(const struct proc_spec *spec, const struct proc_run_options *options, struct proc_result *result)
{
    *result = PROC_RESULT_INIT;
    struct capture captures[2] = {{-1, &result->out, options->on_out != NULL}, {-1, &result->err, false}};
    AUTO_CLOSE int out_end = -1;
    AUTO_CLOSE int err_end = -1;
    struct proc_spec own = *spec;
    struct proc p;
    own.new_session = true;
    if (own.stdout_fd <= 2 && open_capture(&captures[0], &out_end) < 0)
        return -1;
    if (own.stderr_fd <= 2 && open_capture(&captures[1], &err_end) < 0)
        goto fail;
    if (out_end >= 0)
        own.stdout_fd = out_end;
    if (err_end >= 0)
        own.stderr_fd = err_end;
    if (proc_start(&own, &p) < 0)
        goto fail;
    fd_close_cleanup(&out_end);
    fd_close_cleanup(&err_end);
    out_end = err_end = -1;
    watch(&p, captures, options, result);
    int status = 0;
    proc_wait(&p, -1, &status);
    result->exited = WIFEXITED(status);
    result->code = result->exited ? WEXITSTATUS(status) : WTERMSIG(status);
    fd_close_cleanup(&captures[0].fd);
    fd_close_cleanup(&captures[1].fd);
    return 0;
fail:;
    int saved = errno;
    fd_close_cleanup(&captures[0].fd);
    fd_close_cleanup(&captures[1].fd);
    errno = saved;
    return -1;
}
