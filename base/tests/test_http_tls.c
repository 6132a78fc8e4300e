/* TLS on both sides: who is accepted and who is not, and upgraded connections over it. */
#include "http_fixture.h"
#include <openssl/ssl.h>

static struct pool_files files;
static sem_t upgraded_closed;

static void *echo_main(void *arg)
{
    struct stream *s = arg;
    char piece[4096];
    for (;;) {
        ssize_t n = stream_read(s, piece, sizeof(piece));
        if (n > 0)
            cr_assert_eq(stream_write_all(s, piece, (size_t)n, 10000), 0);
        else if (n == 0 || errno != EAGAIN)
            break;
        else
            stream_wait_readable(s, 10000);
    }
    stream_close(s);
    sem_post(&upgraded_closed);
    return NULL;
}

static void on_upgraded(void *arg, struct stream *s, const char *early, size_t early_len)
{
    (void)arg, (void)early, (void)early_len;
    pthread_t thread;
    if (!s) {
        sem_post(&upgraded_closed);
        return;
    }
    pthread_create(&thread, NULL, echo_main, s);
    pthread_detach(thread);
}

static void on_request(struct http_request *req, void *context)
{
    (void)context;
    if (streq(http_request_path(req), "/tunnel") && http_request_method(req) == HTTP_CONNECT) {
        static const struct http_header headers[] = {{"Cache-Control", "no-store"}, {NULL, NULL}};
        http_tunnel(req, headers, on_upgraded, NULL);
        return;
    }
    if (streq(http_request_path(req), "/upgrade")) {
        static const struct http_header headers[] = {{"Upgrade", "echo"}, {NULL, NULL}};
        http_upgrade(req, headers, on_upgraded, NULL);
        return;
    }
    if (streq(http_request_path(req), "/known")) {
        http_answer(req, http_request_is_known_client(req) ? 200 : 401, NULL, "", 0, HTTP_STATIC);
        return;
    }
    const char *name = http_request_client_name(req);
    AUTO_FREE char *text = xasprintf("tls=%d name=%s", http_request_is_tls(req), name ? name : "-");
    http_answer(req, 200, NULL, text, strlen(text), HTTP_COPY);
}

static struct http_server *secure(bool mutual)
{
    files = pool_files_new();
    sem_init(&upgraded_closed, 0, 0);
    return start((struct http_server_config){.on_request = on_request,
                                             .threads = 2,
                                             .certificate_file = files.server,
                                             .key_file = files.server_key,
                                             .client_ca_file = mutual ? files.ca : NULL,
                                             .client_name = mutual ? "client.test" : NULL});
}

/* "ok", or how a call failed; why is in *error. */
static const char *outcome_and_why(const struct http_server *server, const char *name,
                                   struct http_client_config config, struct http_error *error)
{
    AUTO_FREE char *url = xasprintf("https://%s:%u", name, http_server_port(server));
    AUTO_FREE char *where = xasprintf("127.0.0.1:%u", http_server_port(server));
    config.url = url;
    config.connect_to = where;
    struct http_client *client = http_client_new(&config);
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    int rc = http_client_call(client, &(struct http_call){.path = "/"}, &reply, error);
    http_client_free(client);
    return rc == 0 ? "ok" : http_failure_name(error->kind);
}

static const char *outcome(const struct http_server *server, const char *name,
                           struct http_client_config config)
{
    struct http_error error;
    return outcome_and_why(server, name, config, &error);
}

static void ca_fingerprint(char out[static SHA256_TEXT_SIZE])
{
    struct pki_error error;
    size_t len;
    AUTO_FREE char *pem = file_read(files.ca, 100000, &len);
    cr_assert_eq(pki_fingerprint(pem, len, out, &error), 0);
}

