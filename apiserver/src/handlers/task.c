/* task.*: tasks made by clients, cancelling, clearing away. */
#include "../gate/task.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../server.h"
#include <base/clock.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

int handle_task_create(struct call *call, const struct task_create_args *args, struct ref *result,
                       struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct task_spec spec = {.label = args->label,
                                   .description = args->description,
                                   .owner = call->session,
                                   .parent = call->claim.parent,
                                   .other_config = call->claim.origin};
    *result = task_create(tx, &spec);
    return server_commit(tx, err);
}

/* One may act on one's own tasks; on those of others with the role. */
static int check_owner(struct call *call, const struct task_row *task, const char *permission,
                       struct api_err *err)
{
    if (task_is_own(task, call->session))
        return 0;
    return roles_require(call->session, ROLE_POOL_OPERATOR, permission, err);
}

int handle_task_cancel(struct call *call, const struct task_cancel_args *args, struct api_err *err)
{
    const struct task_row *task = task_row(snapshot_get(call->snapshot, CLASS_task, args->task));
    if (!task)
        return fail_handle(err, CLASS_task, args->task);
    if (check_owner(call, task, "task.cancel/any", err) < 0)
        return -1;
    task_cancel(call->server, args->task); /* one that is over, or that nobody works on, is no error */
    return 0;
}

int handle_task_destroy(struct call *call, const struct task_destroy_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct task_row *task = task_row(tx_get(tx, CLASS_task, args->self));
    int rc =
        task ? check_owner(call, task, "task.destroy/any", err) : fail_handle(err, CLASS_task, args->self);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    /* The row ends first, the list of running tasks a moment later: a client that saw the end may destroy. */
    if (task_is_pending(task) && task_is_running(call->server->tasks, args->self))
        str_map_put(&task_row_mut(tx_edit(tx, CLASS_task, args->self))->current_operations, "task",
                    "destroy");
    else
        tx_delete(tx, CLASS_task, args->self);
    return server_commit(tx, err);
}

/* A client's change of its own task within a transaction: `edit` gets the row. */
static int edit_task(struct call *call, struct ref self, const char *permission,
                     void (*edit)(struct task_row *task, const void *value), const void *value,
                     struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct task_row *task = task_row(tx_get(tx, CLASS_task, self));
    int rc = task ? check_owner(call, task, permission, err) : fail_handle(err, CLASS_task, self);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    edit(task_row_mut(tx_edit(tx, CLASS_task, self)), value);
    return server_commit(tx, err);
}

static void edit_progress(struct task_row *task, const void *value)
{
    double progress = *(const double *)value;
    task->progress = progress > 0 ? (progress < 1 ? progress : 1) : 0; /* also of what is no number */
}

int handle_task_set_progress(struct call *call, const struct task_set_progress_args *args,
                             struct api_err *err)
{
    return edit_task(call, args->self, "task.set_progress", edit_progress, &args->value, err);
}

static void edit_status(struct task_row *task, const void *value)
{
    task->status = *(const enum task_status_type *)value;
    if (!task_is_pending(task)) {
        task->finished = clock_unix_seconds();
        task->allowed_operations = 0;
    }
}

int handle_task_set_status(struct call *call, const struct task_set_status_args *args, struct api_err *err)
{
    return edit_task(call, args->self, "task.set_status", edit_status, &args->value, err);
}

static void edit_result(struct task_row *task, const void *value)
{
    str_assign(&task->result, value);
}

int handle_task_set_result(struct call *call, const struct task_set_result_args *args, struct api_err *err)
{
    return edit_task(call, args->self, "task.set_result", edit_result, args->value, err);
}

static void edit_error_info(struct task_row *task, const void *value)
{
    const struct str_set *words = value;
    str_set_assign(&task->error_info, words ? str_list_new(words->items, words->count) : NULL);
}

int handle_task_set_error_info(struct call *call, const struct task_set_error_info_args *args,
                               struct api_err *err)
{
    return edit_task(call, args->self, "task.set_error_info", edit_error_info, args->value, err);
}

static void edit_other_config(struct task_row *task, const void *value)
{
    str_map_assign(&task->other_config, str_map_ref(value));
}

int handle_task_set_other_config(struct call *call, const struct args_value *args, struct api_err *err)
{
    return edit_task(call, args->self, "task.set_other_config", edit_other_config, args->value.str_map, err);
}

static void edit_add(struct task_row *task, const void *value)
{
    const struct args_pair *args = value;
    str_map_put(&task->other_config, args->key.str, args->value.str);
}

int handle_task_add_to_other_config(struct call *call, const struct args_pair *args, struct api_err *err)
{
    const struct task_row *task = task_row(snapshot_get(call->snapshot, CLASS_task, args->self));
    if (task && str_map_get(task->other_config, args->key.str))
        return err_map_duplicate_key(err, "task", "other_config", REF_TEXT(args->self), args->key.str);
    return edit_task(call, args->self, "task.add_to_other_config", edit_add, args, err);
}

static void edit_remove(struct task_row *task, const void *value)
{
    str_map_del(&task->other_config, value);
}

int handle_task_remove_from_other_config(struct call *call, const struct args_pair *args, struct api_err *err)
{
    return edit_task(call, args->self, "task.remove_from_other_config", edit_remove, args->key.str, err);
}
