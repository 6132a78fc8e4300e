/* The text of a token is "corral-<uuid>-<secret>": the uuid finds the row, the secret's hash is in it. The
 * secret has 256 random bits, so a plain hash is enough and guessing needs no brake. */
#include "api_tokens.h"

#include "accounts.h"
#include "session.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

#define PREFIX "corral-"
#define SECRET_BYTES 32
#define NAME_MAX_BYTES 64
#define TOKENS_MAX 1000
#define DAY_S 86400
#define FORGET_S (30 * DAY_S)

struct in_use {
    struct ref token;
    struct session *session; /* counted */
    int64_t noted_ms;        /* its activity that the row tells */
};
struct api_tokens {
    pthread_mutex_t lock; /* guards what follows */
    struct in_use *items;
    size_t count, cap;
};

struct api_tokens *api_tokens_new(void)
{
    struct api_tokens *tokens = xcalloc(1, sizeof(*tokens));
    pthread_mutex_init(&tokens->lock, NULL);
    return tokens;
}

void api_tokens_free(struct api_tokens *tokens)
{
    if (!tokens)
        return;
    for (size_t i = 0; i < tokens->count; i++)
        session_unref(tokens->items[i].session);
    free(tokens->items);
    pthread_mutex_destroy(&tokens->lock);
    free(tokens);
}

/* ---- the text ---- */

bool api_token_is(const char *text)
{
    return strncmp(text, PREFIX, strlen(PREFIX)) == 0;
}

/* The row that the text is good for; NULL: none. */
static const struct api_token_row *find_row(const struct snapshot *snap, const char *text)
{
    char uuid[UUID_TEXT_SIZE], hash[SHA256_TEXT_SIZE];
    size_t at = strlen(PREFIX) + UUID_TEXT_SIZE - 1;
    if (!api_token_is(text) || strlen(text) <= at || text[at] != '-')
        return NULL;
    memcpy(uuid, text + strlen(PREFIX), UUID_TEXT_SIZE - 1);
    uuid[UUID_TEXT_SIZE - 1] = '\0';
    const struct api_token_row *row = api_token_row(snapshot_by_uuid(snap, CLASS_api_token, uuid));
    const char *secret = text + at + 1;
    sha256_text(secret, strlen(secret), hash);
    return row && secret_equal_text(row->hash, hash) && row->expires > clock_unix_seconds() ? row : NULL;
}

/* ---- sessions ---- */

/* With the lock held. Forgets a session that has ended meanwhile. */
static struct in_use *find_in_use(struct api_tokens *tokens, struct ref token)
{
    for (size_t i = 0; i < tokens->count; i++) {
        struct in_use *use = &tokens->items[i];
        if (!ref_eq(use->token, token))
            continue;
        if (!use->session->gone)
            return use;
        session_unref(use->session);
        *use = tokens->items[--tokens->count];
        return NULL;
    }
    return NULL;
}

static struct session *shared(struct api_tokens *tokens, struct ref token)
{
    pthread_mutex_lock(&tokens->lock);
    struct in_use *use = find_in_use(tokens, token);
    struct session *session = use ? session_ref(use->session) : NULL;
    pthread_mutex_unlock(&tokens->lock);
    if (session)
        session->last_active_ms = clock_mono_ms();
    return session;
}

struct session *api_token_session_open(struct server *server, const char *text)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct api_token_row *row = find_row(snap, text);
    return row ? shared(server->api_tokens, row->row.ref) : NULL;
}

/* Who the token stands for now: 0, or -1 when its maker has no rights any more. */
static int identify(const struct snapshot *snap, const struct api_token_row *row, struct identity *who,
                    struct api_err *err)
{
    struct ref subject = REF_NULL;
    enum role now = ROLE_POOL_ADMIN;
    int limit = role_find(row->role);
    if (limit < 0 || (*row->sid && accounts_rights(snap, row->sids, &subject, &now) != RIGHTS_SOME))
        return err_session_authentication_failed(err, row->user,
                                                 "The maker of this token has no rights any more.");
    *who = (struct identity){.user = xstrdup(row->user),
                             .sid = xstrdup(row->sid),
                             .sids = str_set_ref(row->sids),
                             .role = (int)now < limit ? now : (enum role)limit,
                             .subject = subject,
                             .token = xstrdup(row->label),
                             .limited = true,
                             .limit = (enum role)limit};
    return 0;
}

