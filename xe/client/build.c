/* Disks that are made on this machine: runs build-debian, which stands beside xe or in ../libexec/corral, in
 * a folder of its own that goes when it fails. Ctrl-C ends it and all that it started. */
#include "client.h"
#include <base/buf.h>
#include <base/mem.h>
#include <base/proc.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_MS 20000

/* Of a program that belongs to xe (the caller's); NULL: it is not there. */
static char *beside(const char *name)
{
    static const char *const folders[] = {"", "../libexec/corral/"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return NULL;
    self[n] = '\0';
    *(strrchr(self, '/') + 1) = '\0';
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        char *path = xasprintf("%s%s%s", self, folders[i], name);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return NULL;
}

static void note_progress(const char *line, xe_progress_fn *progress, void *arg)
{
    unsigned percent;
    if (sscanf(line, "progress %u", &percent) == 1 && percent <= 100)
        progress(arg, percent, 100);
}

/* Follows what it says until it ends or the user stops it. */
static void follow(const struct proc *p, int out, xe_progress_fn *progress, void *arg)
{
    AUTO_BUF struct buf in = BUF_INIT;
    bool stopped = false;
    for (;;) {
        struct pollfd wait = {.fd = out, .events = POLLIN};
        char data[1024], *end;
        if (xe_stop && !stopped) {
            stopped = true;
            kill(-p->pid, SIGTERM); /* a group of its own, and not waited for yet: nobody else's number */
        }
        if (poll(&wait, 1, 200) <= 0)
            continue;
        ssize_t n = read(out, data, sizeof(data));
        if (n <= 0)
            return;
        buf_add(&in, data, (size_t)n);
        while (in.len && (end = memchr(in.data, '\n', in.len))) {
            *end = '\0';
            note_progress(in.data, progress, arg);
            buf_consume(&in, (size_t)(end + 1 - in.data));
        }
    }
}

static int run(const char *const *argv, xe_progress_fn *progress, void *arg, struct xe_err *err)
{
    static const char *const kept[] = {"HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy"};
    char *env[ARRAY_LEN(kept) + 3] = {
        xstrdup("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        xstrdup("LC_ALL=C.UTF-8")};
    size_t count = 2;
    int out[2], status = 0;
    struct proc p;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (getenv(kept[i]))
            env[count++] = xasprintf("%s=%s", kept[i], getenv(kept[i]));
    int rc = pipe2(out, O_CLOEXEC);
    if (rc == 0) {
        struct proc_spec spec = {.argv = argv,
                                 .env = (const char *const *)env,
                                 .stdout_fd = out[1],
                                 .stderr_fd = STDERR_FILENO,
                                 .new_session = true};
        rc = proc_start(&spec, &p);
        close(out[1]);
    }
    if (rc < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", argv[0], strerror(errno));
    } else {
        follow(&p, out[0], progress, arg);
        close(out[0]);
        if (proc_wait(&p, END_MS, &status) == 0)
            proc_kill(&p);
        rc = WIFEXITED(status) && WEXITSTATUS(status) == 0 && !xe_stop ? 0 : -1;
        if (rc < 0 && xe_stop)
            xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
        else if (rc < 0)
            xe_err_set(err, XE_ERR_CLI, "the disk could not be made (see above)");
    }
    for (size_t i = 0; i < count; i++)
        free(env[i]);
    return rc;
}

static int write_secret(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

static void drop_in(const char *folder, const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", folder, name);
    unlink(path);
}

void xe_drop_disk(void *ctx, const char *file)
{
    (void)ctx;
    AUTO_FREE char *folder = xstrdup(file);
    *strrchr(folder, '/') = '\0';
    drop_in(folder, "disk.raw");
    drop_in(folder, "password");
    if (rmdir(folder) < 0 && errno != ENOENT)
        fprintf(stderr, "xe: %s could not be removed: %s\n", folder, strerror(errno));
}

/* A folder of its own below TMPDIR; NULL with *err. */
static char *temporary_folder(struct xe_err *err)
{
    const char *temporary = getenv("TMPDIR");
    char *folder = xasprintf("%s/xe-image.XXXXXX", temporary && *temporary == '/' ? temporary : "/var/tmp");
    if (mkdtemp(folder))
        return folder;
    xe_err_set(err, XE_ERR_CLI, "%s: %s", folder, strerror(errno));
    free(folder);
    return NULL;
}

int xe_temporary_disk(char **file, struct xe_err *err)
{
    AUTO_FREE char *folder = temporary_folder(err);
    if (!folder)
        return -1;
    AUTO_FREE char *path = xasprintf("%s/disk.raw", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", path, strerror(errno));
        rmdir(folder);
        return -1;
    }
    *file = TAKE_PTR(path);
    return fd;
}

int xe_build_disk(void *ctx, const char *const *options, const char *password, xe_progress_fn *progress,
                  void *arg, char **file, struct xe_err *err)
{
    AUTO_FREE char *program = beside("build-debian"), *tool = beside("corral-guest");
    const char *argv[48];
    size_t n = 0;
    if (!program) {
        xe_err_set(err, XE_ERR_CLI,
                   "build-debian is missing: it belongs beside xe, or into ../libexec/corral");
        return -1;
    }
    AUTO_FREE char *folder = temporary_folder(err);
    if (!folder)
        return -1;
    AUTO_FREE char *image = xasprintf("%s/disk.raw", folder), *secret = xasprintf("%s/password", folder);
    argv[n++] = program;
    argv[n++] = "--progress";
    for (; *options && n < ARRAY_LEN(argv) - 8; options++)
        argv[n++] = *options;
    if (password && write_secret(secret, password) == 0) {
        argv[n++] = "--password-file";
        argv[n++] = secret;
    }
    if (tool) {
        argv[n++] = "--tool";
        argv[n++] = tool;
    }
    argv[n++] = image;
    argv[n] = NULL;
    int rc = password && access(secret, R_OK) < 0 ? -1 : run(argv, progress, arg, err);
    if (password && access(secret, R_OK) < 0)
        xe_err_set(err, XE_ERR_CLI, "%s cannot be written", secret);
    if (rc == 0)
        *file = TAKE_PTR(image);
    else
        xe_drop_disk(ctx, image);
    return rc;
}
