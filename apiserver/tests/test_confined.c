/* What the server can still do once it has limited itself. Each test is a process of its own. */
#include "../src/confined.h"
#include <base/confine.h>
#include <base/file.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/corral-confined-XXXXXX";

static char *in(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static void make(const char *name)
{
    AUTO_FREE char *path = in(name);
    cr_assert_eq(mkdir(path, 0700), 0);
}

static int opened(const char *name, int flags)
{
    AUTO_FREE char *path = in(name);
    int fd AUTO_CLOSE = open(path, flags | O_CLOEXEC, 0600);
    return fd >= 0 ? 0 : errno;
}

static int listens(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd AUTO_CLOSE = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", folder, name);
    return bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
}

/* Removes the folder once this process, which will not be able to, has ended. */
static void remove_later(void)
{
    int end[2];
    cr_assert_eq(pipe(end), 0);
    if (fork() == 0) {
        char none;
        dup2(end[0], 0);
        close_range(1, ~0U, 0);
        execl("/bin/rm", "rm", "-rf", read(0, &none, 1) == 0 ? folder : "", NULL);
        _exit(1);
    }
    close(end[0]); /* the other end stays open as long as this process */
}

static void begin(void)
{
    cr_assert_not_null(mkdtemp(folder));
    remove_later();
    make("state");
    make("web");
    make("run");
    make("other");
    AUTO_FREE char *page = in("web/page"), *secret = in("other/secret");
    cr_assert_eq(file_write_atomic(page, "a", 1, 0600), 0);
    cr_assert_eq(file_write_atomic(secret, "b", 1, 0600), 0);
    AUTO_FREE char *state = in("state"), *web = in("web"), *socket = in("run/poold.sock");
    const struct confined_paths paths = {.state_dir = state, .web_dir = web, .socket = socket};
    cr_assert(confined_begin(&paths));
    cr_assert(confined_begin(&paths), "what started itself anew is limited already");
}

Test(confined, opens_its_own_files_and_no_others)
{
    if (confine_version() == 0)
        cr_skip_test("the kernel has no Landlock");
    begin();
    cr_expect_eq(opened("state/new", O_WRONLY | O_CREAT), 0);
    make("state/folder");
    AUTO_FREE char *from = in("state/new"), *to = in("state/folder/new");
    cr_expect_eq(rename(from, to), 0, "%s", strerror(errno));
    cr_expect_eq(unlink(to), 0);
    cr_expect_eq(opened("web/page", O_RDONLY), 0);
    cr_expect_eq(opened("web/page", O_WRONLY), EACCES);
    cr_expect_eq(opened("web/new", O_WRONLY | O_CREAT), EACCES);
    cr_expect_eq(opened("other/secret", O_RDONLY), EACCES);
    cr_expect_eq(opened("other/new", O_WRONLY | O_CREAT), EACCES);
    cr_expect_eq(listens("run/poold.sock"), 0);
    cr_expect_eq(listens("other/poold.sock"), EACCES);
    cr_expect_eq(opened("run/new", O_WRONLY | O_CREAT), EACCES);
    cr_expect_eq(access("/etc/passwd", R_OK), 0);
    int null AUTO_CLOSE = open("/dev/null", O_RDWR | O_CLOEXEC);
    cr_expect_geq(null, 0);
}

Test(confined, serves_and_starts_programs_but_gets_no_rights)
{
    begin();
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd AUTO_CLOSE = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_expect_eq(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0, "%s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(9);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(WEXITSTATUS(status), 0);
    cr_expect_eq(mount("none", "/mnt", "tmpfs", 0, NULL), -1);
    cr_expect_eq(errno, EPERM);
    cr_expect_eq(chroot("/"), -1);
    cr_expect_eq(errno, EPERM);
    char *text AUTO_FREE = file_read("/proc/self/status", 65536, NULL);
    cr_expect_not_null(strstr(text, "NoNewPrivs:\t1"));
    cr_expect_not_null(strstr(text, "Seccomp:\t2"));
}
