/* API tokens: for programs, instead of a password. */
#include "run.h"
#include "xe_handlers.h"
#include <base/secret.h>

#define TOKENS "/api/v1/tokens"

int xe_cmd_token_create(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name, *role = xe_arg(x, "role"), *days = xe_arg(x, "days");
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    if (xe_arg_required(x, "name", &name) < 0)
        return -1;
    AUTO_JSON json_t *wish = json_pack("{ss}", "name", name);
    if (role)
        json_object_set_new(wish, "role", json_string(role));
    if (days) {
        char *end;
        long long count = strtoll(days, &end, 10);
        if (*days < '0' || *days > '9' || *end)
            return xe_fail(x, XE_ERR_CLI, "days is a number, not '%s'", days);
        json_object_set_new(wish, "days", json_integer(count));
    }
    if (x->api->rest(x->api->ctx, "POST", TOKENS, wish, &answer, &x->err) < 0)
        return -1;
    xe_out_item(x, xe_str(answer, "token"));
    if (!x->minimal)
        xe_note(x, "It is good until %s, and shown only now.", xe_str(answer, "expires"));
    return 0;
}

int xe_cmd_token_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const struct {
        const char *name, *member;
    } columns[] = {{"uuid", "uuid"}, {"name", "name"},       {"role", "role"},
                   {"user", "user"}, {"expires", "expires"}, {"last-used", "last_used"}};
    AUTO_JSON json_t *answer = NULL;
    size_t index;
    json_t *item;
    (void)cmd;
    if (x->api->rest(x->api->ctx, "GET", TOKENS, NULL, &answer, &x->err) < 0)
        return -1;
    json_array_foreach(json_object_get(answer, "items"), index, item)
    {
        struct xe_cell cells[ARRAY_LEN(columns)];
        for (size_t i = 0; i < ARRAY_LEN(columns); i++)
            cells[i] = (struct xe_cell){columns[i].name, "RO", xe_str(item, columns[i].member)};
        xe_out_block(x, cells, ARRAY_LEN(columns));
    }
    return 0;
}

int xe_cmd_token_revoke(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0)
        return -1;
    if (strspn(uuid, "0123456789abcdefABCDEF-") != strlen(uuid))
        return xe_fail(x, XE_ERR_CLI, "'%s' is no uuid: token-list shows them", uuid);
    AUTO_FREE char *path = xasprintf(TOKENS "/%s", uuid);
    return x->api->rest(x->api->ctx, "DELETE", path, NULL, &answer, &x->err);
}