Test(tls, the_client_checks_the_server)
{
    struct http_server *server = secure(false);
    struct pool_files other = pool_files_new();
    char good[SHA256_TEXT_SIZE], bad[SHA256_TEXT_SIZE];
    ca_fingerprint(good);
    memcpy(bad, good, sizeof(bad));
    bad[0] = bad[0] == '0' ? '1' : '0';
    struct http_client_config trusting = {.ca_file = files.ca};
    cr_assert_str_eq(outcome(server, "server.test", trusting), "ok");
    cr_assert_str_eq(outcome(server, "127.0.0.1", trusting), "ok");
    cr_assert_str_eq(outcome(server, "other.test", trusting), "TLS refused");
    cr_assert_str_eq(outcome(server, "server.test", (struct http_client_config){.ca_file = other.ca}),
                     "TLS refused");
    cr_assert_str_eq(outcome(server, "server.test", (struct http_client_config){0}), "TLS refused");
    cr_assert_str_eq(outcome(server, "server.test", (struct http_client_config){.root_sha256 = good}), "ok");
    cr_assert_str_eq(outcome(server, "server.test", (struct http_client_config){.root_sha256 = bad}),
                     "TLS refused");
    cr_assert_str_eq(outcome(server, "other.test", (struct http_client_config){.root_sha256 = good}),
                     "TLS refused");
    cr_assert_str_eq(outcome(server, "other.test",
                             (struct http_client_config){.root_sha256 = good, .no_name_check = true}),
                     "ok");
    /* Without a pinned root the name is always checked. */
    cr_assert_str_eq(outcome(server, "other.test",
                             (struct http_client_config){.ca_file = files.ca, .no_name_check = true}),
                     "TLS refused");
    http_server_stop(server);
    pool_files_done(&other);
    pool_files_done(&files);
}

/* As if the pool had replaced it. */
static void replace(const char *path, const char *by)
{
    AUTO_FREE char *text = file_read(by, 100000, NULL);
    cr_assert_eq(file_write_atomic(path, text, strlen(text), 0600), 0);
}

Test(tls, a_client_with_a_certificate_checks_the_server_too_by_the_files_as_they_are)
{
    struct http_server *server = secure(true);
    struct pool_files other = pool_files_new(), used = pool_files_new();
    const struct http_client_config shown = {
        .ca_file = used.ca, .cert_file = used.client, .key_file = used.client_key};
    cr_assert_str_eq(outcome(server, "server.test", shown), "TLS refused");
    replace(used.ca, files.ca);
    cr_assert_str_neq(outcome(server, "server.test", shown), "ok", "the certificate is still another CA's");
    replace(used.client, files.client);
    cr_assert_str_eq(outcome(server, "server.test", shown), "TLS refused", "the key does not fit");
    replace(used.client_key, files.client_key);
    cr_assert_str_eq(outcome(server, "server.test", shown), "ok");
    cr_assert_str_eq(outcome(server, "other.test", shown), "TLS refused");
    replace(used.ca, other.ca);
    cr_assert_str_eq(outcome(server, "server.test", shown), "TLS refused");
    cr_assert_eq(unlink(used.ca), 0);
    cr_assert_str_eq(outcome(server, "server.test", shown), "TLS refused");
    http_server_stop(server);
    pool_files_done(&used);
    pool_files_done(&other);
    pool_files_done(&files);
}

Test(tls, a_pin_does_not_accept_a_stranger_who_shows_our_root)
{
    /* The stranger's own certificate, followed by our CA's: the pinned root is in the chain, but did not
     * sign. */
    files = pool_files_new();
    struct pool_files stranger = pool_files_new();
    AUTO_FREE char *leaf = file_read(stranger.server, 100000, NULL);
    AUTO_FREE char *ca = file_read(files.ca, 100000, NULL);
    AUTO_FREE char *mixed = xasprintf("%s%s", leaf, ca);
    cr_assert_eq(file_write_atomic(stranger.server, mixed, strlen(mixed), 0600), 0);
    char pin[SHA256_TEXT_SIZE];
    ca_fingerprint(pin);
    struct http_server *server = start((struct http_server_config){
        .on_request = on_request, .certificate_file = stranger.server, .key_file = stranger.server_key});
    cr_assert_str_eq(outcome(server, "server.test", (struct http_client_config){.root_sha256 = pin}),
                     "TLS refused");
    http_server_stop(server);
    pool_files_done(&stranger);
    pool_files_done(&files);
}

Test(tls, the_root_can_be_asked_for)
{
    struct http_server *server = secure(false);
    AUTO_FREE char *url = xasprintf("https://127.0.0.1:%u", http_server_port(server));
    char expected[SHA256_TEXT_SIZE], seen[SHA256_TEXT_SIZE];
    struct http_error error;
    ca_fingerprint(expected);
    cr_assert_eq(http_probe_root(url, NULL, 5000, seen, &error), 0, "%s", error.text);
    cr_assert_str_eq(seen, expected);
    http_server_stop(server);
    cr_assert_eq(http_probe_root(url, NULL, 5000, seen, &error), -1);
    cr_assert_eq(error.kind, HTTP_CANNOT_CONNECT);
    pool_files_done(&files);
}

