/* The gate at its edges: calls that are refused before they run, calls within calls, calls that wait, the
 * messages about messages, and what no class has today. */
#include "trial.h"

#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/commits.h>
#include <gate/gate.h>
#include <gate/generic.h>
#include <gate/park.h>
#include <gate/session.h>
#include <gate/system.h>
#include <model/args.h>
#include <model/errors.h>
#include <sched.h>

static struct trial_server trial;

static void start(void)
{
    trial_start(&trial);
}

static void stop(void)
{
    trial_stop(&trial);
}

TestSuite(core, .init = start, .fini = stop, .timeout = 240);

static struct ref make_row(const struct class_desc *cls)
{
    struct tx *tx = store_begin(trial.server.store);
    struct ref ref = tx_create(tx, cls)->ref;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_assert_eq(server_commit(tx, &err), 0);
    return ref;
}

/* The code of a call by root that has this JSON as parameters; "": it succeeded. */
static const char *code_of(const char *method, const char *params, char out[static 64])
{
    AUTO_ANSWER struct trial_answer answer = {0};
    trial_call(&trial, trial.root, method, json_loads(params, 0, NULL), &answer);
    snprintf(out, 64, "%s", answer.failed ? answer.code : "");
    return out;
}

Test(core, logs_name_objects)
{
    struct ref vm = make_row(CLASS_VM), gone = ref_new();
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    const struct vm_row *row = vm_row(snapshot_get(snap, CLASS_VM, vm));
    cr_expect_str_eq(OBJECT_TEXT(&trial.server, CLASS_VM, vm), row->uuid);
    AUTO_FREE char *params = xasprintf("[\"%s\", \"web1\"]", REF_TEXT(vm));
    char code[64];
    cr_assert_str_eq(code_of("VM.set_name_label", params, code), "");
    AUTO_FREE char *named = xasprintf("%s (web1)", row->uuid);
    cr_expect_str_eq(OBJECT_TEXT(&trial.server, CLASS_VM, vm), named);
    cr_expect_str_eq(OBJECT_TEXT(&trial.server, CLASS_VM, gone), REF_TEXT(gone));
}

/* ---- refusals ---- */

Test(core, a_database_that_is_to_go_is_read_and_not_changed)
{
    AUTO_FREE char *name = xasprintf("[\"%s\", \"x\"]", REF_TEXT(make_row(CLASS_VM)));
    AUTO_FREE char *vm = xasprintf("[\"%s\"]", REF_TEXT(make_row(CLASS_VM)));
    AUTO_FREE char *task = xasprintf("[\"%s\"]", REF_TEXT(make_row(CLASS_task)));
    const struct {
        const char *method, *params, *code;
    } table[] = {
        {"VM.set_name_label", name, "HOST_STILL_BOOTING"},
        {"VM.clone", name, "HOST_STILL_BOOTING"},
        {"VM.get_name_label", vm, ""},
        {"VM.get_all_records", "[]", ""},
        {"task.get_status", task, ""},
        {"task.destroy", task, ""},
        {"session.get_all_subject_identifiers", "[]", ""},
    };
    char code[64];
    atomic_store(&trial.server.replaced, true);
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        cr_expect_str_eq(code_of(table[i].method, table[i].params, code), table[i].code, "%s: %s",
                         table[i].method, code);
    atomic_store(&trial.server.replaced, false);
    cr_expect_str_eq(code_of("VM.set_name_label", name, code), "");
}

Test(core, a_change_while_the_server_stops_is_waited_for)
{
    AUTO_FREE char *name = xasprintf("[\"%s\", \"late\"]", REF_TEXT(make_row(CLASS_VM)));
    char code[64];
    commits_close(trial.server.commits);
    cr_expect_str_eq(code_of("VM.set_name_label", name, code), "");
    cr_expect_str_eq(code_of("VM.set_name_label", "[\"OpaqueRef:NULL\", \"x\"]", code), "HANDLE_INVALID");
}

