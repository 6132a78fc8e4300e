/* host.bugreport_upload: the bundle for support, sent to an address that a person names. It is made whole in
 * a file without a name first, so that the other side waits for nothing and learns its length. */
#include "../fetch.h"
#include "../gate/session.h"
#include "../gate/task.h"
#include "../http/system_status.h"
#include <base/clock.h>
#include <base/http_client.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>
#include <unistd.h>

#define UPLOADS_MAX 4                 /* each holds a worker for as long as another server likes */
#define BUNDLE_MAX (INT64_C(4) << 30) /* bytes */
#define UPLOAD_TIME_MAX_MS (INT64_C(3600) * 1000) /* of the sending */
#define URL_MAX 4096
#define FILENAME_MAX_BYTES 128
#define HOST_MAX_BYTES 256
#define ANSWER_MAX (64 * 1024)

static _Atomic int upload_count;

/* ---- where to ---- */

struct target {
    char *origin;              /* "https://name:port" */
    char host[HOST_MAX_BYTES]; /* without the brackets of an IPv6 address */
    int port;
    char *path; /* with the file's name, and the query */
};

static void target_done(struct target *t)
{
    free(t->origin);
    free(t->path);
}

/* `text` is what follows "://", up to the path: "name", "name:port", "[2001:db8::1]:port". */
static bool parse_authority(struct target *t, const char *text, size_t len)
{
    bool six = len > 0 && text[0] == '[';
    const char *end = text + len, *stop = six ? memchr(text, ']', len) : memchr(text, ':', len);
    const char *name = six ? text + 1 : text;
    if (six && !stop)
        return false;
    size_t name_len = stop ? (size_t)(stop - name) : len;
    if (name_len == 0 || name_len >= sizeof(t->host) || name[0] == '-' || name[0] == '.')
        return false;
    memcpy(t->host, name, name_len);
    t->host[name_len] = '\0';
    if (strspn(t->host, six ? "0123456789abcdefABCDEF:."
                            : "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "0123456789.-_") != name_len)
        return false;
    const char *rest = stop ? stop + (six ? 1 : 0) : end;
    if (rest == end)
        return true;
    size_t digits = (size_t)(end - rest) - 1;
    if (*rest != ':' || digits < 1 || digits > 5 || strspn(rest + 1, "0123456789") < digits)
        return false;
    t->port = atoi(rest + 1);
    return t->port >= 1 && t->port <= UINT16_MAX;
}

/* http(s)://name[:port][/path][?query]; no user and password: they would stay in logs of proxies and tasks.
 */
static bool parse_url(const char *url, const char *filename, struct target *t)
{
    bool tls = strncasecmp(url, "https://", 8) == 0;
    if ((!tls && strncasecmp(url, "http://", 7) != 0) || strlen(url) > URL_MAX)
        return false;
    for (const unsigned char *c = (const unsigned char *)url; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || *c == '#')
            return false;
    const char *authority = url + (tls ? 8 : 7);
    size_t len = strcspn(authority, "/?");
    t->port = tls ? 443 : 80;
    if (!parse_authority(t, authority, len))
        return false;
    const char *path = authority + len;
    size_t path_len = strcspn(path, "?");
    const char *query = path + path_len;
    while (path_len > 0 && path[path_len - 1] == '/')
        path_len--;
    t->origin = xasprintf(strchr(t->host, ':') ? "%s://[%s]:%d" : "%s://%s:%d", tls ? "https" : "http",
                          t->host, t->port);
    t->path = xasprintf("%.*s/%s%s", (int)path_len, path, filename, query);
    return true;
}

static bool is_good_filename(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= FILENAME_MAX_BYTES && name[0] != '.' && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == len;
}

/* ---- making and sending ---- */

struct report {
    struct call *call;
    int fd; /* the bundle */
    int64_t size, at;
    double told;     /* of the progress */
    const char *why; /* the bundle ended early; NULL: it did not */
};

static bool is_stopped(const struct call *call)
{
    return (call->cancel && *call->cancel) || atomic_load(&call->server->closing);
}

/* The making is the first half of the task, the sending the second. */
static void tell(struct report *r, double fraction)
{
    if (fraction < r->told + 0.01)
        return;
    r->told = fraction;
    task_progress(r->call->server, r->call->task, fraction);
}

static void on_entry(void *arg, double fraction)
{
    tell(arg, fraction / 2);
}

static int keep(void *arg, const void *data, size_t len)
{
    struct report *r = arg;
    const char *from = data;
    if ((int64_t)len > BUNDLE_MAX - r->size)
        r->why = "The bundle is larger than 4 GiB.";
    if (r->why || is_stopped(r->call))
        return -1;
    while (len > 0) {
        ssize_t n = write(r->fd, from, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            r->why = errno == ENOSPC ? "The server's disk has no room for the bundle."
                                     : "The server's disk cannot be written.";
            return -1;
        }
        from += n;
        len -= (size_t)n;
        r->size += n;
    }
    return 0;
}

static ssize_t give(void *arg, char *to, size_t max)
{
    struct report *r = arg;
    if (is_stopped(r->call))
        return -1;
    ssize_t n = pread(r->fd, to, max, r->at);
    if (n > 0)
        r->at += n;
    tell(r, 0.5 + 0.5 * (double)r->at / (double)(r->size ? r->size : 1));
    return n;
}

static int fail_stopped(const struct call *call, struct api_err *err)
{
    if (call->cancel && *call->cancel)
        return err_task_cancelled(err, REF_TEXT(call->task));
    return fail_internal(err, "The server was stopped in the middle of the transfer.");
}

static int send_report(struct report *r, const struct target *target, const char *to, const char *type,
                       struct api_err *err)
{
    char path[32] = "";
    AUTO_CLOSE int trusted = fetch_trusted_file(r->call->snapshot, path);
    const struct http_client_config config = {
        .url = target->origin, .connect_to = to, .ca_file = trusted >= 0 ? path : NULL};
    const struct http_call put = {.path = target->path,
                                  .method = "PUT",
                                  .content_type = type,
                                  .source = give,
                                  .source_len = r->size,
                                  .arg = r,
                                  .timeout_ms = UPLOAD_TIME_MAX_MS,
                                  .body_max = ANSWER_MAX,
                                  .cancel = r->call->cancel};
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error cause;
    struct http_client *client = http_client_new(&config);
    int rc = http_client_call(client, &put, &reply, &cause);
    http_client_free(client);
    if (rc == 0 && reply.status >= 200 && reply.status < 300)
        return 0;
    if (is_stopped(r->call))
        return fail_stopped(r->call, err);
    AUTO_FREE char *why =
        rc == 0 ? xasprintf("%s answered with status %u.", target->host, reply.status)
                : xasprintf("It cannot be sent to %s: %s: %s", to, http_failure_name(cause.kind), cause.text);
    return err_system_status_retrieval_failed(err, why);
}

static const struct system_status_output *output_of(const char *filename)
{
    size_t len = strlen(filename);
    static const char *const known[] = {"tar", "tar.bz2", "zip"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        const struct system_status_output *output = system_status_output(known[i]);
        const char *suffix = system_status_suffix(output);
        if (len > strlen(suffix) && streq(filename + len - strlen(suffix), suffix))
            return output;
    }
    return system_status_output("tar.bz2");
}

static int make_and_send(struct call *call, const struct target *target, const char *filename,
                         struct api_err *err)
{
    const struct system_status_output *output = output_of(filename);
    AUTO_FREE char *to = fetch_resolve(call->server->fetch_rules, target->host, target->port);
    if (!to)
        return err_value_not_supported(err, "url", target->origin,
                                       "It has no address that this server may reach: the server's option "
                                       "--fetch-allow names networks besides public ones.");
    AUTO_CLOSE int fd = open(call->server->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct report report = {.call = call, .fd = fd};
    const struct system_status_sink sink = {keep, on_entry, &report};
    if (fd < 0)
        return err_system_status_retrieval_failed(err, "The server's disk cannot be written.");
    if (system_status_write(call, output, NULL, &sink) < 0) {
        if (is_stopped(call))
            return fail_stopped(call, err);
        return err_system_status_retrieval_failed(err,
                                                  report.why ? report.why : "The bundle could not be made.");
    }
    int rc = send_report(&report, target, to, system_status_type(output), err);
    log_info("support", rc < 0 ? "a bundle could not be sent" : "sent a bundle", "to", target->origin,
             "bytes", LOG_INT(report.size), "user", call->session ? call->session->user : "", "error",
             rc < 0 ? err->code : "");
    return rc;
}

/* ---- the message ---- */

/* *filename: the caller's, NULL as long as nobody names one. */
static int read_options(const struct str_map *options, const char **filename, struct api_err *err)
{
    for (size_t i = 0; options && i < options->count; i++) {
        const char *key = options->pairs[i].key, *value = options->pairs[i].value;
        if (streq(key, "filename") && is_good_filename(value))
            *filename = value;
        else if (streq(key, "filename"))
            return err_invalid_value(err, "filename", value);
        else if (!streq(key, "http_proxy"))
            return err_invalid_value(err, "options", key);
        else if (*value) /* who connects by a proxy cannot look at the address */
            return err_invalid_value(err, "http_proxy", value);
    }
    return 0;
}

/* "bug-report-UUID-20260102T030405Z.tar.bz2"; the caller frees. */
static char *name_now(const char *uuid)
{
    char now[DATETIME_TEXT_SIZE], *to = now;
    datetime_format(clock_unix_seconds(), now);
    for (const char *from = now; *from; from++)
        if (*from != ':' && *from != '-')
            *to++ = *from;
    *to = '\0';
    return xasprintf("bug-report-%s-%s.tar.bz2", uuid, now);
}

int handle_host_bugreport_upload(struct call *call, const struct host_bugreport_upload_args *args,
                                 struct api_err *err)
{
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, args->host));
    const char *wanted = NULL;
    CLEANUP(target_done) struct target target = {0};
    if (!host)
        return fail_handle(err, CLASS_host, args->host);
    if (read_options(args->options, &wanted, err) < 0)
        return -1;
    AUTO_FREE char *filename = wanted ? xstrdup(wanted) : name_now(host->uuid);
    if (!parse_url(args->url, filename, &target))
        return err_invalid_value(err, "url", strchr(args->url, '@') ? "it has a user or an @" : args->url);
    int rc = atomic_fetch_add(&upload_count, 1) < UPLOADS_MAX ? make_and_send(call, &target, filename, err)
                                                              : err_too_busy(err);
    atomic_fetch_sub(&upload_count, 1);
    return rc;
}