/* Two requests may have opened one at once: the first one stays. */
static struct session *share(struct server *server, struct ref token, struct session *session)
{
    struct api_tokens *tokens = server->api_tokens;
    pthread_mutex_lock(&tokens->lock);
    struct in_use *use = find_in_use(tokens, token);
    struct session *first = use ? session_ref(use->session) : NULL;
    if (!first) {
        if (tokens->count == tokens->cap) {
            tokens->cap = tokens->cap ? 2 * tokens->cap : 16;
            tokens->items = xreallocarray(tokens->items, tokens->cap, sizeof(*tokens->items));
        }
        tokens->items[tokens->count++] = (struct in_use){.token = token, .session = session_ref(session)};
    }
    pthread_mutex_unlock(&tokens->lock);
    if (!first)
        return session;
    session_close(server, session);
    session_unref(session);
    return first;
}

struct session *api_token_session(struct server *server, const char *text, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    AUTO_IDENTITY struct identity who = {0};
    struct session *session;
    const struct api_token_row *row = find_row(snap, text);
    if (!row) {
        err_session_authentication_failed(err, "", "There is no such token, or it has expired.");
        return NULL;
    }
    if ((session = shared(server->api_tokens, row->row.ref)))
        return session;
    if (identify(snap, row, &who, err) < 0 || session_open(server, &who, "API token", &session, err) < 0)
        return NULL;
    session = share(server, row->row.ref, session);
    /* Revoked meanwhile: whoever did so may have looked before the session was there. */
    AUTO_SNAPSHOT struct snapshot *now = store_snapshot(server->store);
    if (find_row(now, text))
        return session;
    session_close(server, session);
    session_unref(session);
    err_session_authentication_failed(err, "", "There is no such token, or it has expired.");
    return NULL;
}

/* ---- making, listing, revoking ---- */

static int check_name(const char *name, struct api_err *err)
{
    size_t len = strlen(name);
    bool good = len > 0 && len <= NAME_MAX_BYTES;
    for (size_t i = 0; i < len; i++)
        good = good && (unsigned char)name[i] >= ' ' && name[i] != 0x7f;
    return good ? 0 : err_invalid_value(err, "name", "A token's name has 1 to 64 printable characters.");
}

#define CHECKS 5

static int check_nth(size_t n, const struct session *session, const struct api_token_wish *wish,
                     struct api_err *err)
{
    int wanted = wish->role ? role_find(wish->role) : (int)session->role;
    switch (n) {
    case 0:
        if (session->token_name || session->certified || session->pool || session->local ||
            (!session->superuser && !*session->sid))
            return err_operation_not_allowed(
                err, "Tokens are made by people who have logged in by password, not by another token.");
        return 0;
    case 1:
        return check_name(wish->name, err);
    case 2:
        return wanted < 0 ? err_invalid_value(err, "role", "There is no such role.") : 0;
    case 3:
        return wish->days < 1 || wish->days > API_TOKEN_DAYS_MAX
                   ? err_invalid_value(err, "days", "A token lasts from 1 to 3650 days.")
                   : 0;
    default:
        return wanted > (int)session->role
                   ? err_rbac_permission_denied(
                         err, "api_token.make",
                         "A token cannot do more than who makes it: ask for a weaker role.")
                   : 0;
    }
}

static int check_count(struct tx *tx, struct api_err *err)
{
    return tx_count(tx, CLASS_api_token) < TOKENS_MAX
               ? 0
               : err_operation_not_allowed(err, "There are 1,000 tokens already: revoke some.");
}

