/* Whom to trust: the CA file when there is one, else the certificate that the server showed at the
 * first contact. A server that shows another one is refused. */
#include "client.h"
#include "trust.h"
#include <base/file.h>
#include <base/mem.h>
#include <stdarg.h>
#include <stdio.h>

void xe_debug(const struct xe_client *c, const char *format, ...)
{
    if (!c->options->debug)
        return;
    va_list args;
    va_start(args, format);
    fputs("xe: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static char *url_of(const struct xe_options *o)
{
    if (o->local)
        return xstrdup("http://localhost");
    bool v6 = strchr(o->server, ':') != NULL;
    return xasprintf("%s://%s%s%s:%d", o->plain_http ? "http" : "https", v6 ? "[" : "", o->server,
                     v6 ? "]" : "", o->port);
}

static int problem_of(struct xe_err *err, char *problem)
{
    xe_err_set(err, XE_ERR_TRANSPORT, "xe: %s", problem);
    free(problem);
    return -1;
}

static int first_contact(const struct xe_options *o, const char *path, const char *seen, struct xe_err *err)
{
    char *problem = NULL;
    AUTO_FREE char *shown = xe_trust_format(seen);
    if (xe_trust_add(path, o->server, o->port, seen, &problem) < 0)
        return problem_of(err, problem);
    fprintf(stderr,
            "xe: first contact with %s port %d. Its certificate has the sha256 fingerprint\n"
            "    %s\n"
            "    kept in %s; a different one will be refused.\n",
            o->server, o->port, shown, path);
    return 0;
}

static int changed(const struct xe_options *o, const char *path, const char *kept, const char *seen,
                   struct xe_err *err)
{
    AUTO_FREE char *before = xe_trust_format(kept), *now = xe_trust_format(seen);
    xe_err_set(
        err, XE_ERR_TRANSPORT,
        "xe: %s port %d shows another certificate than at the first contact; nothing was sent to it.\n"
        "    kept:  %s\n"
        "    shown: %s\n"
        "Someone may stand between you and the server. If the server was made anew, remove its line from\n"
        "    %s\n"
        "and try again, or name the pool's CA with --ca.",
        o->server, o->port, before, now, path);
    return -1;
}

/* The fingerprint to insist on. */
static int settle(const struct xe_options *o, const char *url, char fingerprint[static SHA256_TEXT_SIZE],
                  struct xe_client *c, struct xe_err *err)
{
    char seen[SHA256_TEXT_SIZE], *problem = NULL;
    struct http_error error;
    AUTO_FREE char *path = xe_trust_path();
    if (!path) {
        xe_err_set(err, XE_ERR_TRANSPORT,
                   "xe: there is no home folder to keep the server's certificate in; say --ca");
        return -1;
    }
    int known = xe_trust_find(path, o->server, o->port, fingerprint, &problem);
    if (known < 0)
        return problem_of(err, problem);
    if (http_probe_leaf(url, NULL, 10000, seen, &error) < 0) {
        xe_http_failed(c, &error, err);
        return -1;
    }
    if (!known && o->silent) {
        xe_err_set(err, XE_ERR_TRANSPORT, "xe: the server is not known yet");
        return -1;
    }
    if (!known) {
        memcpy(fingerprint, seen, sizeof seen);
        return first_contact(o, path, seen, err);
    }
    return streq(fingerprint, seen) ? 0 : changed(o, path, fingerprint, seen, err);
}

enum { CA_MAX = 4 * 1024 * 1024 };

static bool holds_certificate(const char *file)
{
    AUTO_FREE char *text = file_read(file, CA_MAX, NULL);
    return text && strstr(text, "-----BEGIN CERTIFICATE-----");
}

int xe_connect(struct xe_client *c, struct xe_err *err)
{
    const struct xe_options *o = c->options;
    AUTO_FREE char *url = url_of(o);
    char fingerprint[SHA256_TEXT_SIZE];
    struct http_client_config config = {.url = url, .ca_file = o->ca_file, .connect_timeout_ms = 10000};
    if (c->http)
        return 0;
    if (o->local) {
        config.ca_file = NULL;
        config.socket_path = o->server;
    } else if (!o->plain_http && !o->ca_file) {
        if (settle(o, url, fingerprint, c, err) < 0)
            return -1;
        config.leaf_sha256 = fingerprint;
    }
    if (!o->local && o->ca_file && access(o->ca_file, R_OK) < 0) {
        xe_err_set(err, XE_ERR_TRANSPORT, "xe: cannot read the CA certificate %s", o->ca_file);
        return -1;
    }
    if (!o->local && o->ca_file && !holds_certificate(o->ca_file)) {
        xe_err_set(err, XE_ERR_TRANSPORT, "xe: %s, named by --ca or XE_CA, has no certificate in PEM form",
                   o->ca_file);
        return -1;
    }
    c->http = http_client_new(&config);
    xe_debug(c, "server %s, trust by %s", o->local ? o->server : url,
             o->local        ? "the machine"
             : o->plain_http ? "loopback"
             : o->ca_file    ? o->ca_file
                             : "first use");
    return 0;
}

void xe_http_failed(const struct xe_client *c, const struct http_error *error, struct xe_err *err)
{
    const struct xe_options *o = c->options;
    switch (error->kind) {
    case HTTP_CANCELLED:
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
        break;
    case HTTP_CANNOT_CONNECT:
        if (o->local)
            xe_err_set(err, XE_ERR_TRANSPORT, "xe: no server answers on the socket %s: %s", o->server,
                       error->text);
        else
            xe_err_set(err, XE_ERR_TRANSPORT, "xe: cannot connect to %s port %d: %s", o->server, o->port,
                       error->text);
        break;
    case HTTP_TLS_REFUSED:
        xe_err_set(
            err, XE_ERR_TRANSPORT, "xe: the certificate of %s port %d is not accepted: %s\n%s", o->server,
            o->port, error->text,
            strstr(error->text, "the clock here says")
                ? "If the clock is right, make a new one, on the server's machine as root: "
                  "XE_SERVER=DIR/poold.sock xe host-emergency-reset-server-certificate"
                : "The server must be in the pool whose CA certificate --ca or XE_CA names, and be called by "
                  "a name that its certificate carries.");
        break;
    case HTTP_TIMED_OUT:
    case HTTP_LOST:
    case HTTP_TOO_LARGE:
    case HTTP_CALLBACK:
    case HTTP_PROTOCOL:
    case HTTP_ADDRESS_REFUSED:
        xe_err_set(err, XE_ERR_TRANSPORT, "xe: %s port %d: %s: %s", o->server, o->port,
                   http_failure_name(error->kind), error->text);
        break;
    }
}
