/* Downloads with a guard: a libcurl handle that is driven while the caller reads, and stands still (the
 * server is not read from) while what came waits. Redirects are followed here, so that each is looked at. */
#include <base/http_fetch.h>

#include "http_curl_internal.h"
#include <base/clock.h>
#include <base/mem.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define REDIRECTS_MAX 5
#define WINDOW_BYTES ((size_t)1 << 20)
#define REFUSAL_MAX ((size_t)64 << 10) /* of an answer that nobody reads */
#define STEP_MS 200
#define URL_MAX 8192

struct http_fetch {
    struct http_client *client;
    struct easy *easy;
    CURLM *multi;
    struct http_fetch_config config;
    char *url, *ca_pem;
    struct buf window; /* came, and not read yet from `at` on */
    size_t at, refusal;
    int64_t came, deadline_ms; /* of clock_mono_ms */
    bool paused, ended, address_refused, too_large;
    CURLcode code; /* once ended */
};

/* ---- what libcurl asks ---- */

static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct http_fetch *f = arg;
    (void)purpose;
    if (f->config.allow && !f->config.allow(f->config.arg, &to->addr)) {
        f->address_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static long status_of(const struct http_fetch *f)
{
    long status = 0;
    curl_easy_getinfo(f->easy->curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t on_data(char *data, size_t one, size_t len, void *arg)
{
    struct http_fetch *f = arg;
    (void)one;
    if (status_of(f) != 200) {
        f->refusal += len;
        return f->refusal > REFUSAL_MAX ? CURL_WRITEFUNC_ERROR : len;
    }
    if (f->config.size_max && (int64_t)len > f->config.size_max - f->came) {
        f->too_large = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (f->window.len >= WINDOW_BYTES) {
        f->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    buf_add(&f->window, data, len);
    f->came += (int64_t)len;
    return len;
}

/* ---- driving ---- */

static bool is_cancelled(const struct http_fetch *f)
{
    return f->config.cancel && *f->config.cancel;
}

static int explain(struct http_fetch *f, struct http_error *error)
{
    if (f->address_refused)
        return client_fail(error, HTTP_ADDRESS_REFUSED, "the address is not one that may be fetched from");
    if (f->too_large)
        return client_fail(error, HTTP_TOO_LARGE, "the answer is longer than allowed");
    return easy_failed(f->easy, f->code, error);
}

/* Moves what can move, waiting a little for it. -1: cancelled or too late. */
static int step(struct http_fetch *f, struct http_error *error)
{
    int running, left;
    if (is_cancelled(f))
        return client_fail(error, HTTP_CANCELLED, "cancelled");
    if (f->config.timeout_ms && clock_mono_ms() >= f->deadline_ms)
        return client_fail(error, HTTP_TIMED_OUT, "it takes longer than allowed");
    curl_multi_perform(f->multi, &running);
    for (CURLMsg *m; (m = curl_multi_info_read(f->multi, &left));)
        if (m->msg == CURLMSG_DONE) {
            f->ended = true;
            f->code = m->data.result;
        }
    if (!f->ended && f->at == f->window.len)
        curl_multi_poll(f->multi, NULL, 0, STEP_MS, NULL);
    return 0;
}

/* ---- opening ---- */

static void set_options(struct http_fetch *f)
{
    CURL *c = f->easy->curl;
    unsigned stall = f->config.stall_ms ? f->config.stall_ms : 60000;
    curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, f);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)((stall + 999) / 1000));
    curl_easy_setopt(c, CURLOPT_USERAGENT, "corral");
    if (f->ca_pem && *f->ca_pem) {
        /* Beside the system's folder of certificates, which stays. */
        struct curl_blob blob = {f->ca_pem, strlen(f->ca_pem), CURL_BLOB_NOCOPY};
        curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &blob);
    }
}

static bool is_scheme(const char *url, const char *scheme)
{
    return strncasecmp(url, scheme, strlen(scheme)) == 0;
}

static int check_url(const char *url, struct http_error *error)
{
    if (!is_scheme(url, "http://") && !is_scheme(url, "https://"))
        return client_fail(error, HTTP_PROTOCOL, "only http:// and https:// can be fetched");
    for (const unsigned char *p = (const unsigned char *)url; *p; p++)
        if (*p <= ' ' || *p == 0x7f)
            return client_fail(error, HTTP_PROTOCOL, "the address has characters that it cannot have");
    return strlen(url) < URL_MAX ? 0 : client_fail(error, HTTP_PROTOCOL, "the address is too long");
}

/* Asks for f->url and waits for the answer's head and first bytes. */
static int ask(struct http_fetch *f, struct http_error *error)
{
    f->ended = f->paused = false;
    client_trust_begin(&f->easy->trust);
    f->refusal = 0;
    f->easy->error[0] = '\0';
    curl_easy_setopt(f->easy->curl, CURLOPT_URL, f->url);
    curl_multi_add_handle(f->multi, f->easy->curl);
    while (!f->ended && f->window.len == 0)
        if (step(f, error) < 0)
            return -1;
    if (f->ended && f->code != CURLE_OK && (status_of(f) == 0 || status_of(f) == 200))
        return explain(f, error);
    return 0;
}

/* 1: there is another address to ask. 0: status 200. */
static int look(struct http_fetch *f, struct http_error *error)
{
    char text[80], *next = NULL;
    long status = status_of(f);
    if (status == 200)
        return 0;
    curl_easy_getinfo(f->easy->curl, CURLINFO_REDIRECT_URL, &next);
    if (status < 300 || status >= 400 || !next) {
        snprintf(text, sizeof(text), "the server answers with status %ld", status);
        return client_fail(error, HTTP_PROTOCOL, text);
    }
    if (check_url(next, error) < 0)
        return -1;
    if (is_scheme(f->url, "https://") && !is_scheme(next, "https://"))
        return client_fail(error, HTTP_PROTOCOL, "the server leads from https to http");
    char *copy = xstrdup(next);
    free(f->url);
    f->url = copy;
    curl_multi_remove_handle(f->multi, f->easy->curl);
    return 1;
}

static int open_all(struct http_fetch *f, struct http_error *error)
{
    if (check_url(f->url, error) < 0)
        return -1;
    for (int i = 0; i <= REDIRECTS_MAX; i++) {
        int rc = ask(f, error);
        if (rc == 0)
            rc = look(f, error);
        if (rc <= 0)
            return rc;
    }
    return client_fail(error, HTTP_PROTOCOL, "the server leads on too often");
}

int http_fetch_open(const struct http_fetch_config *config, struct http_fetch **out, struct http_error *error)
{
    struct http_fetch *f = xcalloc(1, sizeof(*f));
    f->client = http_client_new(
        &(struct http_client_config){.url = config->url, .connect_timeout_ms = config->connect_timeout_ms});
    f->config = *config;
    f->url = xstrdup(config->url);
    f->ca_pem = config->ca_pem ? xstrdup(config->ca_pem) : NULL;
    f->deadline_ms = clock_mono_ms() + config->timeout_ms;
    f->easy = easy_new(f->client);
    f->multi = curl_multi_init();
    if (!f->multi)
        abort(); /* only memory can be missing */
    set_options(f);
    if (open_all(f, error) < 0) {
        http_fetch_close(f);
        return -1;
    }
    *out = f;
    return 0;
}

/* ---- reading ---- */

int64_t http_fetch_length(const struct http_fetch *fetch)
{
    curl_off_t length = -1;
    curl_easy_getinfo(fetch->easy->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    return length;
}

ssize_t http_fetch_read(struct http_fetch *f, void *to, size_t max, struct http_error *error)
{
    while (f->at == f->window.len) {
        buf_clear(&f->window);
        f->at = 0;
        if (f->ended)
            return f->code == CURLE_OK ? 0 : explain(f, error);
        if (f->paused) {
            f->paused = false;
            curl_easy_pause(f->easy->curl, CURLPAUSE_CONT); /* calls on_data, perhaps */
        }
        if (step(f, error) < 0)
            return -1;
    }
    size_t len = f->window.len - f->at < max ? f->window.len - f->at : max;
    memcpy(to, f->window.data + f->at, len);
    f->at += len;
    return (ssize_t)len;
}

void http_fetch_close(struct http_fetch *fetch)
{
    if (!fetch)
        return;
    curl_multi_remove_handle(fetch->multi, fetch->easy->curl);
    easy_free(fetch->easy);
    curl_multi_cleanup(fetch->multi);
    http_client_free(fetch->client);
    buf_done(&fetch->window);
    free(fetch->url);
    free(fetch->ca_pem);
    free(fetch);
}
