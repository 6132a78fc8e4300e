/* Files of web servers into a temporary one of this machine: what xe reads itself and is at an address.
 * Servers show a certificate that the system trusts; a redirection never leads from https to http. */
#include "moving.h"
#include <base/mem.h>
#include <stdio.h>
#include <strings.h>

#define REDIRECTIONS_MAX 5
#define STALL_MS 60000

struct address {
    char *origin, *path; /* "https://name:port", "/path?query" */
};
static void address_done(struct address *a)
{
    free(a->origin);
    free(a->path);
}
#define AUTO_ADDRESS __attribute__((cleanup(address_done)))

static int unusable(const char *url, const char *why, struct xe_err *err)
{
    xe_err_set(err, XE_ERR_CLI, "%s: %s", url, why);
    return -1;
}

static int read_address(const char *url, struct address *out, struct xe_err *err)
{
    bool tls = strncasecmp(url, "https://", 8) == 0;
    if (!tls && strncasecmp(url, "http://", 7) != 0)
        return unusable(url, "an address begins with http:// or https://", err);
    const char *name = url + (tls ? 8 : 7);
    size_t len = strcspn(name, "/?#");
    const char *path = name + len;
    if (len == 0 || memchr(name, '@', len))
        return unusable(url, "an address names a server, without a user and a password", err);
    out->origin = xasprintf("%s://%.*s", tls ? "https" : "http", (int)len, name);
    out->path = xasprintf("%s%.*s", *path == '/' ? "" : "/", (int)strcspn(path, "#"), path);
    return 0;
}

/* Where a redirection leads; NULL with *err: xe does not go there. */
static char *follow(const char *url, const struct address *from, const char *location, struct xe_err *err)
{
    bool tls = strncmp(from->origin, "https", 5) == 0;
    if (*location == '/' && location[1] != '/')
        return xasprintf("%s%s", from->origin, location);
    if (strncasecmp(location, "https://", 8) == 0 || (!tls && strncasecmp(location, "http://", 7) == 0))
        return xstrdup(location);
    unusable(url, "it leads on to where xe does not go", err);
    return NULL;
}

/* 0: the file is there; 1: *next is where to go on. */
static int fetch_from(const char *url, struct moving *m, char **next, struct xe_err *err)
{
    AUTO_ADDRESS struct address at = {0};
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error error;
    if (read_address(url, &at, err) < 0)
        return -1;
    struct http_client *client = http_client_new(&(struct http_client_config){.url = at.origin});
    struct http_call call = {.path = at.path,
                             .sink = xe_moving_push,
                             .arg = m,
                             .timeout_ms = -1,
                             .stall_ms = STALL_MS,
                             .cancel = &xe_stop};
    int rc = http_client_call(client, &call, &reply, &error);
    http_client_free(client);
    if (rc < 0 && (xe_stop || m->failed))
        return xe_moving_failed(NULL, m, "the temporary file", &error, err);
    if (rc < 0)
        return unusable(url, error.text, err);
    if (reply.status == 200)
        return 0;
    if (reply.status > 300 && reply.status < 309 && reply.location)
        return (*next = follow(url, &at, reply.location, err)) ? 1 : -1;
    xe_err_set(err, XE_ERR_CLI, "%s: its server answers with HTTP status %u", url, reply.status);
    return -1;
}

static int fetch(const char *url, struct moving *m, struct xe_err *err)
{
    AUTO_FREE char *at = xstrdup(url);
    for (int i = 0; i <= REDIRECTIONS_MAX; i++) {
        char *next = NULL;
        int rc = fetch_from(at, m, &next, err);
        if (rc <= 0)
            return rc;
        free(at);
        at = next;
    }
    return unusable(url, "it leads on and on", err);
}

int xe_fetch(void *ctx, const char *url, xe_progress_fn *progress, void *arg, char **file, struct xe_err *err)
{
    AUTO_FREE char *kept = NULL;
    AUTO_CLOSE int fd = xe_temporary_disk(&kept, err);
    struct moving m = {.fd = fd, .progress = progress, .arg = arg};
    if (fd < 0)
        return -1;
    if (fetch(url, &m, err) < 0) {
        xe_drop_disk(ctx, kept);
        return -1;
    }
    *file = TAKE_PTR(kept);
    return 0;
}
