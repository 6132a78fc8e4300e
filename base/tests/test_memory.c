/* Memory that cannot be had: what a client sent is refused, and the next one is served. */
#include "alloc_faults.h"
#include "http_fixture.h"
#include <base/json.h>
#include <strings.h>

#define BODY_BYTES (8u << 20)
#define LARGE (1u << 20)

static void answer_length(struct http_request *req, char *data, size_t len, void *arg)
{
    (void)data, (void)arg;
    char text[32];
    http_answer(req, 200, NULL, text, (size_t)snprintf(text, sizeof(text), "%zu", len), HTTP_COPY);
}

static void take_body(struct http_request *req, void *context)
{
    (void)context;
    http_read_body(req, 2 * BODY_BYTES, answer_length, NULL);
}

struct upload {
    size_t left;
};

static ssize_t give(void *arg, char *to, size_t max)
{
    struct upload *upload = arg;
    size_t len = max < upload->left ? max : upload->left;
    memset(to, 'x', len);
    upload->left -= len;
    return (ssize_t)len;
}

static unsigned send_body(struct http_client *client, size_t size)
{
    struct upload upload = {size};
    struct http_error error;
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    const struct http_call call = {
        .method = "POST", .path = "/", .source = give, .source_len = -1, .arg = &upload, .timeout_ms = 60000};
    cr_assert_eq(http_client_call(client, &call, &reply, &error), 0, "%s", error.text);
    return reply.status;
}

Test(memory, a_body_that_there_is_no_room_for_is_refused, .timeout = 120)
{
    struct http_server *server;
    struct http_server_error error;
    const struct http_server_config config = {.address = "127.0.0.1", .threads = 1, .on_request = take_body};
    cr_assert_eq(http_server_start(&config, &server, &error), 0);
    AUTO_FREE char *url = xasprintf("http://127.0.0.1:%u", http_server_port(server));
    struct http_client *client = http_client_new(&(struct http_client_config){.url = url});
    cr_assert_eq(send_body(client, BODY_BYTES), 200);
    alloc_faults_from(LARGE);
    cr_assert_eq(send_body(client, BODY_BYTES), 503);
    cr_assert_eq(send_body(client, 1000), 200);
    alloc_faults_from(0);
    cr_assert_eq(send_body(client, BODY_BYTES), 200);
    http_client_free(client);
    http_server_stop(server);
}

/* ---- each allocation in turn ---- */

static const char *const texts[] = {
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"VM.get_all\",\"params\":[\"x\",{\"a\":[1,2.5,true,null,"
    "\"\\u00e4\"]}]}",
    "[[],{},[[[[\"deep\"]]]],{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":"
    "10}]",
};

static int parse_all(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct json_error error;
        AUTO_JSON json_t *value = json_parse(texts[i], strlen(texts[i]), &error);
        AUTO_FREE char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
        if (!text || strcasecmp(text, texts[i]) != 0)
            return -1;
    }
    return 0;
}

static int put_together(void *arg)
{
    (void)arg;
    AUTO_JSON json_t *value = json_pack("{s:[s,i,f],s:{s:s}}", "a", "x", 1, 0.5, "b", "c", "d");
    AUTO_FREE char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    return streq(text, "{\"a\":[\"x\",1,0.5],\"b\":{\"c\":\"d\"}}") ? 0 : -1;
}

/* Never half of one: a server without memory for a small value ends, with words. */
Test(memory, values_are_whole, .timeout = 300)
{
    static int (*const scenarios[])(void *) = {parse_all, put_together};
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        size_t told, ended;
        cr_assert_eq(scenarios[i](NULL), 0);
        cr_assert(alloc_faults_each(scenarios[i], NULL, NULL, &told, &ended));
        cr_assert_eq(told, 0);
        cr_assert_gt(ended, 10);
    }
}
