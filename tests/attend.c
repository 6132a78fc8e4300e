/* attend PROGRAM ARGUMENTS...: runs a test and ends what it leaves running, device models above all: a test
 * that fails half way does not come to stopping them, and no later one would. Its exit status is the test's.
 *
 * Whatever loses its parent below this process becomes its child (PR_SET_CHILD_SUBREAPER), so its children
 * are exactly what has to end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LEAVE_MS 3000 /* for what is just about to end */
#define LOOK_MS 20

static void quit(const char *doing)
{
    fprintf(stderr, "attend: cannot %s: %s\n", doing, strerror(errno));
    exit(125);
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* What the children become is nobody's business any more. True: there are some left. */
static bool reap(void)
{
    pid_t pid;
    do
        pid = waitpid(-1, NULL, WNOHANG);
    while (pid > 0 || (pid < 0 && errno == EINTR));
    return pid == 0;
}

static void tell(long pid)
{
    char path[64], words[256] = "";
    snprintf(path, sizeof(path), "/proc/%ld/cmdline", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, words, sizeof(words) - 1);
    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i + 1 < len; i++)
        if (words[i] == '\0')
            words[i] = ' ';
    fprintf(stderr, "attend: ended what the test has left running: %ld %s\n", pid, words);
}

/* Each is told of once, however long it takes to end; the children of those that end here are this process's
 * next. */
static void end_children(void)
{
    FILE *list = fopen("/proc/thread-self/children", "re");
    long pid;
    if (!list)
        quit("see what is left running");
    while (fscanf(list, "%ld", &pid) == 1) {
        tell(pid);
        kill((pid_t)pid, SIGKILL);
        while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    fclose(list);
}

int main(int argc, char **argv)
{
    int status = 0;
    if (argc < 2) {
        fputs("usage: attend PROGRAM ARGUMENTS...\n", stderr);
        return 125;
    }
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        quit("take up what loses its parent");
    pid_t test = fork();
    if (test < 0)
        quit("start the test");
    if (test == 0) {
        execvp(argv[1], argv + 1);
        quit("start the test");
    }
    for (pid_t pid = 0; pid != test;) {
        int of_one;
        pid = waitpid(-1, &of_one, 0);
        if (pid == test)
            status = of_one;
        else if (pid < 0 && errno != EINTR)
            quit("wait for the test");
    }
    for (int ms = 0; reap() && ms < LEAVE_MS; ms += LOOK_MS)
        pause_ms(LOOK_MS);
    while (reap()) {
        end_children();
        pause_ms(LOOK_MS);
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "attend: the test was ended by signal %d\n", WTERMSIG(status));
        return 128 + WTERMSIG(status);
    }
    return WEXITSTATUS(status);
}
