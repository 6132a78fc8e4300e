/* role.*: which permissions a role has, which roles have a permission. Reads rows alone. */
#include "../gate/permissions.h"
#include "../gate/role_rows.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* A permission is a role with nothing below it: itself. */
static const struct ref_set *permissions_below(const struct role_row *role)
{
    if (role->subroles && role->subroles->count)
        return ref_set_ref(role->subroles);
    return ref_set_new(&role->row.ref, 1);
}

int handle_role_get_permissions(struct call *call, const struct role_get_permissions_args *args,
                                const struct ref_set **result, struct api_err *err)
{
    const struct role_row *role = role_row(snapshot_get(call->snapshot, CLASS_role, args->self));
    if (!role)
        return fail_handle(err, CLASS_role, args->self);
    *result = permissions_below(role);
    return 0;
}

int handle_role_get_permissions_name_label(struct call *call,
                                           const struct role_get_permissions_name_label_args *args,
                                           const struct str_set **result, struct api_err *err)
{
    const struct role_row *role = role_row(snapshot_get(call->snapshot, CLASS_role, args->self));
    if (!role)
        return fail_handle(err, CLASS_role, args->self);
    const struct ref_set *below = permissions_below(role);
    AUTO_FREE const char **names = xcalloc(below->count, sizeof(*names));
    size_t count = 0;
    for (size_t i = 0; i < below->count; i++) {
        const struct role_row *permission =
            role_row(snapshot_get(call->snapshot, CLASS_role, below->items[i]));
        if (permission)
            names[count++] = str_ref(permission->name_label);
    }
    ref_set_unref(below);
    *result = str_set_new_moved(names, count);
    return 0;
}

struct search {
    struct ref permission;
    const struct ref_set *roles;
};

static bool add_if_it_has(const struct row *row, void *arg)
{
    struct search *search = arg;
    if (ref_set_has(role_row(row)->subroles, search->permission))
        ref_set_assign(&search->roles, ref_set_with(search->roles, row->ref));
    return true;
}

static const struct ref_set *roles_with(const struct snapshot *snap, struct ref permission)
{
    struct search search = {.permission = permission};
    snapshot_each(snap, CLASS_role, add_if_it_has, &search);
    return search.roles;
}

int handle_role_get_by_permission(struct call *call, const struct role_get_by_permission_args *args,
                                  const struct ref_set **result, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_role, args->permission))
        return fail_handle(err, CLASS_role, args->permission);
    *result = roles_with(call->snapshot, args->permission);
    return 0;
}

int handle_role_get_by_permission_name_label(struct call *call,
                                             const struct role_get_by_permission_name_label_args *args,
                                             const struct ref_set **result, struct api_err *err)
{
    (void)err;
    *result = roles_with(call->snapshot, role_ref(args->label));
    return 0;
}