/* The alert may be overtaken by the reset of the connection, and without any certificate gnutls sends none.
 */
static void expect_refusal(const struct http_server *server, struct http_client_config config)
{
    const char *how = outcome(server, "server.test", config);
    cr_assert(streq(how, "TLS refused") || streq(how, "connection lost"), "%s", how);
}

/* What was issued for 0 days ends with the second of its making. */
static void until_ended(void)
{
    int64_t made_at = clock_unix_seconds();
    while (clock_unix_seconds() <= made_at + 1)
        usleep(50000);
}

Test(tls, a_certificate_that_has_ended_is_named_with_its_dates_and_the_clock)
{
    files = pool_files_new();
    char root[SHA256_TEXT_SIZE];
    ca_fingerprint(root);
    issue(&files, files.server, files.server_key, "server.test", PKI_SERVER, 0);
    until_ended();
    struct http_server *server = start((struct http_server_config){
        .on_request = on_request, .certificate_file = files.server, .key_file = files.server_key});
    const struct http_client_config ways[] = {
        {.ca_file = files.ca},
        {.root_sha256 = root},
        {.ca_file = files.ca, .cert_file = files.client, .key_file = files.client_key}};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct http_error error;
        cr_assert_str_eq(outcome_and_why(server, "server.test", ways[i], &error), "TLS refused");
        cr_assert(strstr(error.text, "has expired ('leaf'): it is good from 20"), "%s", error.text);
        cr_assert(strstr(error.text, ", and the clock here says 20"), "%s", error.text);
    }
    http_server_stop(server);
    pool_files_done(&files);
}

/* The alert may be overtaken by the reset of the connection: then nothing is known but the loss. */
Test(tls, a_client_hears_why_it_is_refused)
{
    struct http_server *server = secure(true);
    struct pool_files other = pool_files_new();
    AUTO_FREE char *cert = pem_path(&files, "x.pem");
    AUTO_FREE char *key = pem_path(&files, "x.key");
    struct http_client_config made = {.ca_file = files.ca, .cert_file = cert, .key_file = key};
    struct http_client_config stranger = {
        .ca_file = files.ca, .cert_file = other.client, .key_file = other.client_key};
    issue(&files, cert, key, "client.test", PKI_CLIENT, 0);
    until_ended();
    bool heard_of_end = false, heard_of_stranger = false;
    for (int i = 0; i < 200 && !(heard_of_end && heard_of_stranger); i++) {
        struct http_error ended, unknown;
        cr_assert_str_neq(outcome_and_why(server, "server.test", made, &ended), "ok");
        cr_assert_str_neq(outcome_and_why(server, "server.test", stranger, &unknown), "ok");
        heard_of_end =
            heard_of_end ||
            streq(ended.text, "the other side refuses: certificate expired, or not good yet by its clock");
        heard_of_stranger = heard_of_stranger || streq(unknown.text, "the other side refuses: unknown CA");
    }
    cr_assert(heard_of_end && heard_of_stranger, "%d %d", heard_of_end, heard_of_stranger);
    unlink(cert);
    unlink(key);
    http_server_stop(server);
    pool_files_done(&other);
    pool_files_done(&files);
}

Test(tls, the_server_checks_the_client)
{
    struct http_server *server = secure(true);
    struct pool_files other = pool_files_new();
    AUTO_FREE char *cert = pem_path(&files, "x.pem");
    AUTO_FREE char *key = pem_path(&files, "x.key");
    struct http_client_config config = {
        .ca_file = files.ca, .cert_file = files.client, .key_file = files.client_key};
    cr_assert_str_eq(outcome(server, "server.test", config), "ok");
    expect_refusal(server, (struct http_client_config){.ca_file = files.ca});
    struct http_client_config stranger = {
        .ca_file = files.ca, .cert_file = other.client, .key_file = other.client_key};
    expect_refusal(server, stranger);
    struct http_client_config made = {.ca_file = files.ca, .cert_file = cert, .key_file = key};
    issue(&files, cert, key, "other.test", PKI_CLIENT, 10);
    expect_refusal(server, made);
    issue(&files, cert, key, "client.test.evil", PKI_CLIENT, 10);
    expect_refusal(server, made);
    issue(&files, cert, key, "client.test", PKI_SERVER, 10); /* right name, wrong use */
    expect_refusal(server, made);
    issue(&files, cert, key, "client.test", PKI_CLIENT, 0);
    until_ended();
    expect_refusal(server, made);
    issue(&files, cert, key, "client.test", PKI_CLIENT | PKI_SERVER, 10);
    cr_assert_str_eq(outcome(server, "server.test", made), "ok");
    unlink(cert);
    unlink(key);
    http_server_stop(server);
    pool_files_done(&other);
    pool_files_done(&files);
}

