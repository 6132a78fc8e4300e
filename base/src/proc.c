/* Starting and waiting. posix_spawn gives the child exactly the descriptors of the spec. What it cannot
 * do, another user and resource limits, is done by util-linux's setpriv and prlimit in front of the
 * program: they replace themselves by it, so the pid stays. proc_run.c captures output. */
#include <base/clock.h>
#include <base/mem.h>
#include <base/proc.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const default_env[] = {"PATH=" DEFAULT_PATH, "LC_ALL=C.UTF-8", NULL};

/* The absolute path of a program; NULL with errno. The caller frees. */
static char *find_program(const char *name)
{
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 ? xstrdup(name) : NULL;
    for (const char *p = DEFAULT_PATH; *p;) {
        size_t len = strcspn(p, ":");
        AUTO_FREE char *path = xasprintf("%.*s/%s", (int)len, p, name);
        if (access(path, X_OK) == 0)
            return TAKE_PTR(path);
        p += len + (p[len] == ':');
    }
    errno = ENOENT;
    return NULL;
}

/* An argument vector under construction; the strings are its own. */
struct vector {
    char **items;
    size_t count;
};

static void vector_add(struct vector *v, char *moved)
{
    v->items = xreallocarray(v->items, v->count + 2, sizeof(*v->items));
    v->items[v->count++] = moved;
    v->items[v->count] = NULL;
}

static void vector_done(struct vector *v)
{
    for (size_t i = 0; i < v->count; i++)
        free(v->items[i]);
    free(v->items);
}

static const char *limit_option(int resource)
{
    switch (resource) {
    case RLIMIT_AS:
        return "as";
    case RLIMIT_CORE:
        return "core";
    case RLIMIT_CPU:
        return "cpu";
    case RLIMIT_FSIZE:
        return "fsize";
    case RLIMIT_NOFILE:
        return "nofile";
    case RLIMIT_NPROC:
        return "nproc";
    default:
        return NULL;
    }
}

/* The program's path and arguments, behind setpriv and prlimit where the spec needs them. */
static int build_argv(const struct proc_spec *spec, struct vector *v)
{
    AUTO_FREE char *program = find_program(spec->argv[0]);
    if (!program)
        return -1;
    if (spec->uid != 0 || spec->gid != 0) {
        if (geteuid() != 0 || spec->uid == 0 || spec->gid == 0) {
            errno = EPERM;
            return -1;
        }
        vector_add(v, xstrdup("/usr/bin/setpriv"));
        vector_add(v, xasprintf("--reuid=%u", spec->uid));
        vector_add(v, xasprintf("--regid=%u", spec->gid));
        vector_add(v, xstrdup("--clear-groups"));
        vector_add(v, xstrdup("--inh-caps=-all"));
        vector_add(v, xstrdup("--bounding-set=-all"));
        vector_add(v, xstrdup("--no-new-privs"));
    } else if (spec->ends_with_caller) {
        vector_add(v, xstrdup("/usr/bin/setpriv"));
    }
    if (spec->ends_with_caller)
        vector_add(v, xstrdup("--pdeathsig=KILL"));
    if (v->count > 0)
        vector_add(v, xstrdup("--"));
    if (spec->limit_count > 0) {
        vector_add(v, xstrdup("/usr/bin/prlimit"));
        for (size_t i = 0; i < spec->limit_count; i++) {
            const char *option = limit_option(spec->limits[i].resource);
            if (!option) {
                errno = EINVAL;
                return -1;
            }
            unsigned long long value = spec->limits[i].value;
            vector_add(v, xasprintf("--%s=%llu:%llu", option, value, value));
        }
        vector_add(v, xstrdup("--"));
    }
    vector_add(v, TAKE_PTR(program));
    for (size_t i = 1; spec->argv[i]; i++)
        vector_add(v, xstrdup(spec->argv[i]));
    return 0;
}

/* Copies of the parent's descriptors above every number that the child uses, so that no dup2 in the
 * child overwrites a source that a later one needs. */
struct fd_copies {
    int *fds;
    size_t count;
};

static void fd_copies_done(struct fd_copies *c)
{
    for (size_t i = 0; i < c->count; i++)
        close(c->fds[i]);
    free(c->fds);
}

static int fd_copy_add(struct fd_copies *c, int fd, int above, int *out)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, above);
    if (copy < 0)
        return -1;
    c->fds = xreallocarray(c->fds, c->count + 1, sizeof(int));
    c->fds[c->count++] = copy;
    *out = copy;
    return 0;
}

static int highest_child_fd(const struct proc_spec *spec)
{
    int highest = 2;
    for (size_t i = 0; i < spec->fd_count; i++)
        if (spec->fds[i].child > highest)
            highest = spec->fds[i].child;
    return highest;
}

