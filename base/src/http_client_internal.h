/* Shared by the files of the HTTP client. */
#pragma once
#include <base/http_client.h>
#include <curl/curl.h>
#include <pthread.h>

/* A libcurl handle with the connection that it keeps. */
struct easy {
    CURL *curl;
    char error[CURL_ERROR_SIZE];
    bool refused_by_peer; /* a fatal TLS alert came */
    unsigned sent;        /* times that a request went out in the current call */
    const char *root_sha256, *leaf_sha256;
    bool accept_any_root;
    char seen_root[SHA256_TEXT_SIZE], seen_leaf[SHA256_TEXT_SIZE];
};

struct http_client {
    char *url, *socket_path, *ca_file, *cert_file, *key_file, *root_sha256, *leaf_sha256;
    struct curl_slist *connect_to;
    bool no_name_check;
    long connect_timeout_ms;
    pthread_mutex_t lock; /* guards idle */
    struct easy **idle;
    unsigned idle_count, idle_max;
};

/* A handle with all settings of the target. */
struct easy *easy_new(const struct http_client *client);
void easy_free(struct easy *e);
/* From the idle ones, or new. */
struct easy *easy_get(struct http_client *client);
void easy_put(struct http_client *client, struct easy *e);
/* Always -1. */
int client_fail(struct http_error *error, enum http_failure kind, const char *text);
/* Translates a libcurl result that is not CURLE_OK. */
enum http_failure failure_of(const struct easy *e, CURLcode code);
/* In http_client_tls.c: a CURLOPT_SSL_CTX_FUNCTION whose argument is the struct easy. */
CURLcode tls_context_ready(CURL *curl, void *ssl_ctx, void *arg);