/* A handshake with at most this protocol version, by OpenSSL. */
static bool handshake(const struct http_server *server, int version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context, version);
    SSL *ssl = SSL_new(context);
    int fd = connect_raw(server);
    SSL_set_fd(ssl, fd);
    bool ok = SSL_connect(ssl) == 1;
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    return ok;
}

Test(tls, old_protocols_are_refused)
{
    struct http_server *server = secure(false);
    cr_assert(!handshake(server, TLS1_VERSION) && !handshake(server, TLS1_1_VERSION));
    cr_assert(handshake(server, TLS1_2_VERSION) && handshake(server, TLS1_3_VERSION));
    http_server_stop(server);
    pool_files_done(&files);
}

Test(tls, plain_text_to_a_tls_port)
{
    struct http_server *server = secure(false);
    AUTO_FREE char *all = converse(server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    cr_assert_null(strstr(all, "tls="));
    http_server_stop(server);
    pool_files_done(&files);
}

/* Answers the beginning of a handshake with `words`, and closes or resets. */
struct breaker {
    int listener;
    const char *words;
    bool reset;
};

static void *break_off(void *arg)
{
    const struct breaker *b = arg;
    const struct linger at_once = {.l_onoff = 1};
    char hello[4096];
    int fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_gt(recv(fd, hello, b->reset ? 1 : sizeof(hello), 0), 0);
    send(fd, b->words, strlen(b->words), MSG_NOSIGNAL);
    if (b->reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(fd);
    return NULL;
}

/* Who breaks off says nothing about certificates; nothing was sent. Who speaks something else has no TLS. */
Test(tls, a_handshake_that_breaks_off_is_no_refusal)
{
    static const struct {
        const char *words, *outcome;
        bool reset;
    } cases[] = {{"", "cannot connect", false},
                 {"", "cannot connect", true},
                 {"\x16\x03\x03", "cannot connect", false},
                 {"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS refused", false}};
    files = pool_files_new();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        struct breaker b = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), cases[i].words, cases[i].reset};
        pthread_t thread;
        cr_assert_eq(bind(b.listener, (struct sockaddr *)&address, size), 0);
        cr_assert_eq(listen(b.listener, 1), 0);
        getsockname(b.listener, (struct sockaddr *)&address, &size);
        pthread_create(&thread, NULL, break_off, &b);
        AUTO_FREE char *url = xasprintf("https://127.0.0.1:%u", ntohs(address.sin_port));
        struct http_client *client =
            http_client_new(&(struct http_client_config){.url = url, .ca_file = files.ca});
        AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
        struct http_error error;
        const struct http_call post = {.path = "/", .body = "x", .body_len = 1};
        cr_assert_eq(http_client_call(client, &post, &reply, &error), -1);
        cr_expect_str_eq(http_failure_name(error.kind), cases[i].outcome, "%zu: %s", i, error.text);
        pthread_join(thread, NULL);
        http_client_free(client);
        close(b.listener);
    }
    pool_files_done(&files);
}

Test(tls, certificate_files_that_do_not_fit)
{
    files = pool_files_new();
    struct http_server *server;
    struct http_server_error error;
    struct http_server_config config = {.address = "127.0.0.1",
                                        .on_request = on_request,
                                        .certificate_file = files.server,
                                        .key_file = files.client_key};
    cr_assert_eq(http_server_start(&config, &server, &error), -1);
    config.key_file = "/nonexistent";
    cr_assert_eq(http_server_start(&config, &server, &error), -1);
    cr_assert_not_null(strstr(error.text, "/nonexistent"));
    config.key_file = NULL;
    cr_assert_eq(http_server_start(&config, &server, &error), -1);
    pool_files_done(&files);
}

