/* user.*: users whose passwords this server keeps. A user comes and goes with a subject, which has the roles.
 */
#include "../gate/accounts.h"
#include "../gate/role_rows.h"
#include "../gate/session.h"
#include "../server.h"
#include <base/mem.h>
#include <base/secret.h>
#include <ctype.h>
#include <handlers.h>
#include <model/errors.h>

#define NAME_BYTES_MAX 255
#define FULLNAME_BYTES_MAX 1024

/* What every place where a name is typed or shown can carry. */
static bool is_good_name(const char *name)
{
    if (!*name || *name == '-' || strlen(name) > NAME_BYTES_MAX || streq(name, "root"))
        return false;
    for (; *name; name++)
        if (iscntrl((unsigned char)*name) || strchr(" /\\:,=\"'", *name))
            return false;
    return true;
}

static bool has_name(const struct row *row, void *arg)
{
    const char **name = arg;
    if (streq(user_row(row)->short_name, *name))
        *name = NULL;
    return *name;
}

struct request {
    const char *name, *fullname;
    const char *hash; /* "": cannot log in */
    const struct str_map *other_config;
    const struct ref_set *roles;
};

static int check(const struct request *request, struct api_err *err)
{
    if (!is_good_name(request->name))
        return err_invalid_value(err, "short_name", request->name);
    if (strlen(request->fullname) > FULLNAME_BYTES_MAX)
        return err_invalid_value(err, "fullname", "longer than 1,024 bytes");
    for (size_t i = 0; request->roles && i < request->roles->count; i++)
        if (role_of_ref(request->roles->items[i]) < 0)
            return err_role_not_found(err);
    return 0;
}

static void add_subject(struct tx *tx, const char *user_uuid, const struct request *request)
{
    AUTO_FREE char *sid = accounts_sid(user_uuid);
    const struct str_pair pairs[] = {
        {"subject-name", request->name},
        {"subject-displayname", *request->fullname ? request->fullname : request->name},
        {"subject-gecos", request->fullname},
        {"subject-is-group", "false"},
        {"subject-sid", sid},
    };
    struct subject_row *subject = subject_row_mut(tx_create(tx, CLASS_subject));
    str_assign(&subject->subject_identifier, sid);
    str_map_assign(&subject->other_config, str_map_new(pairs, ARRAY_LEN(pairs)));
    ref_set_assign(&subject->roles, ref_set_ref(request->roles));
}

static int add_user(struct call *call, const struct request *request, struct ref *result, struct api_err *err)
{
    const char *name = request->name;
    struct tx *tx = store_begin(call->server->store);
    tx_each(tx, CLASS_user, has_name, &name);
    if (!name) {
        tx_abort(tx);
        return err_subject_already_exists(err);
    }
    struct user_row *user = user_row_mut(tx_create(tx, CLASS_user));
    struct ref ref = user->row.ref;
    str_assign(&user->short_name, request->name);
    str_assign(&user->fullname, request->fullname);
    str_assign(&user->password_hash, request->hash);
    str_map_assign(&user->other_config, str_map_ref(request->other_config));
    add_subject(tx, user->uuid, request);
    if (server_commit(tx, err) < 0)
        return -1;
    *result = ref;
    return 0;
}

int handle_user_create(struct call *call, const struct user_row *record, struct ref *result,
                       struct api_err *err)
{
    const struct request request = {.name = record->short_name,
                                    .fullname = record->fullname,
                                    .hash = "",
                                    .other_config = record->other_config};
    if (check(&request, err) < 0)
        return -1;
    return add_user(call, &request, result, err);
}

int handle_user_create_with_password(struct call *call, const struct user_create_with_password_args *args,
                                     struct ref *result, struct api_err *err)
{
    struct request request = {.name = args->short_name, .fullname = args->fullname, .roles = args->roles};
    if (check(&request, err) < 0)
        return -1;
    AUTO_FREE char *hash = secret_hash_password(args->password, strlen(args->password));
    if (!hash)
        return err_change_password_rejected(err, "The password is empty.");
    request.hash = hash;
    return add_user(call, &request, result, err);
}

static bool find_subject(const struct row *row, void *arg)
{
    struct {
        const char *sid;
        struct ref ref;
    } *search = arg;
    if (streq(subject_row(row)->subject_identifier, search->sid))
        search->ref = row->ref;
    return ref_is_null(search->ref);
}

int handle_user_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct user_row *user = user_row(tx_get(tx, CLASS_user, args->self));
    if (!user) {
        tx_abort(tx);
        return fail_handle(err, CLASS_user, args->self);
    }
    AUTO_FREE char *sid = accounts_sid(user->uuid);
    struct {
        const char *sid;
        struct ref ref;
    } search = {sid, REF_NULL};
    tx_each(tx, CLASS_subject, find_subject, &search);
    if (!ref_is_null(search.ref))
        tx_delete(tx, CLASS_subject, search.ref);
    tx_delete(tx, CLASS_user, args->self);
    if (server_commit(tx, err) < 0)
        return -1;
    sessions_close_of(call->server, sid, NULL);
    return 0;
}

int handle_user_set_password(struct call *call, const struct user_set_password_args *args,
                             struct api_err *err)
{
    AUTO_FREE char *hash = secret_hash_password(args->password, strlen(args->password));
    if (!hash)
        return err_change_password_rejected(err, "The password is empty.");
    struct tx *tx = store_begin(call->server->store);
    struct user_row *user = user_row_mut(tx_edit(tx, CLASS_user, args->self));
    if (!user) {
        tx_abort(tx);
        return fail_handle(err, CLASS_user, args->self);
    }
    str_assign(&user->password_hash, hash);
    AUTO_FREE char *sid = accounts_sid(user->uuid);
    if (server_commit(tx, err) < 0)
        return -1;
    sessions_close_of(call->server, sid, call->session);
    return 0;
}
