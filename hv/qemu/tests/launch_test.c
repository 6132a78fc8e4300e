/* corral-launch: what it refuses, what it leaves to the program, and the number that it writes down. */
#include <base/confine.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <io/rundir.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int ruleset = -1;

/* Runs the launcher with its stdout and stderr in *out; descriptors 3 (for the number), 4 and 5 are open, and
 * 6 is the ruleset, if there is one. */
static int launch(const char *const *arguments, char *out, size_t size, int *pid_fd)
{
    const char *argv[32] = {LAUNCHER};
    for (size_t i = 0; arguments[i]; i++)
        argv[i + 1] = arguments[i];
    char name[] = "/tmp/corral-launch-XXXXXX";
    int file = mkostemp(name, O_CLOEXEC), log = memfd_create("out", MFD_CLOEXEC), status = 0;
    cr_assert(file >= 0 && log >= 0 && unlink(name) == 0);
    struct proc_fd fds[] = {{file, 3}, {file, 4}, {file, 5}, {ruleset, 6}};
    struct proc_spec spec = {
        .argv = argv, .stdout_fd = log, .stderr_fd = log, .fds = fds, .fd_count = ruleset >= 0 ? 4 : 3};
    struct proc child;
    cr_assert_eq(proc_start(&spec, &child), 0);
    cr_assert_eq(proc_wait(&child, 20000, &status), 1);
    ssize_t n = pread(log, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    close(log);
    *pid_fd = file;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(launch, wrong_usage_starts_nothing)
{
    static const char *const wrong[][9] = {
        {NULL},
        {"--pid-fd", "3", NULL},
        {"--pid-fd", "3", "--", NULL},
        {"--pid-fd", "3", "--", "echo", "no path", NULL},
        {"--pid-fd", "x", "--", "/bin/echo", "ran", NULL},
        {"--ruleset", "4", "--", "/bin/echo", "ran", NULL},
        {"--ruleset", "x", "--", "/bin/echo", "ran", NULL},
        {"--pid-fd", "3", "--frob", "1", "--", "/bin/echo", "ran", NULL},
        {"--pid-fd", "3", "--", "/no/such/program", NULL},
        {"--uid", "0", "--gid", "0", "--pid-fd", "3", "--", "/bin/echo", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char out[2048];
        int fd = -1;
        cr_expect_eq(launch(wrong[i], out, sizeof(out), &fd), 127, "case %zu: %s", i, out);
        cr_expect_null(strstr(out, "ran"), "case %zu", i);
        close(fd);
    }
}

Test(launch, only_kept_descriptors_reach_the_program)
{
    static const char *const arguments[] = {"--pid-fd", "3",       "--keep",        "5",
                                            "--",       "/bin/ls", "/proc/self/fd", NULL};
    char out[2048];
    int fd = -1;
    cr_assert_eq(launch(arguments, out, sizeof(out), &fd), 0, "%s", out);
    /* The last one is ls's own. */
    cr_assert(strstr(out, "0\n1\n2\n") && strstr(out, "5\n") && !strstr(out, "4\n"), "%s", out);
    close(fd);
}

Test(launch, the_number_names_the_process)
{
    static const char *const arguments[] = {"--pid-fd",          "3", "--", "/bin/sh", "-c",
                                            "cat /proc/$$/stat", NULL};
    char out[2048], line[128] = "";
    int fd = -1, pid = 0, shown = 0;
    unsigned long long ticks = 0;
    cr_assert_eq(launch(arguments, out, sizeof(out), &fd), 0, "%s", out);
    cr_assert_gt(pread(fd, line, sizeof(line) - 1, 0), 0);
    cr_assert_eq(sscanf(line, "%d %llu", &pid, &ticks), 2);
    cr_assert_eq(sscanf(out, "%d", &shown), 1);
    cr_assert_eq(pid, shown);
    char text[32];
    snprintf(text, sizeof(text), " %llu ", ticks);
    cr_assert(strstr(out, text), "%s not in %s", text, out);
    close(fd);
}

Test(launch, rights_are_given_up)
{
    if (geteuid() != 0)
        cr_skip_test("only root changes users");
    static const char *const arguments[] = {
        "--uid",    "64055", "--gid", "64056",    "--also-gid",        "64057",
        "--pid-fd", "3",     "--",    "/bin/cat", "/proc/self/status", NULL};
    char out[8192];
    int fd = -1;
    cr_assert_eq(launch(arguments, out, sizeof(out), &fd), 0, "%s", out);
    cr_assert(strstr(out, "Uid:\t64055\t64055\t64055\t64055"), "%s", out);
    cr_assert(strstr(out, "Gid:\t64056\t64056\t64056\t64056"), "%s", out);
    cr_assert(strstr(out, "Groups:\t64057 \n"), "%s", out);
    cr_assert(strstr(out, "CapPrm:\t0000000000000000"), "%s", out);
    cr_assert(strstr(out, "NoNewPrivs:\t1"), "%s", out);
    close(fd);
}

/* What no rule names is neither read nor made, though the file system would let it. */
Test(launch, a_ruleset_limits_what_is_opened)
{
    if (confine_version() == 0)
        cr_skip_test("this kernel has no Landlock");
    char dir[] = "/tmp/corral-confine-XXXXXX";
    cr_assert(mkdtemp(dir));
    char *read AUTO_FREE = xasprintf("%s/read", dir), *change AUTO_FREE = xasprintf("%s/change", dir);
    cr_assert(mkdir(read, 0700) == 0 && mkdir(change, 0700) == 0);
    ruleset = confine_new(false);
    cr_assert_geq(ruleset, 0);
    cr_assert_eq(confine_allow(ruleset, read, CONFINE_READ), 0);
    cr_assert_eq(confine_allow(ruleset, change, CONFINE_FOLDER), 0);
    cr_assert_eq(confine_allow(ruleset, "/no/such/file", CONFINE_READ), 0);
    static const struct {
        const char *program, *folder;
        int code;
    } table[] = {
        {"/bin/ls", "read", 0},          {"/bin/ls", "change", 0},       {"/bin/ls", "", 2},
        {"/usr/bin/mkdir", "change", 1}, {"/usr/bin/mktemp", "read", 1}, {"/usr/bin/mktemp", "change", 0},
        {"/usr/bin/mktemp", "", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char out[2048];
        int fd = -1;
        bool makes = strstr(table[i].program, "mktemp") != NULL;
        char *path AUTO_FREE = xasprintf("%s/%s%s", dir, table[i].folder, makes ? "/XXXXXX" : "");
        const char *const arguments[] = {"--ruleset", "6", "--", table[i].program, path, NULL};
        cr_expect_eq(launch(arguments, out, sizeof(out), &fd), table[i].code, "case %zu: %s", i, out);
        close(fd);
    }
    close(ruleset);
    ruleset = -1;
    const char *const argv[] = {"rm", "-rf", dir, NULL};
    struct proc_spec spec = {.argv = argv};
    struct proc rm;
    cr_assert_eq(proc_start(&spec, &rm), 0);
    proc_wait(&rm, -1, NULL);
}

Test(rundir, a_log_is_shortened_to_its_end)
{
    char name[] = "/tmp/corral-rundir-XXXXXX", block[1000];
    cr_assert(mkdtemp(name));
    struct rundir dir = {.fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    int log = rundir_log(&dir, "log");
    memset(block, 'a', sizeof(block));
    for (int i = 0; i < 10; i++)
        cr_assert_eq(write(log, block, sizeof(block)), (ssize_t)sizeof(block));
    cr_assert_eq(write(log, "END", 3), 3);
    rundir_trim(&dir, "log", 20000, 10);
    struct stat st;
    cr_assert(fstat(log, &st) == 0 && st.st_size == 10003);
    rundir_trim(&dir, "log", 5000, 10);
    /* Who appends goes on at the new end. */
    cr_assert_eq(write(log, "!", 1), 1);
    size_t len;
    char *text AUTO_FREE = rundir_tail(&dir, "log", 100, &len);
    cr_assert_str_eq(text, "aaaaaaaEND!");
    close(log);
    unlinkat(dir.fd, "log", 0);
    rundir_close(&dir);
    rmdir(name);
}
