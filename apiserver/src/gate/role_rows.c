/* Six roles, each with all the permissions that it has (those of the weaker roles among them), the one of
 * client certificates, and a row a permission, which counts as a role without any below it. */
#include "role_rows.h"

#include "permissions.h"
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <stdio.h>

#define CLIENT_CERT "client-cert"

static const char *const descriptions[] = {
    [ROLE_READ_ONLY] = "Sees the pool and changes nothing",
    [ROLE_VM_OPERATOR] = "Starts, stops and uses VMs",
    [ROLE_VM_ADMIN] = "Makes and changes VMs",
    [ROLE_VM_POWER_ADMIN] = "Makes and changes VMs, chooses their hosts, moves them",
    [ROLE_POOL_OPERATOR] = "Manages hosts, storage and networks",
    [ROLE_POOL_ADMIN] = "Does everything, also with users and roles",
};

/* 16 bytes of a hash of the name, marked as a uuid of version 8 (RFC 9562). */
static struct ref derived(const char *what, const char *name)
{
    char hash[SHA256_TEXT_SIZE], text[UUID_TEXT_SIZE];
    struct ref ref = REF_NULL;
    AUTO_FREE char *input = xasprintf("corral %s %s", what, name);
    sha256_text(input, strlen(input), hash);
    snprintf(text, sizeof(text), "%.8s-%.4s-8%.3s-8%.3s-%.12s", hash, hash + 8, hash + 12, hash + 15,
             hash + 18);
    if (!uuid_parse(text, &ref))
        log_error("roles", "a role's uuid is malformed", "uuid", text);
    return ref;
}

struct ref role_ref(const char *name)
{
    return derived("role", name);
}

int role_of_ref(struct ref ref)
{
    for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++)
        if (ref_eq(ref, role_ref(role_name(role))))
            return (int)role;
    return -1;
}

struct wanted {
    const char *name, *description;
    const struct ref_set *subroles;
    bool internal;
};

static bool is_right(const struct role_row *row, const struct wanted *wanted)
{
    size_t count = wanted->subroles ? wanted->subroles->count : 0;
    return streq(row->name_label, wanted->name) && streq(row->name_description, wanted->description) &&
           row->is_internal == wanted->internal && (row->subroles ? row->subroles->count : 0) == count &&
           (!count || memcmp(row->subroles->items, wanted->subroles->items, count * sizeof(struct ref)) == 0);
}

/* Takes the set. */
static bool ensure(struct tx *tx, const struct wanted *wanted)
{
    struct ref ref = role_ref(wanted->name);
    const struct role_row *there = role_row(tx_get(tx, CLASS_role, ref));
    bool right = there && is_right(there, wanted);
    if (!right) {
        struct role_row *row =
            role_row_mut(there ? tx_edit(tx, CLASS_role, ref) : tx_create_as(tx, CLASS_role, ref));
        str_assign(&row->uuid, UUID_TEXT(derived("role uuid", wanted->name)));
        str_assign(&row->name_label, wanted->name);
        str_assign(&row->name_description, wanted->description);
        ref_set_assign(&row->subroles, ref_set_ref(wanted->subroles));
        row->is_internal = wanted->internal;
    }
    ref_set_unref(wanted->subroles);
    return !right;
}

/* References of the permissions that the role has; -1: that of client certificates. */
static const struct ref_set *permissions_of(const struct ref *refs, int role)
{
    size_t all, count = 0;
    const struct permission *items = permissions_all(&all);
    AUTO_FREE struct ref *mine = xcalloc(all, sizeof(*mine));
    for (size_t i = 0; i < all; i++)
        if (role < 0 ? items[i].client_cert : (int)items[i].role <= role)
            mine[count++] = refs[i];
    return ref_set_new(mine, count);
}

struct stale {
    struct tx *tx;
    struct ref *refs;
    size_t count, cap;
};

static bool collect_stale(const struct row *row, void *arg)
{
    struct stale *stale = arg;
    const char *name = role_row(row)->name_label;
    bool known = permission_find(name) || streq(name, CLIENT_CERT) || role_of_ref(row->ref) >= 0;
    if (known && ref_eq(row->ref, role_ref(name)))
        return true;
    if (stale->count == stale->cap) {
        stale->cap = stale->cap ? 2 * stale->cap : 16;
        stale->refs = xreallocarray(stale->refs, stale->cap, sizeof(*stale->refs));
    }
    stale->refs[stale->count++] = row->ref;
    return true;
}

/* Permissions of messages that an upgrade took away. */
static size_t drop_stale(struct tx *tx)
{
    struct stale stale = {.tx = tx};
    tx_each(tx, CLASS_role, collect_stale, &stale);
    for (size_t i = 0; i < stale.count; i++)
        tx_delete(tx, CLASS_role, stale.refs[i]);
    free(stale.refs);
    return stale.count;
}

void role_rows_bootstrap(struct tx *tx)
{
    size_t count, changed = 0;
    const struct permission *items = permissions_all(&count);
    AUTO_FREE struct ref *refs = xcalloc(count, sizeof(*refs));
    for (size_t i = 0; i < count; i++) {
        refs[i] = role_ref(items[i].name);
        const struct wanted wanted = {items[i].name, "A permission of roles", NULL, false};
        changed += ensure(tx, &wanted);
    }
    for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++) {
        const struct wanted wanted = {role_name(role), descriptions[role], permissions_of(refs, (int)role),
                                      false};
        changed += ensure(tx, &wanted);
    }
    const struct wanted client_cert = {CLIENT_CERT, "What a login by client certificate may do",
                                       permissions_of(refs, -1), true};
    changed += ensure(tx, &client_cert);
    changed += drop_stale(tx);
    if (changed)
        log_info("roles", "roles and permissions were brought up to date", "changed",
                 LOG_INT((long long)changed));
}
