/* What both clients of http_client.h have in common: the target with its kept connections, names of failures,
 * and requests that are what they look like. Leaving HTTP is in http_client_upgrade.c, trust in
 * http_client_tls.c. */
#include "http_client_internal.h"
#include <base/mem.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char *const failure_names[] = {
    "cannot connect", "TLS refused", "timed out",        "connection lost", "answer too large",
    "cancelled",      "given up",    "not the protocol", "address refused",
};

const char *http_failure_name(enum http_failure kind)
{
    return failure_names[kind];
}

int client_fail(struct http_error *error, enum http_failure kind, const char *text)
{
    error->kind = kind;
    snprintf(error->text, sizeof(error->text), "%.*s", (int)sizeof(error->text) - 1, text);
    return -1;
}

/* ---- the target ---- */

static char *copy_or_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

struct http_client *http_client_new(const struct http_client_config *config)
{
    struct http_client *client = xmalloc(sizeof(*client));
    signal(SIGPIPE, SIG_IGN); /* a peer that goes away must show as an error */
    *client = (struct http_client){
        .url = xstrdup(config->url),
        .connect_to = copy_or_null(config->connect_to),
        .socket_path = copy_or_null(config->socket_path),
        .ca_file = copy_or_null(config->ca_file),
        .cert_file = copy_or_null(config->cert_file),
        .key_file = copy_or_null(config->key_file),
        .root_sha256 = copy_or_null(config->root_sha256),
        .leaf_sha256 = copy_or_null(config->leaf_sha256),
        .no_name_check = (config->no_name_check && config->root_sha256) || config->leaf_sha256,
        .connect_timeout_ms = config->connect_timeout_ms ? config->connect_timeout_ms : 5000,
        .idle_max = config->idle_max ? config->idle_max : 8,
    };
    client->idle = xcalloc(client->idle_max, sizeof(*client->idle));
    pthread_mutex_init(&client->lock, NULL);
    return client;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    char *const texts[] = {client->url,       client->connect_to, client->socket_path, client->ca_file,
                           client->cert_file, client->key_file,   client->root_sha256, client->leaf_sha256};
    for (unsigned i = 0; i < client->idle_count; i++)
        client_close_kept(client->idle[i]);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(texts[i]);
    pthread_mutex_destroy(&client->lock);
    free(client->idle);
    free(client);
}

const char *client_authority(const struct http_client *client)
{
    const char *p = strstr(client->url, "://");
    return p ? p + 3 : client->url;
}

void *client_take_kept(struct http_client *client)
{
    pthread_mutex_lock(&client->lock);
    void *kept = client->idle_count > 0 ? client->idle[--client->idle_count] : NULL;
    pthread_mutex_unlock(&client->lock);
    return kept;
}

void client_keep(struct http_client *client, void *kept)
{
    pthread_mutex_lock(&client->lock);
    bool room = client->idle_count < client->idle_max;
    if (room)
        client->idle[client->idle_count++] = kept;
    pthread_mutex_unlock(&client->lock);
    if (!room)
        client_close_kept(kept);
}

/* ---- requests and answers ---- */

static bool is_one_line(const char *s)
{
    return strpbrk(s, "\r\n") == NULL;
}

int client_check_call(const struct http_call *call, struct http_error *error)
{
    bool clean = call->path[0] == '/' && is_one_line(call->path) && strchr(call->path, ' ') == NULL &&
                 (!call->method || is_one_line(call->method)) &&
                 (!call->content_type || is_one_line(call->content_type));
    for (const struct http_header *h = call->headers; h && h->name; h++)
        clean = clean && is_one_line(h->name) && is_one_line(h->value);
    return clean
               ? 0
               : client_fail(error, HTTP_PROTOCOL, "the path or a header has characters that it cannot have");
}

const char *client_method(const struct http_call *call)
{
    return call->method ? call->method : call->body || call->source ? "POST" : "GET";
}

size_t client_body_max(const struct http_call *call)
{
    return call->body_max ? call->body_max : (size_t)16 << 20;
}

unsigned client_status_of(const char *head)
{
    unsigned status = 0;
    return sscanf(head, "HTTP/1.1 %3u", &status) == 1 ? status : 0;
}

void http_reply_done(struct http_reply *reply)
{
    buf_done(&reply->body);
    free(reply->content_type);
    free(reply->location);
    free(reply->etag);
    free(reply->content_range);
    *reply = HTTP_REPLY_INIT;
}
