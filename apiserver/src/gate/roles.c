/* Role checks, driven by method_desc.role and method_desc.key_roles. */
#include "roles.h"

#include "permissions.h"
#include "session.h"
#include <base/buf.h>
#include <base/mem.h>
#include <fnmatch.h>
#include <model/errors.h>

static int deny(const char *permission, enum role needed, struct api_err *err)
{
    AUTO_BUF struct buf text = BUF_INIT;
    buf_add_str(&text, "No permission in user session. (Roles with this permission: ");
    for (enum role r = needed; r <= ROLE_POOL_ADMIN; r++)
        buf_printf(&text, "%s%s", r > needed ? ", " : "", role_name(r));
    buf_add_str(&text, needed > ROLE_POOL_ADMIN ? "none, local root only)" : ")");
    return err_rbac_permission_denied(err, permission, text.data);
}

int roles_require(const struct session *session, enum role needed, const char *permission,
                  struct api_err *err)
{
    if (session->superuser || session->role >= (int)needed)
        return 0;
    const struct permission *known = session->certified ? permission_find(permission) : NULL;
    return known && known->client_cert ? 0 : deny(permission, needed, err);
}

int roles_require_message(const struct session *session, const struct method_desc *method,
                          struct api_err *err)
{
    AUTO_FREE char *permission = permission_of_method(method);
    return roles_require(session, method->role, permission, err);
}

int roles_allow(const struct session *session, const char *permission, struct api_err *err)
{
    const struct permission *known = permission_find(permission);
    return roles_require(session, known ? known->role : ROLE_INTERNAL, permission, err);
}

static bool key_fits(const char *pattern, const char *key)
{
    size_t len = strcspn(pattern, "*"); /* a star is the last */
    return pattern[len] ? strncmp(pattern, key, len) == 0 : streq(pattern, key);
}

/* The role that this key of the map needs; the message's own where nothing is said of the key. */
static enum role role_of_key(const struct method_desc *method, const char *key)
{
    for (size_t i = 0; i < method->key_role_count; i++)
        if (key_fits(method->key_roles[i].key, key))
            return method->key_roles[i].role;
    return method->role;
}

static int check_key(const struct call *call, const char *permission, const char *key, struct api_err *err)
{
    AUTO_FREE char *full = xasprintf("%s/key:%s", permission, key);
    return roles_require(call->session, role_of_key(call->method, key), full, err);
}

/* The weakest role that may touch anything of the map. */
static enum role weakest(const struct method_desc *method)
{
    enum role role = method->role;
    for (size_t i = 0; i < method->key_role_count; i++)
        if (method->key_roles[i].role < role)
            role = method->key_roles[i].role;
    return role;
}

/* A whole map is set: each key that comes, goes or changes counts as if it were touched alone. Setting what
 * is there already is still a setter. */
static int check_map(const struct call *call, const char *permission, struct api_err *err)
{
    if (roles_require(call->session, weakest(call->method), permission, err) < 0)
        return -1;
    const struct args_value *args = call->args;
    const struct row *row = snapshot_get(call->snapshot, call->method->cls, args->self);
    const struct str_map *before = row ? row_cell(row, call->method->field)->str_map : NULL;
    const struct str_map *after = args->value.str_map;
    for (size_t i = 0; after && i < after->count; i++) {
        const char *old = str_map_get(before, after->pairs[i].key);
        if ((!old || !streq(old, after->pairs[i].value)) &&
            check_key(call, permission, after->pairs[i].key, err) < 0)
            return -1;
    }
    for (size_t i = 0; before && i < before->count; i++)
        if (!str_map_get(after, before->pairs[i].key) &&
            check_key(call, permission, before->pairs[i].key, err) < 0)
            return -1;
    return 0;
}

/* A constructor is one more door to the maps of what it makes. */
static int check_record(const struct session *session, enum role constructor, const struct row *record,
                        struct api_err *err)
{
    for (size_t i = 0; i < record->cls->field_count; i++) {
        const struct field_desc *field = &record->cls->fields[i];
        const struct str_map *map = field->type->rep == REP_STR_MAP ? row_cell(record, field)->str_map : NULL;
        AUTO_FREE char *name = xasprintf("%s.add_to_%s", record->cls->name, field->name);
        const struct method_desc *door = map ? method_find(name, strlen(name)) : NULL;
        for (size_t k = 0; door && door->key_role_count && k < map->count; k++) {
            enum role role = role_of_key(door, map->pairs[k].key);
            AUTO_FREE char *permission = permission_of_method(door);
            AUTO_FREE char *full = xasprintf("%s/key:%s", permission, map->pairs[k].key);
            if (role > constructor && roles_require(session, role, full, err) < 0)
                return -1;
        }
    }
    return 0;
}

int roles_check_record(const struct session *session, const struct row *record, struct api_err *err)
{
    AUTO_FREE char *name = xasprintf("%s.create", record->cls->name);
    const struct method_desc *create = method_find(name, strlen(name));
    if (session->superuser)
        return 0;
    return check_record(session, create ? create->role : ROLE_READ_ONLY, record, err);
}

int roles_check(const struct call *call, struct api_err *err)
{
    const struct method_desc *method = call->method;
    if (!call->session || call->session->superuser)
        return 0;
    bool create = method->kind == METHOD_CREATE;
    if (call->session->role >= (int)method->role && method->key_role_count == 0 && !create)
        return 0; /* the fast path */
    AUTO_FREE char *permission = permission_of_method(method);
    if (create && roles_require(call->session, method->role, permission, err) == 0)
        return check_record(call->session, method->role, ((const struct args_create *)call->args)->record,
                            err);
    if (create)
        return -1;
    bool map = method->field && method->field->type->rep == REP_STR_MAP && method->key_role_count > 0;
    if (map && (method->kind == METHOD_ADD || method->kind == METHOD_REMOVE))
        return check_key(call, permission, ((const struct args_pair *)call->args)->key.str, err);
    if (map && method->kind == METHOD_SETTER)
        return check_map(call, permission, err);
    return roles_require(call->session, method->role, permission, err);
}
