/* Landlock and seccomp for the server itself. Programs that it starts (ipmitool, PAM's helper) inherit both.
 */
#include "confined.h"

#include <base/confine.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* A process that has started itself anew in place has its limits already, and the kernel counts layers. */
#define DONE_ENV "CORRAL_POOLD_CONFINED"
#define FAILPOINTS_ENV "CORRAL_FAILPOINTS" /* base/failpoint.h: a folder of a test */

static int allow_folder_of(int ruleset, const char *path, enum confine_access access)
{
    if (!path)
        return 0;
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *folder =
        slash ? xstrndup(path, slash == path ? 1 : (size_t)(slash - path)) : xstrdup(".");
    return confine_allow(ruleset, folder, access);
}

static int allow_program(int ruleset)
{
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[len > 0 ? len : 0] = '\0';
    return len > 0 ? allow_folder_of(ruleset, path, CONFINE_READ) : 0;
}

static int fill(int ruleset, const struct confined_paths *paths)
{
    const struct {
        const char *path;
        enum confine_access access;
    } all[] = {
        {paths->state_dir, CONFINE_TREE},
        {paths->web_dir, CONFINE_READ},
        {paths->pam_dir, CONFINE_READ},
        {getenv(FAILPOINTS_ENV), CONFINE_FOLDER},
        /* Name servers, users of directories, and what PAM counts. */
        {"/run/systemd/resolve", CONFINE_READ},
        {"/run/resolvconf", CONFINE_READ},
        {"/run/NetworkManager", CONFINE_READ},
        {"/var/lib/sss", CONFINE_READ},
        {"/run/faillock", CONFINE_FOLDER},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i].path && confine_allow(ruleset, all[i].path, all[i].access) < 0)
            return -1;
    return allow_folder_of(ruleset, paths->call_log, CONFINE_FOLDER) < 0 ||
                   allow_folder_of(ruleset, paths->socket, CONFINE_SOCKET) < 0 || allow_program(ruleset) < 0
               ? -1
               : 0;
}

static bool failed(const char *what)
{
    log_error("confined", "the server's rights could not be limited", "what", what, "cause", strerror(errno));
    return false;
}

bool confined_begin(const struct confined_paths *paths)
{
    if (getenv(DONE_ENV))
        return true;
    AUTO_CLOSE int ruleset = confine_new(true);
    if (ruleset < 0 && errno != EOPNOTSUPP)
        return failed("files");
    if (ruleset < 0)
        log_warn("confined", "the kernel has no Landlock: what the server may open is not limited");
    else if (fill(ruleset, paths) < 0 || confine_self(ruleset) < 0)
        return failed("files");
    if (confine_calls(CONFINE_SERVER) < 0) {
        if (errno != EOPNOTSUPP && errno != EINVAL)
            return failed("system calls");
        log_warn("confined", "the system calls of the server are not limited", "cause", strerror(errno));
    }
    return setenv(DONE_ENV, "1", 1) == 0 || failed("environment");
}