Test(core, what_is_refused_and_in_which_order)
{
    static const struct {
        const char *method, *params; /* without the session when `session` */
        bool session;
        const char *code;
    } table[] = {
        {"VM.get_all", "[]", true, ""},
        {"VM_get_all", "[]", true, ""},
        {"VM.get_all", "[]", false, "MESSAGE_PARAMETER_COUNT_MISMATCH"},
        {"VM.get_all", "[1]", true, "MESSAGE_PARAMETER_COUNT_MISMATCH"},
        {"VM.get_all", "[7]", false, "SESSION_INVALID"},
        {"VM.get_all", "[null]", false, "SESSION_INVALID"},
        {"VM.get_all", "[\"\"]", false, "SESSION_INVALID"},
        {"VM.get_all", "[\"OpaqueRef:NULL\"]", false, "SESSION_INVALID"},
        {"VM.get_all", "[\"OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-000000000000\"]", false, "SESSION_INVALID"},
        {"VM.no_such", "[]", false, "MESSAGE_METHOD_UNKNOWN"},
        {"VM.no_such", "[]", true, "MESSAGE_METHOD_UNKNOWN"},
        {"VM.no_such", "[\"x\"]", false, "SESSION_INVALID"},
        {"Async.VM_start", "[]", true, "MESSAGE_METHOD_UNKNOWN"},
        {"Async.no", "[]", true, "MESSAGE_METHOD_UNKNOWN"},
        {"Async.VM.get_all", "[]", true, "Fault"},
        {"InternalAsync.VM.get_all", "[]", true, "Fault"},
        {"VM.get_record", "[\"OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-000000000000\"]", true, "HANDLE_INVALID"},
        {"VM.get_record", "[5]", true, "INTERNAL_ERROR"},
        {"VM.get_by_uuid", "[\"none\"]", true, "UUID_INVALID"},
        {"VM.get_all_records_where", "[\"field nonsense\"]", true, "INVALID_VALUE"},
        {"VM.set_name_label", "[\"OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-000000000000\",\"x\"]", true,
         "HANDLE_INVALID"},
        {"system.isAlive:x", "[\"x\"]", false, ""},
        {"system.isAlive:x", "[]", false, "MESSAGE_PARAMETER_COUNT_MISMATCH"},
        {"system.listMethods", "[]", false, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_ANSWER struct trial_answer answer = {0};
        trial_call(&trial, table[i].session ? trial.root : NULL, table[i].method,
                   json_loads(table[i].params, 0, NULL), &answer);
        cr_expect_str_eq(answer.failed ? answer.code : "", table[i].code, "%s %s", table[i].method,
                         table[i].params);
    }
}

static void hold(void *arg)
{
    while (!atomic_load((_Atomic bool *)arg))
        sched_yield();
}

/* The server's workers, while they are one thread, which is busy, and one place to wait, which is taken. */
struct crowd {
    struct worker_pool *whole;
    _Atomic bool go;
};

static void crowd_begin(struct crowd *c)
{
    const struct worker_config tiny = {.name = "tiny", .threads_min = 1, .threads_max = 1, .queue_max = 1};
    struct worker_stats stats = {0};
    *c = (struct crowd){.whole = trial.server.workers};
    trial.server.workers = worker_pool_new(&tiny);
    cr_assert_eq(worker_submit(trial.server.workers, hold, &c->go), 0);
    while (stats.busy == 0)
        worker_pool_stats(trial.server.workers, &stats);
    cr_assert_eq(worker_submit(trial.server.workers, hold, &c->go), 0);
}

static void crowd_end(struct crowd *c)
{
    c->go = true;
    worker_pool_stop(trial.server.workers);
    trial.server.workers = c->whole;
}

Test(core, a_full_queue_is_told)
{
    struct crowd crowd;
    crowd_begin(&crowd);
    static const char *const methods[] = {"VM.clone", "Async.VM.destroy"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        AUTO_ANSWER struct trial_answer answer = {0};
        json_t *params = json_pack("[s]", REF_TEXT(make_row(CLASS_VM)));
        if (i == 0)
            json_array_append_new(params, json_string("x"));
        trial_call(&trial, trial.root, methods[i], params, &answer);
        cr_expect_str_eq(answer.code, "INTERNAL_ERROR");
        cr_expect_not_null(strstr(answer.params[0], "too busy"), "%s", answer.params[0]);
    }
    crowd_end(&crowd);
}

/* What changes rows alone is done on the thread that it came in on, unless a transaction is open for long. */
Test(core, a_small_change_needs_no_worker)
{
    struct ref vm = make_row(CLASS_VM);
    AUTO_FREE char *name = xasprintf("[\"%s\", \"x\"]", REF_TEXT(vm));
    char code[64];
    struct crowd crowd;
    crowd_begin(&crowd);
    cr_expect_str_eq(code_of("VM.set_name_label", name, code), "");
    cr_expect_str_eq(code_of("VM.set_name_label", "[\"OpaqueRef:NULL\", \"x\"]", code), "HANDLE_INVALID");
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    cr_expect_str_eq(vm_row(snapshot_get(snap, CLASS_VM, vm))->name_label, "x");
    struct tx *open = store_begin(trial.server.store);
    cr_expect_str_eq(code_of("VM.set_name_label", name, code), "INTERNAL_ERROR", "it is for a worker: %s",
                     code);
    tx_abort(open);
    crowd_end(&crowd);
}

/* ---- calls within calls ---- */

static void drop(struct call *call)
{
    call_free(call);
}

Test(core, a_call_within_a_call)
{
    static const struct {
        const char *method;
        bool weak; /* by who may only read */
        const char *code;
    } table[] = {
        {"VM.get_all", false, ""},
        {"VM.no_such", false, "MESSAGE_METHOD_UNKNOWN"},
        {"VM.destroy", true, "RBAC_PERMISSION_DENIED"},
        {"VM.destroy", false, "HANDLE_INVALID"},
        {"VM.get_all", true, ""},
    };
    AUTO_SESSION struct session *weak = trial_session(&trial, ROLE_READ_ONLY);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err within = API_ERR_INIT, prepared = API_ERR_INIT;
        struct session *session = table[i].weak ? weak : trial.root;
        AUTO_JSON json_t *params =
            strstr(table[i].method, "destroy") ? json_pack("[s]", REF_TEXT(ref_new())) : json_array();
        struct call *parent = call_new(&trial.server, "VM.get_all", params, false, "", drop);
        parent->session = session_ref(session);
        int rc = gate_call_within(parent, table[i].method, params, &within);
        cr_expect_eq(rc, *table[i].code ? -1 : 0, "%s", table[i].method);
        cr_expect_str_eq(rc < 0 ? within.code : "", table[i].code);
        call_free(parent);

        AUTO_JSON json_t *all = json_pack("[s]", REF_TEXT(session->token));
        json_array_extend(all, params);
        struct call *call = call_new(&trial.server, table[i].method, all, false, "", drop);
        bool before_run = *table[i].code && !streq(table[i].code, "HANDLE_INVALID");
        cr_expect_eq(gate_prepare(call, &prepared), before_run ? -1 : 0, "%s", table[i].method);
        call_free(call);
    }
    session_close(&trial.server, weak);
}

