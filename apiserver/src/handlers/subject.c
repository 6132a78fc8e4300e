/* subject.*: who may log in, and with which roles. What changes here holds at once for sessions that are
 * open. */
#include "../gate/accounts.h"
#include "../gate/permissions.h"
#include "../gate/role_rows.h"
#include "../gate/session.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define IDENTIFIER_BYTES_MAX 1024

static bool has_identifier(const struct row *row, void *arg)
{
    const char **identifier = arg;
    if (streq(subject_row(row)->subject_identifier, *identifier))
        *identifier = NULL;
    return *identifier;
}

int handle_subject_create(struct call *call, const struct subject_row *record, struct ref *result,
                          struct api_err *err)
{
    const char *identifier = record->subject_identifier;
    if (!*identifier || strlen(identifier) > IDENTIFIER_BYTES_MAX)
        return err_invalid_value(err, "subject_identifier", identifier);
    struct tx *tx = store_begin(call->server->store);
    tx_each(tx, CLASS_subject, has_identifier, &identifier);
    if (!identifier) {
        tx_abort(tx);
        return err_subject_already_exists(err);
    }
    struct subject_row *row = subject_row_mut(tx_create(tx, CLASS_subject));
    struct ref ref = row->row.ref;
    str_assign(&row->subject_identifier, identifier);
    str_map_assign(&row->other_config, str_map_ref(record->other_config));
    if (server_commit(tx, err) < 0)
        return -1;
    *result = ref;
    return 0;
}

int handle_subject_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_subject, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_subject, args->self);
    }
    tx_delete(tx, CLASS_subject, args->self);
    if (server_commit(tx, err) < 0)
        return -1;
    sessions_reassess(call->server);
    return 0;
}

static int change_roles(struct tx *tx, struct ref self, struct ref role, bool add, struct api_err *err)
{
    const struct subject_row *subject = subject_row(tx_get(tx, CLASS_subject, self));
    if (!subject)
        return fail_handle(err, CLASS_subject, self);
    bool has = ref_set_has(subject->roles, role);
    if (add ? role_of_ref(role) < 0 : !has)
        return err_role_not_found(err);
    if (add && has)
        return err_role_already_exists(err);
    struct subject_row *row = subject_row_mut(tx_edit(tx, CLASS_subject, self));
    ref_set_assign(&row->roles, add ? ref_set_with(row->roles, role) : ref_set_without(row->roles, role));
    return 0;
}

static int run_change(struct call *call, struct ref self, struct ref role, bool add, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (change_roles(tx, self, role, add, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    if (server_commit(tx, err) < 0)
        return -1;
    sessions_reassess(call->server);
    return 0;
}

int handle_subject_add_to_roles(struct call *call, const struct subject_add_to_roles_args *args,
                                struct api_err *err)
{
    return run_change(call, args->self, args->role, true, err);
}

int handle_subject_remove_from_roles(struct call *call, const struct subject_remove_from_roles_args *args,
                                     struct api_err *err)
{
    return run_change(call, args->self, args->role, false, err);
}

int handle_subject_get_permissions_name_label(struct call *call,
                                              const struct subject_get_permissions_name_label_args *args,
                                              const struct str_set **result, struct api_err *err)
{
    const struct subject_row *subject = subject_row(snapshot_get(call->snapshot, CLASS_subject, args->self));
    if (!subject)
        return fail_handle(err, CLASS_subject, args->self);
    int strongest = -1;
    for (size_t i = 0; subject->roles && i < subject->roles->count; i++) {
        int role = role_of_ref(subject->roles->items[i]);
        strongest = role > strongest ? role : strongest;
    }
    *result = strongest < 0 ? NULL : permissions_of_role((enum role)strongest);
    return 0;
}
