/* Downloads over TLS: whose servers are trusted. */
#include "http_fixture.h"
#include <base/http_fetch.h>

static void on_request(struct http_request *req, void *context)
{
    (void)context;
    http_answer(req, 200, NULL, "", 0, HTTP_STATIC);
}

Test(fetch_tls, a_fetch_checks_the_server)
{
    struct pool_files files = pool_files_new();
    struct http_server *server = start((struct http_server_config){
        .on_request = on_request, .certificate_file = files.server, .key_file = files.server_key});
    size_t len;
    AUTO_FREE char *pem = file_read(files.ca, 100000, &len);
    static const struct {
        const char *name;
        bool trusted, good;
    } cases[] = {{"127.0.0.1", true, true}, {"127.0.0.1", false, false}, {"localhost", true, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *url = xasprintf("https://%s:%u/", cases[i].name, http_server_port(server));
        struct http_fetch *fetch = NULL;
        struct http_error error = {0};
        int rc = http_fetch_open(
            &(struct http_fetch_config){.url = url, .ca_pem = cases[i].trusted ? pem : NULL}, &fetch, &error);
        cr_expect_eq(rc, cases[i].good ? 0 : -1, "%zu: %s", i, error.text);
        cr_expect(rc == 0 || error.kind == HTTP_TLS_REFUSED, "%zu: %s", i, error.text);
        http_fetch_close(fetch);
    }
    http_server_stop(server);
    pool_files_done(&files);
}