Test(core, a_row_that_is_kept_is_the_last_one)
{
    struct ref refs[] = {make_row(CLASS_VM), make_row(CLASS_VM)};
    AUTO_JSON json_t *none = json_array();
    struct call *call = call_new(&trial.server, "VM.get_all", none, false, "", drop);
    for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
        call->snapshot = store_snapshot(trial.server.store);
        call_keep_row(call, snapshot_get(call->snapshot, CLASS_VM, refs[i]));
        cr_assert_null(call->snapshot);
        cr_assert(ref_eq(call->kept_row->ref, refs[i]));
    }
    call_free(call);
}

/* ---- waiting ---- */

struct waiter {
    struct call call;
    _Atomic bool cancel;
    _Atomic int woken;
};

static void wake(void *arg)
{
    struct waiter *waiter = (struct waiter *)((char *)arg - offsetof(struct waiter, call));
    waiter->woken++;
}

static void await(const struct waiter *waiter, const char *what)
{
    int64_t until = clock_mono_ms() + 120000;
    while (!waiter->woken && clock_mono_ms() < until)
        sched_yield();
    cr_assert_eq(waiter->woken, 1, "%s", what);
}

static void park(struct waiter *waiter, struct ref object, int64_t wait_ms)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    waiter->call.cancel = &waiter->cancel;
    waiter->call.task = ref_new();
    const struct parked parked = {.call = &waiter->call,
                                  .resume = wake,
                                  .cls = CLASS_VM,
                                  .object = object,
                                  .generation = snapshot_generation(snap),
                                  .until_ms = clock_mono_ms() + wait_ms};
    cr_assert(parking_add(trial.server.parking, &parked));
}

Test(core, what_wakes_a_call)
{
    struct ref changed = make_row(CLASS_VM), still = make_row(CLASS_VM);
    struct waiter by_change = {0}, by_absence = {0}, by_cancel = {0}, by_time = {0}, by_end = {0};
    const struct class_desc *cls;
    struct ref object;
    park(&by_change, changed, 60000);
    park(&by_cancel, still, 60000);
    by_cancel.call.cancel = NULL; /* it cannot be cancelled: the time is looked at all the same */
    park(&by_time, still, 1);
    park(&by_end, still, 60000);
    cr_assert(parking_find(trial.server.parking, by_end.call.task, &cls, &object));
    cr_assert(cls == CLASS_VM && ref_eq(object, still));
    cr_assert_not(parking_find(trial.server.parking, ref_new(), &cls, &object));
    await(&by_time, "time");
    park(&by_absence, ref_new(), 60000);
    await(&by_absence, "absence");
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(trial.server.store);
    str_assign(&vm_row_mut(tx_edit(tx, CLASS_VM, changed))->name_label, "new");
    cr_assert_eq(server_commit(tx, &err), 0);
    await(&by_change, "change");
    struct waiter cancelled = {0};
    park(&cancelled, still, 60000);
    cancelled.cancel = true;
    await(&cancelled, "cancel");
    parking_stop(trial.server.parking);
    await(&by_end, "end");
    await(&by_cancel, "end");
    struct waiter late = {0};
    const struct parked parked = {.call = &late.call, .resume = wake, .cls = CLASS_VM, .object = still};
    cr_assert_not(parking_add(trial.server.parking, &parked));
    parking_free(trial.server.parking);
    trial.server.parking = parking_new(&trial.server);
}

