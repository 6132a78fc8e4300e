/* API tokens: their end by the clock, and what the sweep leaves. */
#include "trial.h"

#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <gate/api_tokens.h>
#include <gate/session.h>

#define DAY_S 86400

static struct trial_server trial;

static void start(void)
{
    trial_start(&trial);
    trial.server.api_tokens = api_tokens_new();
}

static void stop(void)
{
    api_tokens_free(trial.server.api_tokens);
    trial_stop(&trial);
}

TestSuite(api_tokens, .init = start, .fini = stop, .timeout = 120);

static json_t *make(const char *role)
{
    const struct api_token_wish wish = {.name = "ci", .role = role, .days = 1};
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    json_t *made = NULL;
    cr_assert_eq(api_token_make(&trial.server, trial.root, &wish, &made, &err), 0, "%s", err.code);
    return made;
}

static const char *text_of(const json_t *made)
{
    return json_string_value(json_object_get(made, "token"));
}

/* As if it had been made so long ago. */
static void age(int64_t seconds)
{
    struct tx *tx = store_begin(trial.server.store);
    struct ref all[8];
    size_t count = 0;
    AUTO_JSON json_t *list = api_tokens_list(&trial.server, trial.root);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        const struct row *row =
            tx_by_uuid(tx, CLASS_api_token, json_string_value(json_object_get(item, "uuid")));
        all[count++] = row->ref;
    }
    for (i = 0; i < count; i++)
        api_token_row_mut(tx_edit(tx, CLASS_api_token, all[i]))->expires -= seconds;
    struct api_err err = API_ERR_INIT;
    cr_assert_eq(server_commit(tx, &err), 0);
}

Test(api_tokens, one_session_for_all_requests)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *made = make("vm-admin");
    cr_expect(api_token_session_open(&trial.server, text_of(made)) == NULL, "none before the first use");
    AUTO_SESSION struct session *first = api_token_session(&trial.server, text_of(made), &err);
    AUTO_SESSION struct session *again = api_token_session_open(&trial.server, text_of(made));
    cr_assert(first != NULL);
    cr_expect(first == again);
    cr_expect_eq(first->role, ROLE_VM_ADMIN);
    cr_expect_not(first->superuser);
    cr_expect_str_eq(first->token_name, "ci");
    const struct api_token_wish wish = {.name = "child", .days = 1};
    json_t *child = NULL;
    cr_expect(api_token_make(&trial.server, first, &wish, &child, &err) < 0, "a token makes none");
}

Test(api_tokens, it_expires_and_is_forgotten)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *made = make(NULL);
    AUTO_SESSION struct session *session = api_token_session(&trial.server, text_of(made), &err);
    cr_assert(session != NULL);
    api_tokens_sweep(&trial.server);
    cr_expect_not(session->gone);
    age(2 * DAY_S);
    cr_expect(api_token_session_open(&trial.server, text_of(made)) == NULL, "at once, before any sweep");
    cr_expect(api_token_session(&trial.server, text_of(made), &err) == NULL);
    cr_expect_str_eq(err.code, "SESSION_AUTHENTICATION_FAILED");
    api_tokens_sweep(&trial.server);
    cr_expect(session->gone, "what it had open ends");
    AUTO_JSON json_t *kept = api_tokens_list(&trial.server, trial.root);
    cr_expect_eq(json_array_size(kept), 1);
    cr_expect_not_null(json_string_value(json_object_get(json_array_get(kept, 0), "last_used")));
    age(30 * DAY_S);
    api_tokens_sweep(&trial.server);
    AUTO_JSON json_t *none = api_tokens_list(&trial.server, trial.root);
    cr_expect_eq(json_array_size(none), 0);
}

Test(api_tokens, a_weak_token_sees_and_ends_none)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *weak = make("read-only"), *strong = make(NULL);
    AUTO_SESSION struct session *session = api_token_session(&trial.server, text_of(weak), &err);
    AUTO_JSON json_t *seen = api_tokens_list(&trial.server, session);
    cr_expect_eq(json_array_size(seen), 0);
    const char *uuid = json_string_value(json_object_get(strong, "uuid"));
    cr_expect(api_token_revoke(&trial.server, session, uuid, &err) < 0);
    cr_expect_eq(api_token_revoke(&trial.server, trial.root, uuid, &err), 0);
    cr_expect(api_token_session(&trial.server, text_of(strong), &err) == NULL);
}