static void expect_text(int fd, const char *text)
{
    char got[200] = "";
    for (size_t len = 0; len < strlen(text);) {
        struct pollfd p = {fd, POLLIN, 0};
        cr_assert_eq(poll(&p, 1, 10000), 1, "only this came: %s", got);
        ssize_t n = recv(fd, got + len, strlen(text) - len, 0);
        cr_assert_gt(n, 0, "only this came: %s", got);
        len += (size_t)n;
    }
    cr_assert_str_eq(got, text);
}

static struct stream *upgrade(struct http_client *client)
{
    struct stream *s;
    struct http_error error;
    cr_assert_eq(http_client_upgrade(client, "/upgrade", "echo", NULL, 10000, &s, NULL, &error), 0, "%s: %s",
                 http_failure_name(error.kind), error.text);
    return s;
}

/* Sends a lot while reading it back: both directions are busy at once. */
static void converse_over(struct stream *s, size_t total)
{
    AUTO_FREE char *data = xmalloc(total);
    AUTO_FREE char *back = xmalloc(total);
    for (size_t i = 0; i < total; i++)
        data[i] = (char)(i * 7 + i / 251);
    size_t sent = 0, got = 0;
    int64_t end = clock_mono_ms() + 20000;
    while (got < total) {
        cr_assert_lt(clock_mono_ms(), end, "%zu sent, %zu back", sent, got);
        ssize_t n = sent < total ? stream_write(s, data + sent, total - sent) : -1;
        if (n > 0)
            sent += (size_t)n;
        ssize_t m = stream_read(s, back + got, total - got);
        cr_assert(m != 0, "the stream ended after %zu bytes", got);
        if (m > 0)
            got += (size_t)m;
        if (n <= 0 && m < 0)
            stream_wait_readable(s, 100);
    }
    cr_assert_eq(memcmp(data, back, total), 0);
}

Test(upgrade, bytes_both_ways_with_and_without_tls)
{
    for (int tls = 0; tls < 2; tls++) {
        struct http_server *server =
            tls ? secure(true) : start((struct http_server_config){.on_request = on_request});
        AUTO_FREE char *url =
            xasprintf("%s://127.0.0.1:%u", tls ? "https" : "http", http_server_port(server));
        struct http_client_config config = {.url = url};
        if (tls) {
            config.ca_file = files.ca;
            config.cert_file = files.client;
            config.key_file = files.client_key;
        } else {
            sem_init(&upgraded_closed, 0, 0);
        }
        struct http_client *client = http_client_new(&config);
        struct stream *s = upgrade(client);
        converse_over(s, 20000000);
        http_client_free(client);
        converse_over(s, 10); /* the stream outlives the client */
        stream_close(s);
        wait_for(&upgraded_closed);
        http_server_stop(server);
        if (tls)
            pool_files_done(&files);
    }
}

Test(upgrade, a_tunnel_of_an_old_client)
{
    sem_init(&upgraded_closed, 0, 0);
    struct http_server *server = start((struct http_server_config){.on_request = on_request});
    AUTO_CLOSE int fd = connect_raw(server);
    send_text(fd, "CONNECT /tunnel?ref=x HTTP/1.0\r\n\r\n");
    expect_text(fd, "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\r\n");
    send_text(fd, "RFB 003.008");
    expect_text(fd, "RFB 003.008");
    shutdown(fd, SHUT_WR);
    wait_for(&upgraded_closed);
    http_server_stop(server);
}

Test(upgrade, stopping_the_server_ends_the_stream)
{
    struct http_server *server = secure(false);
    AUTO_FREE char *url = xasprintf("https://127.0.0.1:%u", http_server_port(server));
    struct http_client *client =
        http_client_new(&(struct http_client_config){.url = url, .ca_file = files.ca});
    struct stream *s = upgrade(client);
    converse_over(s, 100);
    http_server_stop(server);
    char byte;
    ssize_t n;
    while ((n = stream_read(s, &byte, 1)) < 0 && errno == EAGAIN)
        cr_assert_eq(stream_wait_readable(s, 10000), 1);
    cr_assert_leq(n, 0);
    stream_close(s);
    http_client_free(client);
    pool_files_done(&files);
}