static bool child_uses(const struct proc_spec *spec, int fd)
{
    for (size_t i = 0; i < spec->fd_count; i++)
        if (spec->fds[i].child == fd)
            return true;
    return false;
}

static int add_standard(posix_spawn_file_actions_t *actions, struct fd_copies *copies, int fd, int child,
                        int above)
{
    int copy;
    if (fd <= 0)
        return posix_spawn_file_actions_addopen(actions, child, "/dev/null", child == 0 ? O_RDONLY : O_WRONLY,
                                                0);
    if (fd_copy_add(copies, fd, above, &copy) < 0)
        return errno;
    return posix_spawn_file_actions_adddup2(actions, copy, child);
}

/* 0 or an errno value. */
static int build_actions(const struct proc_spec *spec, posix_spawn_file_actions_t *actions,
                         struct fd_copies *copies)
{
    int highest = highest_child_fd(spec), above = highest + 1, rc;
    if (highest > 1000)
        return EINVAL;
    if ((rc = posix_spawn_file_actions_addchdir_np(actions, spec->cwd ? spec->cwd : "/")) != 0 ||
        (rc = add_standard(actions, copies, spec->stdin_fd, 0, above)) != 0 ||
        (rc = add_standard(actions, copies, spec->stdout_fd, 1, above)) != 0 ||
        (rc = add_standard(actions, copies, spec->stderr_fd, 2, above)) != 0)
        return rc;
    for (size_t i = 0; i < spec->fd_count; i++) {
        int copy;
        if (spec->fds[i].child < 3)
            return EINVAL;
        if (fd_copy_add(copies, spec->fds[i].parent, above, &copy) < 0)
            return errno;
        if ((rc = posix_spawn_file_actions_adddup2(actions, copy, spec->fds[i].child)) != 0)
            return rc;
    }
    for (int fd = 3; fd < above; fd++)
        if (!child_uses(spec, fd) && (rc = posix_spawn_file_actions_addclose(actions, fd)) != 0)
            return rc;
    return posix_spawn_file_actions_addclosefrom_np(actions, above);
}

static int build_attributes(const struct proc_spec *spec, posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (spec->new_session)
        flags |= POSIX_SPAWN_SETSID;
    int rc = posix_spawnattr_setsigmask(attributes, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(attributes, &all);
    return rc ? rc : posix_spawnattr_setflags(attributes, flags);
}

int proc_start(const struct proc_spec *spec, struct proc *out)
{
    CLEANUP(vector_done) struct vector argv = {0};
    CLEANUP(fd_copies_done) struct fd_copies copies = {0};
    if (build_argv(spec, &argv) < 0)
        return -1;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    pid_t pid = -1;
    int rc = build_actions(spec, &actions, &copies);
    if (rc == 0)
        rc = build_attributes(spec, &attributes);
    if (rc == 0)
        rc = posix_spawn(&pid, argv.items[0], &actions, &attributes, argv.items,
                         (char *const *)(uintptr_t)(spec->env ? spec->env : default_env));
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        errno = rc;
        return -1;
    }
    int pidfd = pidfd_open(pid, 0); /* its zombie keeps the number: no race */
    if (pidfd < 0) {
        int saved = errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        errno = saved;
        return -1;
    }
    *out = (struct proc){pid, pidfd};
    return 0;
}

int proc_wait(struct proc *p, int64_t timeout_ms, int *status)
{
    int64_t end = timeout_ms < 0 ? 0 : clock_mono_ms() + timeout_ms;
    for (;;) {
        int64_t left = timeout_ms < 0 ? -1 : end - clock_mono_ms();
        int wait = left < 0 ? (timeout_ms < 0 ? -1 : 0) : left > 1000000 ? 1000000 : (int)left;
        struct pollfd ready = {.fd = p->pidfd, .events = POLLIN};
        int n = poll(&ready, 1, wait);
        if (n > 0)
            break;
        if (n == 0 && timeout_ms >= 0 && clock_mono_ms() >= end)
            return 0;
    }
    int got = 0;
    while (waitpid(p->pid, &got, 0) < 0 && errno == EINTR)
        ;
    close(p->pidfd);
    *p = (struct proc){-1, -1};
    if (status)
        *status = got;
    return 1;
}

int proc_signal(const struct proc *p, int signal_number)
{
    return pidfd_send_signal(p->pidfd, signal_number, NULL, 0);
}

void proc_kill(struct proc *p)
{
    proc_signal(p, SIGKILL);
    proc_wait(p, -1, NULL);
}

void proc_forget(struct proc *p)
{
    close(p->pidfd);
    *p = (struct proc){-1, -1};
}
