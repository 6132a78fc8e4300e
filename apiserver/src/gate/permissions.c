/* The table is built at the first use and stays. */
#include "permissions.h"

#include <base/mem.h>
#include <ctype.h>
#include <model/http.h>
#include <pthread.h>
#include <stdlib.h>

static struct {
    struct permission *items;
    size_t count, cap;
    const struct str_set *of_role[ROLE_INTERNAL], *of_certificates;
} table;

/* Asked for by handlers: what a session may do to tasks that are not its own. */
static const struct permission further[] = {{"task.adopt/any", ROLE_POOL_OPERATOR, false},
                                            {"task.cancel/any", ROLE_POOL_OPERATOR, false},
                                            {"task.destroy/any", ROLE_POOL_OPERATOR, false}};

char *permission_of_method(const struct method_desc *method)
{
    char *text = xstrdup(method->name);
    for (char *c = text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return text;
}

/* Takes the name. What only the local root may do is nobody's permission. */
static void add(char *name, enum role role, bool client_cert)
{
    if (role < ROLE_INTERNAL) {
        if (table.count == table.cap) {
            table.cap = table.cap ? 2 * table.cap : 2048;
            table.items = xreallocarray(table.items, table.cap, sizeof(*table.items));
        }
        table.items[table.count++] =
            (struct permission){.name = str_new(name), .role = role, .client_cert = client_cert};
    }
    free(name);
}

static void add_method(const struct method_desc *method)
{
    bool client_cert = method->role == ROLE_READ_ONLY || method->flags & METHOD_CLIENT_CERT;
    add(permission_of_method(method), (enum role)method->role, client_cert);
    bool by_key = method->kind == METHOD_ADD || method->kind == METHOD_REMOVE;
    for (size_t i = 0; by_key && i < method->key_role_count; i++) {
        AUTO_FREE char *own = permission_of_method(method);
        add(xasprintf("%s/key:%s", own, method->key_roles[i].key), method->key_roles[i].role, false);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct permission *)a)->name, ((const struct permission *)b)->name);
}

static void collect_certificates(void)
{
    AUTO_FREE const char **names = xcalloc(table.count, sizeof(*names));
    size_t count = 0;
    for (size_t i = 0; i < table.count; i++)
        if (table.items[i].client_cert)
            names[count++] = str_ref(table.items[i].name);
    table.of_certificates = str_set_new_moved(names, count);
}

static void collect_role(enum role role)
{
    AUTO_FREE const char **names = xcalloc(table.count, sizeof(*names));
    size_t count = 0;
    for (size_t i = 0; i < table.count; i++)
        if (table.items[i].role <= role)
            names[count++] = str_ref(table.items[i].name);
    table.of_role[role] = str_set_new_moved(names, count);
}

static void build(void)
{
    for (size_t i = 0; i < model_method_count; i++)
        if (!(model_methods[i].flags & METHOD_REMOVED))
            add_method(&model_methods[i]);
    for (size_t i = 0; i < model_http_action_count; i++)
        if (!model_http_actions[i].open)
            add(xstrdup(model_http_actions[i].permission), model_http_actions[i].role,
                model_http_actions[i].role == ROLE_READ_ONLY);
    for (size_t i = 0; i < ARRAY_LEN(further); i++)
        add(xstrdup(further[i].name), further[i].role, further[i].client_cert);
    qsort(table.items, table.count, sizeof(*table.items), by_name);
    for (enum role role = ROLE_READ_ONLY; role < ROLE_INTERNAL; role++)
        collect_role(role);
    collect_certificates();
}

static void built(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, build);
}

const struct permission *permissions_all(size_t *count)
{
    built();
    *count = table.count;
    return table.items;
}

const struct permission *permission_find(const char *name)
{
    const struct permission wanted = {.name = name};
    built();
    return bsearch(&wanted, table.items, table.count, sizeof(*table.items), by_name);
}

const struct str_set *permissions_of_role(enum role role)
{
    built();
    return role < ROLE_INTERNAL ? str_set_ref(table.of_role[role]) : NULL;
}

const struct str_set *permissions_of_certificates(void)
{
    built();
    return str_set_ref(table.of_certificates);
}
