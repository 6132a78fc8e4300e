/* Child processes: started with posix_spawn from an argument vector, never through a shell, never
 * with a descriptor that was not named. Waited for through a pidfd, so any thread may wait for any
 * child and no SIGCHLD handler is needed. */
#pragma once
#include <base/buf.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

struct proc_fd {
    int parent; /* open descriptor here; stays the caller's */
    int child;  /* its number in the child, 3 or more */
};

struct proc_limit {
    int resource; /* RLIMIT_AS, RLIMIT_CPU... */
    rlim_t value; /* soft and hard */
};

struct proc_spec {
    const char *const *argv; /* ended by NULL; argv[0] is an absolute path, or looked up on PATH */
    const char *const *env;  /* NULL: only PATH and LC_ALL=C.UTF-8 */
    const char *cwd;         /* NULL: "/" */
    /* Descriptors of the caller; -1 or 0 in a zeroed spec: /dev/null. (Its own stdin cannot be passed.) */
    int stdin_fd, stdout_fd, stderr_fd;
    const struct proc_fd *fds; /* further descriptors; everything else is closed in the child */
    size_t fd_count;
    bool new_session; /* setsid: survives the terminal and is not reached by its signals */
    /* Run as this user and group without supplementary groups and capabilities; 0: as the caller. The
     * caller must be root; otherwise proc_start fails. */
    uid_t uid;
    gid_t gid;
    bool ends_with_caller; /* is killed when the thread that starts it ends, however that happens */
    const struct proc_limit *limits;
    size_t limit_count;
};

struct proc {
    pid_t pid;
    int pidfd; /* readable when the child has ended; close-on-exec */
};

/* 0, or -1 with errno (the program was not found, may not be run...). Any thread. A child lives on when
 * the caller dies. */
int proc_start(const struct proc_spec *spec, struct proc *out);
/* Waits until the child ended or the time (-1: no limit) is over. 1: ended, *status as of waitpid;
 * 0: still running. The pidfd is closed when it ended. Once per child. */
int proc_wait(struct proc *p, int64_t timeout_ms, int *status);
/* Sends a signal through the pidfd: never to another process that got the number. */
int proc_signal(const struct proc *p, int signal_number);
/* SIGKILL and wait. */
void proc_kill(struct proc *p);
/* Forgets a child that somebody else waits for: closes the pidfd. */
void proc_forget(struct proc *p);

struct proc_result {
    bool exited;    /* by itself; code is the exit code */
    int code;       /* exit code, or the signal's number */
    bool timed_out; /* killed at the deadline */
    bool cancelled; /* killed because *cancel became true */
    bool truncated; /* more output than the cap: dropped, the child ran on */
    struct buf out, err;
};
#define PROC_RESULT_INIT ((struct proc_result){0})
void proc_result_done(struct proc_result *r);
#define AUTO_PROC_RESULT __attribute__((cleanup(proc_result_done)))

struct proc_run_options {
    int64_t timeout_ms;         /* -1: none; at the deadline the child and its session are killed */
    size_t capture_max;         /* of stdout and of stderr each */
    const _Atomic bool *cancel; /* may be NULL; looked at a few times a second */
    /* Called with each piece of stdout instead of capturing it; may be NULL. */
    void (*on_out)(void *arg, const char *data, size_t len);
    void *arg;
};
/* Runs to completion. spec->stdout_fd and stderr_fd are ignored unless above 2, when the output goes
 * there instead. 0: *result says how it ended (release with proc_result_done, always); -1 with errno: could
 * not be started. */
int proc_run(const struct proc_spec *spec, const struct proc_run_options *options,
             struct proc_result *result);
/* True if it exited by itself with code 0. */
bool proc_ok(const struct proc_result *r);
