/* Headers become keys "http:<name>" of the task's other_config. Only those of a short list: others may carry
 * secrets, and tasks are for everybody to read. */
#include "task_claim.h"

#include <base/http_server.h>
#include <base/mem.h>
#include <stdio.h>

#define VALUE_MAX 256

static struct ref read_ref(struct http_request *req, const char *header, const char *name)
{
    const char *text = http_request_header(req, header);
    struct ref ref;
    if (!text)
        text = http_request_cookie(req, name);
    if (!text)
        text = http_request_query(req, name);
    return text && ref_parse(text, &ref) ? ref : REF_NULL;
}

static bool is_plain(const char *text)
{
    size_t len = 0;
    for (; text[len]; len++)
        if (len == VALUE_MAX || (unsigned char)text[len] < 0x20 || (unsigned char)text[len] > 0x7e)
            return false;
    return len > 0;
}

void task_claim_read(struct http_request *req, struct task_claim *claim)
{
    static const char *const headers[] = {"user-agent", "x-request-id", "x-correlation-id",
                                          "x-forwarded-for"};
    *claim = (struct task_claim){.adopt = read_ref(req, "task-id", "task_id"),
                                 .parent = read_ref(req, "subtask-of", "subtask_of")};
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        const char *value = http_request_header(req, headers[i]);
        char key[64];
        if (!value || !is_plain(value))
            continue;
        snprintf(key, sizeof(key), "http:%s", headers[i]);
        str_map_put(&claim->origin, key, value);
    }
}
