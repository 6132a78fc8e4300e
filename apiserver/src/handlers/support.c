/* What reaches out for people who look after the pool, and what of it this server does not do. */
#include "../fetch.h"
#include "../server.h"
#include <base/http_client.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define POST_TIMEOUT_MS 30000
#define POST_BODY_MAX (1024 * 1024)
#define ANSWER_MAX (1024 * 1024)

static bool is_name(const char *host)
{
    size_t len = strlen(host);
    return len > 0 && len <= 255 && host[0] != '-' && host[0] != '.' &&
           strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:") == len;
}

/* The other side is known by a certificate that the pool trusts, or, when it trusts none of its own, by the
 * system's. */
int handle_pool_send_test_post(struct call *call, const struct pool_send_test_post_args *args,
                               const char **result, struct api_err *err)
{
    AUTO_STR const char *port = str_newf("%lld", (long long)args->port);
    if (!is_name(args->host))
        return err_invalid_value(err, "host", args->host);
    if (args->port < 1 || args->port > UINT16_MAX)
        return err_invalid_value(err, "port", port);
    if (strlen(args->body) > POST_BODY_MAX)
        return err_invalid_value(err, "body", "more than 1 MiB");
    AUTO_FREE char *to = fetch_resolve(call->server->fetch_rules, args->host, (int)args->port);
    if (!to)
        return err_value_not_supported(err, "host", args->host,
                                       "It has no address that this server may reach: the server's option "
                                       "--fetch-allow names networks besides public ones.");
    bool six = strchr(args->host, ':') != NULL;
    AUTO_FREE char *url = xasprintf(six ? "https://[%s]:%s" : "https://%s:%s", args->host, port);
    char path[32] = "";
    AUTO_CLOSE int trusted = fetch_trusted_file(call->snapshot, path);
    const struct http_client_config config = {
        .url = url, .connect_to = to, .ca_file = trusted >= 0 ? path : NULL};
    const struct http_call post = {.path = "/",
                                   .method = "POST",
                                   .body = args->body,
                                   .body_len = strlen(args->body),
                                   .content_type = "text/plain",
                                   .timeout_ms = POST_TIMEOUT_MS,
                                   .body_max = ANSWER_MAX,
                                   .cancel = call->cancel};
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error cause;
    struct http_client *client = http_client_new(&config);
    int rc = http_client_call(client, &post, &reply, &cause);
    http_client_free(client);
    if (rc < 0 && cause.kind == HTTP_CANCELLED)
        return err_task_cancelled(err, REF_TEXT(call->task));
    if (rc < 0 && cause.kind == HTTP_TLS_REFUSED)
        return err_ssl_verify_error(err, "The other side's certificate is not trusted, or there is no TLS.");
    if (rc < 0)
        return err_tls_connection_failed(err, args->host, port);
    *result = str_new(reply.body.len ? reply.body.data : "");
    return 0;
}

/* Members and agents, and every client but the machine's root, would be cut off, this one too. */
int handle_host_management_disable(struct call *call, struct api_err *err)
{
    (void)call;
    return err_operation_not_allowed(
        err, "The pool's server is reached over the network, by its hosts too: stop its "
             "service, or have it listen on 127.0.0.1, to close it.");
}
