/* Fuzz target (libFuzzer): any bytes on a connection of the HTTP server. A handler asks everything there is
 * to ask about a request and echoes its body; each request of the connection is answered or refused, and the
 * server goes on to the end. */
#include <arpa/inet.h>
#include <base/http_server.h>
#include <base/mem.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define BODY_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static size_t length_of(const char *text)
{
    return text ? strlen(text) : 0;
}

static bool add_query(void *arg, const char *name, const char *value)
{
    *(size_t *)arg += strlen(name) + strlen(value);
    return true;
}

static void echo(struct http_request *req, char *data, size_t len, void *arg)
{
    (void)arg;
    http_answer(req, 200, NULL, data, len, HTTP_COPY);
}

static void on_request(struct http_request *req, void *context)
{
    (void)context;
    size_t sum = strlen(http_request_path(req)) + strlen(http_request_peer(req));
    http_request_each_query(req, add_query, &sum);
    static const char *const names[] = {"a", "session_id", "task_id"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        sum += length_of(http_request_query(req, names[i])) + length_of(http_request_cookie(req, names[i])) +
               length_of(http_request_header(req, names[i]));
    if (http_request_path(req)[0] != '/' || sum > (size_t)1 << 20)
        abort();
    if (http_request_content_length(req) != 0) {
        http_read_body(req, BODY_MAX, echo, NULL);
        return;
    }
    char text[32];
    int text_len = snprintf(text, sizeof(text), "%zu", sum);
    http_answer(req, 200, NULL, text, (size_t)text_len, HTTP_COPY);
}

static uint16_t start(void)
{
    const struct http_server_config config = {.address = "127.0.0.1",
                                              .threads = 1,
                                              .idle_timeout_s = 5,
                                              .body_timeout_s = 5,
                                              .on_request = on_request};
    static struct http_server *server; /* lives as long as the process */
    struct http_server_error error;
    if (http_server_start(&config, &server, &error) < 0) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    return http_server_port(server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint16_t port;
    if (!port)
        port = start();
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct linger reset = {.l_onoff = 1}; /* no ports that wait, after thousands of connections */
    const struct timeval patience = {.tv_usec = 5000}; /* a connection may stay open: not waited for */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[4096];
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        abort();
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (len == 0 || send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len)
        shutdown(fd, SHUT_WR);
    while (recv(fd, answer, sizeof(answer), 0) > 0)
        ;
    close(fd);
    return 0;
}
