/* corral-launch: the last step before a program that works on what guests have written. It writes down who it
 * is, gives up every right that the program does not need, and becomes it:
 *
 *   corral-launch [--uid N --gid N [--also-gid N]] [--pid-fd N] [--ruleset N] [--keep N,N,...]
 *                 [--env NAME=VALUE]... -- PROGRAM ARGUMENT...
 *
 * The process number and its start time go to the descriptor before anything else happens, so that an agent
 * that died right after starting it finds it again. --also-gid is the one group beside its own that a device
 * model may need: that of /dev/kvm. --ruleset is what it may open (base/confine.h). --env is for the program
 * alone (LD_PRELOAD). */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEP_MAX 256
#define ENV_MAX 8

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "corral-launch: %s: %s\n", what, strerror(errno));
    _exit(127);
}

static _Noreturn void fail_usage(const char *at)
{
    fprintf(stderr,
            "corral-launch: wrong words%s%s; hostd starts this program, by\n"
            "corral-launch [--uid N --gid N [--also-gid N]] [--pid-fd N] [--ruleset N] [--keep N,...] "
            "[--env NAME=VALUE]... -- /PROGRAM ARGUMENT...\n",
            *at ? " at " : "", at);
    _exit(127);
}

static long number(const char *text)
{
    char *end;
    errno = 0;
    long n = text ? strtol(text, &end, 10) : -1;
    if (!text || errno || end == text || *end || n < 0 || n > 0x7fffffff) {
        errno = EINVAL;
        fail("a number is not one");
    }
    return n;
}

/* Field 22 of /proc/self/stat: clock ticks since boot; with the number it names a process for good. */
static unsigned long long start_time(void)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        fail("/proc/self/stat");
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    char *p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (!p) {
        errno = EPROTO;
        fail("/proc/self/stat");
    }
    return strtoull(p + 1, NULL, 10);
}

static void tell_pid(int fd)
{
    char line[64];
    int len = snprintf(line, sizeof(line), "%d %llu\n", (int)getpid(), start_time());
    if (write(fd, line, (size_t)len) != len)
        fail("the process number cannot be written");
    close(fd);
}

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Closes everything above stderr that is not on the list. */
static void close_others(char *list)
{
    int keep[KEEP_MAX], count = 0;
    for (char *save = NULL, *one = list ? strtok_r(list, ",", &save) : NULL; one;
         one = strtok_r(NULL, ",", &save)) {
        if (count == KEEP_MAX) {
            errno = E2BIG;
            fail("too many descriptors");
        }
        keep[count++] = (int)number(one);
    }
    qsort(keep, (size_t)count, sizeof(keep[0]), compare);
    unsigned from = 3;
    for (int i = 0; i < count; i++) {
        if ((unsigned)keep[i] > from && close_range(from, (unsigned)keep[i] - 1, 0) < 0)
            fail("descriptors cannot be closed");
        if (keep[i] >= (int)from)
            from = (unsigned)keep[i] + 1;
    }
    if (close_range(from, ~0U, 0) < 0)
        fail("descriptors cannot be closed");
}

static void drop_rights(long uid, long gid, long also_gid)
{
    gid_t also = (gid_t)also_gid;
    if (uid >= 0) {
        if (uid == 0 || gid <= 0 || also_gid == 0) {
            errno = EINVAL;
            fail("a device model never runs as root");
        }
        if (setgroups(also_gid > 0, &also) < 0 || setresgid((gid_t)gid, (gid_t)gid, (gid_t)gid) < 0 ||
            setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) < 0)
            fail("the user cannot be changed");
        if (setuid(0) == 0) {
            errno = EPERM;
            fail("the rights could be taken back");
        }
    }
    struct rlimit none = {0, 0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        fail("the rights cannot be limited");
    umask(077);
}

static void confine(int ruleset)
{
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        fail("the files that it may open cannot be limited");
}

int main(int argc, char **argv)
{
    long uid = -1, gid = -1, also_gid = -1, pid_fd = -1, ruleset = -1;
    char *keep = NULL, *env[ENV_MAX];
    int i = 1, env_count = 0;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (strcmp(argv[i], "--uid") == 0)
            uid = number(argv[i + 1]);
        else if (strcmp(argv[i], "--gid") == 0)
            gid = number(argv[i + 1]);
        else if (strcmp(argv[i], "--also-gid") == 0)
            also_gid = number(argv[i + 1]);
        else if (strcmp(argv[i], "--pid-fd") == 0)
            pid_fd = number(argv[i + 1]);
        else if (strcmp(argv[i], "--ruleset") == 0)
            ruleset = number(argv[i + 1]);
        else if (strcmp(argv[i], "--keep") == 0)
            keep = argv[i + 1];
        else if (strcmp(argv[i], "--env") == 0 && strchr(argv[i + 1], '=') && env_count < ENV_MAX)
            env[env_count++] = argv[i + 1];
        else
            break;
    }
    if (i + 1 >= argc || strcmp(argv[i], "--") != 0 || argv[i + 1][0] != '/')
        fail_usage(i < argc ? argv[i] : "");
    if (pid_fd >= 0)
        tell_pid((int)pid_fd);
    drop_rights(uid, gid, also_gid);
    if (ruleset >= 0)
        confine((int)ruleset);
    close_others(keep);
    for (int k = 0; k < env_count; k++)
        putenv(env[k]);
    execv(argv[i + 1], argv + i + 1);
    fail(argv[i + 1]);
}
