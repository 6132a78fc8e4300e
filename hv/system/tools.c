/* Files below the system's root, and the system's programs: always an argument vector, never a shell. */
#include "internal.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/proc.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define RUN_TIMEOUT_MS 25000
#define CAPTURE_MAX 65536

char *system_path(const struct hv_system *sys, const char *path)
{
    const char *root = sys->env.root ? sys->env.root : "";
    size_t len = strlen(root);
    while (len > 0 && root[len - 1] == '/')
        len--;
    return xasprintf("%.*s%s", (int)len, root, path);
}

bool system_has(const struct hv_system *sys, const char *path)
{
    char *full AUTO_FREE = system_path(sys, path);
    return access(full, F_OK) == 0;
}

char *system_read(const struct hv_system *sys, const char *path, size_t max)
{
    char *full AUTO_FREE = system_path(sys, path);
    return file_read(full, max, NULL);
}

static int failed(struct hv_err *err, const char *path, const char *what)
{
    int cause = errno;
    log_warn("system", "a file of the host's system", "path", path, "what", what, "error", strerror(cause));
    return hv_fail(err, HV_ERR_KIND_IO, "A file of the host's system cannot be %s: %s", what,
                   strerror(cause));
}

/* The folders on the way to a file. */
static int make_folders(const char *full)
{
    char *path AUTO_FREE = xstrdup(full);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return -1;
        *slash = '/';
    }
    return 0;
}

int system_write(const struct hv_system *sys, const char *path, const char *text, struct hv_err *err)
{
    char *full AUTO_FREE = system_path(sys, path);
    if (make_folders(full) < 0 || file_write_atomic(full, text, strlen(text), 0644) < 0)
        return failed(err, path, "written");
    return 0;
}

int system_switch(const struct hv_system *sys, const char *path, const char *text, struct hv_err *err)
{
    char *full AUTO_FREE = system_path(sys, path);
    int fd AUTO_CLOSE = open(full, O_WRONLY | O_CLOEXEC);
    size_t len = strlen(text);
    if (fd < 0 || write(fd, text, len) != (ssize_t)len)
        return failed(err, path, "written");
    return 0;
}

int system_remove(const struct hv_system *sys, const char *path, struct hv_err *err)
{
    char *full AUTO_FREE = system_path(sys, path);
    return unlink(full) < 0 && errno != ENOENT ? failed(err, path, "removed") : 0;
}

int system_each(const struct hv_system *sys, const char *folder, const char *prefix,
                int (*each)(void *arg, const char *name, struct hv_err *err), void *arg, size_t *seen,
                struct hv_err *err)
{
    char *full AUTO_FREE = system_path(sys, folder);
    DIR *list = opendir(full);
    size_t count = 0;
    int rc = 0;
    for (struct dirent *e; list && rc == 0 && (e = readdir(list));)
        if (e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0) {
            count++;
            rc = each(arg, e->d_name, err);
        }
    if (list)
        closedir(list);
    if (seen)
        *seen = count;
    return rc;
}

bool system_has_unit(const struct hv_system *sys, const char *unit)
{
    static const char *const folders[] = {"/etc/systemd/system", "/usr/lib/systemd/system",
                                          "/lib/systemd/system"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        char *path AUTO_FREE = xasprintf("%s/%s", folders[i], unit);
        if (system_has(sys, path))
            return true;
    }
    return false;
}

/* The program's path; NULL: there is none. The caller frees. */
static char *find_program(const struct hv_system *sys, const char *name)
{
    static const char *const folders[] = {"/usr/sbin", "/usr/bin", "/sbin", "/bin"};
    if (sys->env.tools) {
        char *path AUTO_FREE = xasprintf("%s/%s", sys->env.tools, name);
        return access(path, X_OK) == 0 ? TAKE_PTR(path) : NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        char *path AUTO_FREE = xasprintf("%s/%s", folders[i], name);
        if (access(path, X_OK) == 0)
            return TAKE_PTR(path);
    }
    return NULL;
}

#define ARGUMENTS_MAX 16

int system_run(const struct hv_system *sys, const char *const *argv, struct buf *out, struct hv_err *err)
{
    if (sys->env.simulated)
        return system_model_run(sys, argv, err);
    char *program AUTO_FREE = find_program(sys, argv[0]);
    if (!program)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The host has no %s.", argv[0]);
    const char *words[ARGUMENTS_MAX] = {program};
    for (size_t i = 1; i < ARGUMENTS_MAX - 1 && argv[i]; i++)
        words[i] = argv[i];
    const struct proc_spec spec = {.argv = words, .new_session = true};
    const struct proc_run_options options = {.timeout_ms = RUN_TIMEOUT_MS, .capture_max = CAPTURE_MAX};
    struct proc_result ran AUTO_PROC_RESULT = PROC_RESULT_INIT;
    if (proc_run(&spec, &options, &ran) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "%s cannot be started: %s", argv[0], strerror(errno));
    if (!proc_ok(&ran)) {
        log_warn("system", "a program of the host's system failed", "program", argv[0], "word",
                 argv[1] ? argv[1] : "", "code", LOG_INT(ran.code), "said", ran.err.len ? ran.err.data : "");
        return ran.timed_out ? hv_fail(err, HV_ERR_KIND_IO, "%s does not come to an end.", argv[0])
                             : hv_fail(err, HV_ERR_KIND_IO, "%s failed with code %d.", argv[0], ran.code);
    }
    if (out && ran.out.len)
        buf_add(out, ran.out.data, ran.out.len);
    return 0;
}

int system_ctl(const struct hv_system *sys, const char *verb, const char *option, const char *unit,
               struct hv_err *err)
{
    const char *argv[] = {"systemctl", verb, option ? option : unit, option ? unit : NULL, NULL};
    return system_run(sys, argv, NULL, err);
}
