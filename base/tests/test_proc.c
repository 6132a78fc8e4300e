/* Children: what they get, how they end, and that nothing of them stays. */
#include <base/clock.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct proc_run_options usual = {.timeout_ms = 20000, .capture_max = 65536};

static const char *text_of(const struct buf *b)
{
    return b->len ? b->data : "";
}

Test(proc, output_and_exit_code)
{
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("python3", "-c",
                                                           "import sys; print('out'); "
                                                           "print('err', file=sys.stderr); sys.exit(7)")},
                          &usual, &r),
                 0);
    cr_assert(r.exited && r.code == 7 && !proc_ok(&r));
    cr_assert_str_eq(text_of(&r.out), "out\n");
    cr_assert_str_eq(text_of(&r.err), "err\n");
}

Test(proc, arguments_are_not_interpreted)
{
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("/bin/echo", "a b", "$HOME; ls *", "`x`\n'\"")},
                          &usual, &r),
                 0);
    cr_assert_str_eq(text_of(&r.out), "a b $HOME; ls * `x`\n'\"\n");
}

Test(proc, a_program_that_is_not_there)
{
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("no-such-program-here")}, &usual, &r), -1);
    cr_assert_eq(errno, ENOENT);
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("/etc/passwd")}, &usual, &r), -1);
    cr_assert_eq(errno, EACCES);
}

Test(proc, a_child_gets_the_named_descriptors_and_no_other)
{
    /* Sources and targets overlap on purpose, and there is a descriptor without close-on-exec. */
    int stray = open("/dev/null", O_RDONLY);
    int a = open("/proc/self/status", O_RDONLY), b = open("/proc/self/maps", O_RDONLY);
    const struct proc_fd fds[] = {{a, b}, {b, a}, {a, 20}};
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    struct proc_spec spec = {
        .argv = ARGV("python3", "-c",
                     "import os\nfor f in sorted(int(x) for x in os.listdir('/proc/self/fd')):\n"
                     " try: print(f, os.readlink('/proc/self/fd/%d' % f).split('/')[-1])\n"
                     " except OSError: pass"),
        .fds = fds,
        .fd_count = 3};
    cr_assert_eq(proc_run(&spec, &usual, &r), 0);
    AUTO_BUF struct buf expected = BUF_INIT;
    buf_printf(&expected, "0 null\n%d maps\n%d status\n20 status\n", a < b ? a : b, a < b ? b : a);
    if (a > b)
        cr_skip_test("descriptors came in an unexpected order");
    AUTO_BUF struct buf seen = BUF_INIT;
    for (char *line = strtok(r.out.data, "\n"); line; line = strtok(NULL, "\n"))
        if (!strstr(line, "pipe:"))
            buf_printf(&seen, "%s\n", line);
    cr_assert_str_eq(seen.data, expected.data);
    close(stray);
    close(a);
    close(b);
}

Test(proc, environment_and_folder_are_fixed)
{
    setenv("SECRET_CANARY", "1", 1);
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("env")}, &usual, &r), 0);
    cr_assert_null(strstr(text_of(&r.out), "SECRET"));
    cr_assert_not_null(strstr(text_of(&r.out), "LC_ALL=C.UTF-8\n"));
    AUTO_PROC_RESULT struct proc_result own = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("env"), .env = ARGV("A=b")}, &usual, &own), 0);
    cr_assert_str_eq(text_of(&own.out), "A=b\n");
    AUTO_PROC_RESULT struct proc_result where = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("pwd"), .cwd = "/usr"}, &usual, &where), 0);
    cr_assert_str_eq(text_of(&where.out), "/usr\n");
}

Test(proc, killed_at_the_deadline_with_its_children)
{
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    struct proc_run_options options = {.timeout_ms = 300, .capture_max = 100};
    int64_t start = clock_mono_ms();
    /* The grandchild holds the pipe: only killing the whole session lets the run end. */
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("python3", "-c",
                                                           "import subprocess; print('up', flush=True); "
                                                           "subprocess.run(['sleep', '1000'])")},
                          &options, &r),
                 0);
    cr_assert(r.timed_out && !r.exited && r.code == SIGKILL);
    cr_assert_lt(clock_mono_ms() - start, 10000);
}

Test(proc, endless_output_is_capped_and_does_not_outlast_the_deadline)
{
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    struct proc_run_options options = {.timeout_ms = 300, .capture_max = 1000};
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("yes")}, &options, &r), 0);
    cr_assert(r.timed_out && r.truncated && r.out.len == 1000);
}

static void cancel_at_first_output(void *arg, const char *data, size_t len)
{
    (void)data, (void)len;
    *(_Atomic bool *)arg = true;
}

Test(proc, cancelled)
{
    _Atomic bool cancel = false;
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    struct proc_run_options options = {
        .timeout_ms = -1, .cancel = &cancel, .on_out = cancel_at_first_output, .arg = &cancel};
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = ARGV("yes")}, &options, &r), 0);
    cr_assert(r.cancelled && !r.exited);
}

Test(proc, limits_hold)
{
    const struct proc_limit limits[] = {{RLIMIT_FSIZE, 0}, {RLIMIT_NOFILE, 17}};
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    struct proc_spec spec = {.argv = ARGV("python3", "-c",
                                          "import resource as r; print(r.getrlimit(r.RLIMIT_FSIZE), "
                                          "r.getrlimit(r.RLIMIT_NOFILE))"),
                             .limits = limits,
                             .limit_count = 2};
    cr_assert_eq(proc_run(&spec, &usual, &r), 0);
    cr_assert_str_eq(text_of(&r.out), "(0, 0) (17, 17)\n");
}

Test(proc, another_user_without_privileges)
{
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    struct proc_spec spec = {
        .argv = ARGV("grep", "-E", "^(Uid|Gid|Groups|CapEff|CapBnd|NoNewPrivs)", "/proc/self/status"),
        .uid = 65534,
        .gid = 65534};
    if (geteuid() != 0) {
        cr_assert_eq(proc_run(&spec, &usual, &r), -1);
        cr_assert_eq(errno, EPERM);
        return;
    }
    cr_assert_eq(proc_run(&spec, &usual, &r), 0);
    cr_assert_str_eq(text_of(&r.out), "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\n"
                                      "Groups:\t \nCapEff:\t0000000000000000\n"
                                      "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n");
    spec.gid = 0;
    AUTO_PROC_RESULT struct proc_result half = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&spec, &usual, &half), -1);
}

Test(proc, start_signal_wait)
{
    struct proc p;
    int status;
    cr_assert_eq(proc_start(&(struct proc_spec){.argv = ARGV("sleep", "1000"), .new_session = true}, &p), 0);
    cr_assert_eq(getsid(p.pid), p.pid);
    cr_assert_eq(proc_wait(&p, 0, &status), 0);
    cr_assert_eq(proc_signal(&p, SIGTERM), 0);
    cr_assert_eq(proc_wait(&p, 10000, &status), 1);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    cr_assert_eq(p.pidfd, -1);
}

Test(proc, signals_of_the_caller_are_not_inherited)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    AUTO_PROC_RESULT struct proc_result r = PROC_RESULT_INIT;
    cr_assert_eq(
        proc_run(&(struct proc_spec){.argv = ARGV("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")},
                 &usual, &r),
        0);
    unsigned long long blocked = 1, ignored = 1;
    cr_assert_eq(sscanf(text_of(&r.out), "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
    /* Signals 32 and 33 are the C library's own: left as they are. */
    cr_assert(blocked == 0 && (ignored & ~0x180000000ull) == 0);
}