static int check_wish(const struct session *session, const struct api_token_wish *wish, enum role *role,
                      struct api_err *err)
{
    for (size_t i = 0; i < CHECKS; i++)
        if (check_nth(i, session, wish, err) < 0)
            return -1;
    *role = wish->role ? (enum role)role_find(wish->role) : (enum role)session->role;
    return 0;
}

void api_token_refusals(struct server *server, const struct session *session,
                        const struct api_token_wish *wish, void (*each)(void *arg, const struct api_err *err),
                        void *arg)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    for (size_t i = 0; i < CHECKS; i++)
        if (check_nth(i, session, wish, &err) < 0)
            each(arg, &err);
    struct tx *tx = store_begin(server->store);
    if (check_count(tx, &err) < 0)
        each(arg, &err);
    tx_abort(tx);
}

/* `used_s` may be later than what the row tells. */
static json_t *show(const struct api_token_row *row, int64_t used_s)
{
    char created[RFC3339_SIZE], expires[RFC3339_SIZE], used[RFC3339_SIZE];
    json_t *shown = json_pack("{ssssssssssss}", "uuid", row->uuid, "name", row->label, "role", row->role,
                              "user", row->user, "created", rfc3339_format(row->created, created), "expires",
                              rfc3339_format(row->expires, expires));
    json_object_set_new(shown, "last_used", used_s ? json_string(rfc3339_format(used_s, used)) : json_null());
    return shown;
}

