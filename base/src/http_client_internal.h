/* Shared by the files of the HTTP client on libcurl. */
#pragma once
#include "http_client_common.h"
#include <curl/curl.h>
#include <pthread.h>

/* A libcurl handle with the connection that it keeps. */
struct easy {
    CURL *curl;
    char error[CURL_ERROR_SIZE];
    unsigned sent; /* times that a request went out in the current call */
    struct client_trust trust;
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
/* Translates a libcurl result that is not CURLE_OK. */
enum http_failure failure_of(const struct easy *e, CURLcode code);