/* While no worker has room the call stays where it was, in its place. */
Test(core, a_call_is_woken_when_a_worker_has_room)
{
    struct worker_stats stats = {0};
    struct crowd crowd;
    crowd_begin(&crowd);
    struct waiter first = {0}, second = {0};
    park(&first, ref_new(), 60000);
    park(&second, ref_new(), 60000);
    int64_t until = clock_mono_ms() + 120000;
    while (stats.refused < 2 && clock_mono_ms() < until)
        worker_pool_stats(trial.server.workers, &stats);
    cr_assert_geq(stats.refused, 2);
    cr_assert_eq(first.woken + second.woken, 0);
    crowd.go = true;
    await(&first, "first");
    await(&second, "second");
    crowd_end(&crowd);
}

/* ---- what follows from fields, for fields that no message changes one by one today ---- */

static const struct field_desc *field_of(enum rep rep, const struct class_desc **cls)
{
    for (size_t i = 0; i < model_class_count; i++)
        for (size_t k = 0; model_classes[i].row_size && k < model_classes[i].field_count; k++) {
            const struct field_desc *field = &model_classes[i].fields[k];
            if (field->type->rep == rep && !(field->flags & FIELD_DERIVED) && !field->inverse) {
                *cls = &model_classes[i];
                return field;
            }
        }
    return NULL;
}

static int change(enum method_kind kind, const struct class_desc *cls, const struct field_desc *field,
                  const void *args, struct api_err *err)
{
    const struct method_desc method = {.name = "x", .kind = kind, .cls = cls, .field = field};
    struct tx *tx = store_begin(trial.server.store);
    int rc = generic_change(tx, &method, args, err);
    if (rc == 0)
        return server_commit(tx, err);
    tx_abort(tx);
    return rc;
}

static union cell value_of(const struct class_desc *cls, struct ref ref, const struct field_desc *field)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    union cell cell;
    cell_copy(field->type, &cell, row_cell(snapshot_get(snap, cls, ref), field));
    return cell;
}

Test(core, sets_of_references_and_words)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct class_desc *cls;
    const struct field_desc *field = field_of(REP_REF_SET, &cls);
    struct ref self = make_row(cls), target = make_row(field->type->item->cls);
    struct args_pair pair = {.self = self, .key = {.ref = target}};
    cr_assert_eq(change(METHOD_ADD, cls, field, &pair, &err), 0, "%s", err.code);
    union cell cell = value_of(cls, self, field);
    cr_assert(cell.ref_set && cell.ref_set->count == 1);
    struct args_value set = {.self = self, .value = cell};
    cr_assert_eq(change(METHOD_SETTER, cls, field, &set, &err), 0);
    cell_done(field->type, &cell);
    cr_assert_eq(change(METHOD_REMOVE, cls, field, &pair, &err), 0);
    cell = value_of(cls, self, field);
    cr_assert_null(cell.ref_set);
    pair.key.ref = ref_new();
    cr_assert_eq(change(METHOD_ADD, cls, field, &pair, &err), -1); /* names nothing */
    cr_assert_str_eq(err.code, "HANDLE_INVALID");
    set.value.ref_set = ref_set_new(&pair.key.ref, 1);
    cr_assert_eq(change(METHOD_SETTER, cls, field, &set, &err), -1);
    ref_set_unref(set.value.ref_set);

    field = field_of(REP_ENUM_SET, &cls);
    struct args_pair word = {.self = make_row(cls), .key = {.e = 1}};
    cr_assert_eq(change(METHOD_ADD, cls, field, &word, &err), 0);
    cr_assert_eq(change(METHOD_REMOVE, cls, field, &word, &err), 0);
    cr_assert_eq(change(METHOD_REMOVE, cls, field_find(cls, "uuid"), &word, &err), -1);
    cr_assert_eq(change(METHOD_GETTER, cls, field, &word, &err), -1);
    cr_assert_str_eq(err.code, "INTERNAL_ERROR");
}
