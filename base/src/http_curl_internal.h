/* Shared by the files of the HTTP client on libcurl. */
#pragma once
#include "http_client_internal.h"
#include <curl/curl.h>

/* A libcurl handle with the connection that it keeps. */
struct easy {
    CURL *curl;
    struct curl_slist *connect_to;
    char error[CURL_ERROR_SIZE];
    unsigned sent; /* times that a request went out in the current call */
    struct client_trust trust;
    const struct http_client *shows; /* its identity is shown (client_identity_install); NULL: none */
};

/* A handle with all settings of the target. */
struct easy *easy_new(const struct http_client *client);
void easy_free(struct easy *e);
/* Notes in *error why libcurl gave a result that is not CURLE_OK; always -1. */
int easy_failed(const struct easy *e, CURLcode code, struct http_error *error);

/* ---- http_curl_identity.c ---- */
/* Lets an SSL_CTX trust the client's CA and show its certificate. False: a file cannot be used. */
bool client_identity_install(const struct http_client *client, void *ssl_ctx);
