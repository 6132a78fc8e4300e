/* Observer.*: where traces of the server's work would be sent. The settings are kept and checked; nothing is
 * traced yet, so one that is to be enabled is refused (docs/administration.md). */
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define ITEMS_MAX 64

/* Parts of a server that clients know by name. */
static const char *const components[] = {"xapi", "xenopsd", "xapi-clusterd", "smapi"};

static int check_components(const struct str_set *wanted, struct api_err *err)
{
    for (size_t i = 0; wanted && i < wanted->count; i++) {
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(components); k++)
            known |= streq(wanted->items[i], components[k]);
        if (!known)
            return err_invalid_value(err, "components", wanted->items[i]);
    }
    return 0;
}

static bool is_endpoint(const char *text)
{
    bool address = strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
    return streq(text, "bugtool") || (address && strlen(text) < 2048 && !strpbrk(text, " \t\r\n\"'<>@"));
}

static int check_endpoints(const struct str_set *wanted, struct api_err *err)
{
    for (size_t i = 0; wanted && i < wanted->count; i++)
        if (i >= ITEMS_MAX || !is_endpoint(wanted->items[i]))
            return err_invalid_value(err, "endpoints", wanted->items[i]);
    return 0;
}

/* Keys of traces: lower-case words with dots and underlines. */
static int check_attributes(const struct str_map *wanted, struct api_err *err)
{
    for (size_t i = 0; wanted && i < wanted->count; i++) {
        const char *key = wanted->pairs[i].key;
        size_t len = strlen(key);
        if (i >= ITEMS_MAX || len == 0 || len > 128 ||
            strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789._") != len)
            return err_invalid_value(err, "attributes", key);
    }
    return 0;
}

static int check_hosts(const struct call *call, const struct ref_set *wanted, struct api_err *err)
{
    for (size_t i = 0; wanted && i < wanted->count; i++)
        if (!snapshot_get(call->snapshot, CLASS_host, wanted->items[i]))
            return fail_handle(err, CLASS_host, wanted->items[i]);
    return 0;
}

static int check_enabled(bool enabled, struct api_err *err)
{
    return enabled ? err_operation_not_allowed(err, "This server does not trace its work.") : 0;
}

int handle_observer_create(struct call *call, const struct observer_row *record, struct ref *result,
                           struct api_err *err)
{
    if (check_components(record->components, err) < 0 || check_endpoints(record->endpoints, err) < 0 ||
        check_attributes(record->attributes, err) < 0 || check_hosts(call, record->hosts, err) < 0 ||
        check_enabled(record->enabled, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    struct observer_row *row = observer_row_mut(tx_create(tx, CLASS_Observer));
    struct ref ref = row->row.ref;
    str_assign(&row->name_label, record->name_label);
    str_assign(&row->name_description, record->name_description);
    ref_set_assign(&row->hosts, ref_set_ref(record->hosts));
    str_map_assign(&row->attributes, str_map_ref(record->attributes));
    str_set_assign(&row->endpoints, str_set_ref(record->endpoints));
    str_set_assign(&row->components, str_set_ref(record->components));
    if (server_commit(tx, err) < 0)
        return -1;
    *result = ref;
    return 0;
}

/* The row, to be changed within *tx; NULL with *err when it is not there. */
static struct observer_row *edit(struct call *call, struct ref self, struct tx **tx, struct api_err *err)
{
    *tx = store_begin(call->server->store);
    if (tx_get(*tx, CLASS_Observer, self))
        return observer_row_mut(tx_edit(*tx, CLASS_Observer, self));
    tx_abort(*tx);
    fail_handle(err, CLASS_Observer, self);
    return NULL;
}

int handle_observer_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx;
    if (!edit(call, args->self, &tx, err))
        return -1;
    tx_delete(tx, CLASS_Observer, args->self);
    return server_commit(tx, err);
}

int handle_observer_set_hosts(struct call *call, const struct observer_set_hosts_args *args,
                              struct api_err *err)
{
    struct tx *tx;
    struct observer_row *row =
        check_hosts(call, args->value, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    ref_set_assign(&row->hosts, ref_set_ref(args->value));
    return server_commit(tx, err);
}

int handle_observer_set_enabled(struct call *call, const struct observer_set_enabled_args *args,
                                struct api_err *err)
{
    struct tx *tx;
    if (!snapshot_get(call->snapshot, CLASS_Observer, args->self))
        return fail_handle(err, CLASS_Observer, args->self);
    struct observer_row *row = check_enabled(args->value, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    row->enabled = args->value;
    return server_commit(tx, err);
}

int handle_observer_set_attributes(struct call *call, const struct observer_set_attributes_args *args,
                                   struct api_err *err)
{
    struct tx *tx;
    struct observer_row *row =
        check_attributes(args->value, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    str_map_assign(&row->attributes, str_map_ref(args->value));
    return server_commit(tx, err);
}

int handle_observer_set_endpoints(struct call *call, const struct observer_set_endpoints_args *args,
                                  struct api_err *err)
{
    struct tx *tx;
    struct observer_row *row =
        check_endpoints(args->value, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    str_set_assign(&row->endpoints, str_set_ref(args->value));
    return server_commit(tx, err);
}

int handle_observer_set_components(struct call *call, const struct observer_set_components_args *args,
                                   struct api_err *err)
{
    struct tx *tx;
    struct observer_row *row =
        check_components(args->value, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!row)
        return -1;
    str_set_assign(&row->components, str_set_ref(args->value));
    return server_commit(tx, err);
}

/* ---- one host's part: there is nothing to begin or end ---- */

static int check_both(const struct call *call, struct ref self, struct ref host, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_Observer, self))
        return fail_handle(err, CLASS_Observer, self);
    return snapshot_get(call->snapshot, CLASS_host, host) ? 0 : fail_handle(err, CLASS_host, host);
}

int handle_observer_register(struct call *call, const struct observer_register_args *args,
                             struct api_err *err)
{
    return check_both(call, args->self, args->host, err) < 0 ? -1 : check_enabled(true, err);
}

int handle_observer_unregister(struct call *call, const struct observer_unregister_args *args,
                               struct api_err *err)
{
    return check_both(call, args->self, args->host, err);
}