Test(upgrade, another_answer_is_told)
{
    struct http_server *server = start((struct http_server_config){.on_request = on_request});
    AUTO_FREE char *url = xasprintf("http://127.0.0.1:%u", http_server_port(server));
    struct http_client *client = http_client_new(&(struct http_client_config){.url = url});
    struct stream *s;
    struct http_error error;
    unsigned status = 0;
    cr_assert_eq(http_client_upgrade(client, "/other", "echo", NULL, 10000, &s, &status, &error), -1);
    cr_assert(error.kind == HTTP_PROTOCOL && status == 200);
    cr_assert_eq(http_client_upgrade(client, "/x\r\nY: z", "echo", NULL, 10000, &s, &status, &error), -1);
    cr_assert_eq(error.kind, HTTP_PROTOCOL);
    http_client_free(client);
    http_server_stop(server);
}

/* ---- another identity while the server runs ---- */

static struct http_server_error ignored;

static int set_identity(struct http_server *server, const struct pool_files *own, const char *trusted_file,
                        const char *name)
{
    AUTO_FREE char *cert = file_read(own->server, 100000, NULL),
                   *key = file_read(own->server_key, 100000, NULL);
    AUTO_FREE char *trusted = trusted_file ? file_read(trusted_file, 100000, NULL) : NULL;
    return http_server_set_identity(server, cert, key, trusted, NULL, name, &ignored);
}

Test(tls, a_new_certificate_is_for_new_connections)
{
    struct http_server *server = secure(false);
    struct pool_files other = pool_files_new();
    struct http_client_config old_ca = {.ca_file = files.ca}, new_ca = {.ca_file = other.ca};
    AUTO_FREE char *url = xasprintf("https://127.0.0.1:%u", http_server_port(server));
    struct http_client *open = http_client_new(&(struct http_client_config){.ca_file = files.ca, .url = url});
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT, again = HTTP_REPLY_INIT;
    struct http_error error;
    cr_assert_eq(http_client_call(open, &(struct http_call){.path = "/"}, &reply, &error), 0);
    cr_assert_eq(set_identity(server, &other, NULL, NULL), 0);
    cr_assert_str_eq(outcome(server, "server.test", old_ca), "TLS refused");
    cr_assert_str_eq(outcome(server, "server.test", new_ca), "ok");
    cr_assert_eq(http_client_call(open, &(struct http_call){.path = "/"}, &again, &error), 0);
    http_client_free(open);
    /* What is no pair changes nothing. */
    AUTO_FREE char *cert = file_read(files.server, 100000, NULL),
                   *key = file_read(other.server_key, 100000, NULL);
    cr_assert_eq(http_server_set_identity(server, cert, key, NULL, NULL, NULL, &ignored), -1);
    cr_assert_eq(http_server_set_identity(server, "no certificate", key, NULL, NULL, NULL, &ignored), -1);
    cr_assert_str_eq(outcome(server, "server.test", new_ca), "ok");
    http_server_stop(server);
    pool_files_done(&other);
    pool_files_done(&files);
}

static unsigned known(const struct http_server *server, const struct pool_files *shown)
{
    AUTO_FREE char *url = xasprintf("https://127.0.0.1:%u", http_server_port(server));
    struct http_client *client =
        http_client_new(&(struct http_client_config){.ca_file = files.ca,
                                                     .url = url,
                                                     .cert_file = shown ? shown->client : NULL,
                                                     .key_file = shown ? shown->client_key : NULL});
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error error;
    cr_assert_eq(http_client_call(client, &(struct http_call){.path = "/known"}, &reply, &error), 0, "%s",
                 error.text);
    http_client_free(client);
    return reply.status;
}

Test(tls, a_client_may_show_a_certificate)
{
    struct http_server *server = secure(false);
    struct pool_files other = pool_files_new();
    cr_assert_eq(known(server, &files), 401); /* nobody was asked for */
    cr_assert_eq(set_identity(server, &files, files.ca, "client.test"), 0);
    cr_assert_eq(known(server, &files), 200);
    cr_assert_eq(known(server, NULL), 401);
    cr_assert_eq(known(server, &other), 401); /* of another CA */
    cr_assert_eq(set_identity(server, &files, files.ca, "somebody.else"), 0);
    cr_assert_eq(known(server, &files), 401);
    cr_assert_eq(set_identity(server, &files, files.client, "client.test"), 0);
    cr_assert_eq(known(server, &files), 200); /* that very certificate */
    cr_assert_eq(set_identity(server, &files, NULL, NULL), 0);
    cr_assert_eq(known(server, &files), 401);
    http_server_stop(server);
    pool_files_done(&other);
    pool_files_done(&files);
}