int api_token_make(struct server *server, const struct session *session, const struct api_token_wish *wish,
                   json_t **out, struct api_err *err)
{
    enum role role = session->role;
    char hash[SHA256_TEXT_SIZE];
    if (check_wish(session, wish, &role, err) < 0)
        return -1;
    AUTO_SECRET char *secret = secret_token(SECRET_BYTES);
    struct tx *tx = store_begin(server->store);
    if (check_count(tx, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    struct api_token_row *row = api_token_row_mut(tx_create(tx, CLASS_api_token));
    str_assign(&row->label, wish->name);
    str_assign(&row->hash, sha256_text(secret, strlen(secret), hash));
    str_assign(&row->role, role_name(role));
    str_assign(&row->user, session->user);
    str_assign(&row->sid, session->sid);
    str_set_assign(&row->sids, session->superuser ? NULL : str_set_ref(session->sids));
    row->created = clock_unix_seconds();
    row->expires = row->created + wish->days * DAY_S;
    json_t *shown = show(row, 0);
    AUTO_SECRET char *text = xasprintf(PREFIX "%s-%s", row->uuid, secret);
    if (server_commit(tx, err) < 0) {
        json_decref(shown);
        return -1;
    }
    json_object_set_new(shown, "token", json_string(text));
    log_info("token", "made an API token", "name", wish->name, "user", session->user, "role",
             role_name(role));
    *out = shown;
    return 0;
}

static bool may_see(const struct session *session, const struct api_token_row *row)
{
    if (session->token_name && session->role < ROLE_POOL_ADMIN)
        return false; /* it is not the person who made it */
    bool same = streq(row->user, session->user) && streq(row->sid, session->sid);
    return same || session->superuser || session->role >= ROLE_POOL_ADMIN;
}

struct listing {
    struct api_tokens *tokens;
    const struct session *session;
    json_t *items;
};

static bool add_item(const struct row *row, void *arg)
{
    struct listing *l = arg;
    const struct api_token_row *token = api_token_row(row);
    int64_t used_s = token->last_used;
    if (!may_see(l->session, token))
        return true;
    pthread_mutex_lock(&l->tokens->lock);
    const struct in_use *use = find_in_use(l->tokens, row->ref);
    if (use)
        used_s = clock_unix_seconds() - (clock_mono_ms() - use->session->last_active_ms) / 1000;
    pthread_mutex_unlock(&l->tokens->lock);
    json_array_append_new(l->items, show(token, used_s));
    return true;
}

json_t *api_tokens_list(struct server *server, const struct session *session)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct listing l = {server->api_tokens, session, json_array()};
    snapshot_each(snap, CLASS_api_token, add_item, &l);
    return l.items;
}

static void end_session(struct server *server, struct ref token)
{
    struct session *session = shared(server->api_tokens, token);
    if (!session)
        return;
    session_close(server, session);
    session_unref(session);
}

char *api_token_name(struct server *server, const struct session *session, const char *uuid,
                     struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct api_token_row *row = api_token_row(snapshot_by_uuid(snap, CLASS_api_token, uuid));
    if (row && may_see(session, row))
        return xstrdup(row->label);
    err_uuid_invalid(err, "api_token", uuid);
    return NULL;
}

int api_token_revoke(struct server *server, const struct session *session, const char *uuid,
                     struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    const struct api_token_row *row = api_token_row(tx_by_uuid(tx, CLASS_api_token, uuid));
    if (!row || !may_see(session, row)) {
        tx_abort(tx);
        return err_uuid_invalid(err, "api_token", uuid);
    }
    struct ref ref = row->row.ref;
    log_info("token", "revoked an API token", "name", row->label, "user", row->user, "by", session->user);
    tx_delete(tx, CLASS_api_token, ref);
    if (server_commit(tx, err) < 0)
        return -1;
    end_session(server, ref);
    return 0;
}

/* ---- the sweep ---- */

struct sweep {
    struct server *server;
    int64_t now_s;
    struct ref *expired; /* their sessions end */
    struct ref *old;     /* they are forgotten */
    size_t expired_count, old_count;
    struct {
        struct ref token;
        int64_t used_s;
    } * used;
    size_t used_count;
};

static bool sort_out(const struct row *row, void *arg)
{
    struct sweep *s = arg;
    int64_t expires = api_token_row(row)->expires;
    if (expires <= s->now_s)
        s->expired[s->expired_count++] = row->ref;
    if (expires + FORGET_S <= s->now_s)
        s->old[s->old_count++] = row->ref;
    return true;
}

static void collect_used(struct sweep *s)
{
    struct api_tokens *tokens = s->server->api_tokens;
    pthread_mutex_lock(&tokens->lock);
    s->used = xcalloc(tokens->count + 1, sizeof(*s->used));
    for (size_t i = 0; i < tokens->count; i++) {
        struct in_use *use = &tokens->items[i];
        int64_t active_ms = use->session->last_active_ms;
        if (active_ms == use->noted_ms)
            continue;
        use->noted_ms = active_ms;
        s->used[s->used_count].token = use->token;
        s->used[s->used_count++].used_s = s->now_s - (clock_mono_ms() - active_ms) / 1000;
    }
    pthread_mutex_unlock(&tokens->lock);
}

static void write_sweep(struct tx *tx, void *arg)
{
    const struct sweep *s = arg;
    for (size_t i = 0; i < s->used_count; i++) {
        struct api_token_row *row = api_token_row_mut(tx_edit(tx, CLASS_api_token, s->used[i].token));
        if (row)
            row->last_used = s->used[i].used_s;
    }
    for (size_t i = 0; i < s->old_count; i++)
        if (tx_get(tx, CLASS_api_token, s->old[i]))
            tx_delete(tx, CLASS_api_token, s->old[i]);
}

void api_tokens_sweep(struct server *server)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    size_t count = snapshot_count(snap, CLASS_api_token);
    struct sweep s = {.server = server, .now_s = clock_unix_seconds()};
    if (!count)
        return;
    s.expired = xcalloc(count, sizeof(*s.expired));
    s.old = xcalloc(count, sizeof(*s.old));
    snapshot_each(snap, CLASS_api_token, sort_out, &s);
    collect_used(&s);
    if (s.used_count || s.old_count)
        server_insist(server, write_sweep, &s);
    for (size_t i = 0; i < s.expired_count; i++)
        end_session(server, s.expired[i]);
    free(s.expired);
    free(s.old);
    free(s.used);
}
