/* Who may do what: every door to a map gives one verdict for a key, and a role that may only read changes
 * nothing, whatever it tries. */
#include "trial.h"

#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/permissions.h>
#include <gate/session.h>
#include <model/args.h>
#include <stdio.h>

static struct trial_server trial;

static void start(void)
{
    trial_start(&trial);
}

static void stop(void)
{
    trial_stop(&trial);
}

TestSuite(roles, .init = start, .fini = stop, .timeout = 120);

static json_t *ref_json(struct ref ref)
{
    return json_string(REF_TEXT(ref));
}

/* A row of the class, made behind the gate's back. */
static struct ref make_row(const struct class_desc *cls)
{
    struct tx *tx = store_begin(trial.server.store);
    struct ref ref = tx_create(tx, cls)->ref;
    struct store_err cause;
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
    return ref;
}

static void set_map(const struct class_desc *cls, struct ref ref, const struct field_desc *field,
                    const struct str_map *moved)
{
    struct tx *tx = store_begin(trial.server.store);
    str_map_assign(row_slot(tx_edit(tx, cls, ref), field), moved);
    struct store_err cause;
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
}

static bool denied(const struct trial_answer *answer)
{
    return answer->failed && streq(answer->code, "RBAC_PERMISSION_DENIED");
}

/* ---- doors to maps ---- */

struct doors {
    const struct method_desc *add, *remove, *set;
};

static const struct method_desc *message(const struct class_desc *cls, const char *prefix, const char *field)
{
    AUTO_FREE char *name = xasprintf("%s.%s%s", cls->name, prefix, field);
    return method_find(name, strlen(name));
}

static struct doors doors_of(const struct field_desc *field)
{
    return (struct doors){message(field->cls, "add_to_", field->name),
                          message(field->cls, "remove_from_", field->name),
                          message(field->cls, "set_", field->name)};
}

enum door { DOOR_ADD, DOOR_REMOVE, DOOR_SET_ADDS, DOOR_SET_REMOVES, DOOR_SET_CHANGES, DOOR_COUNT };

/* Tries one door with one key; the map holds "other" and, where the door needs it, the key. */
static bool is_denied(const struct session *session, const struct field_desc *field,
                      const struct doors *doors, enum door door, struct ref ref, const char *key)
{
    bool there = door == DOOR_REMOVE || door == DOOR_SET_REMOVES || door == DOOR_SET_CHANGES;
    const struct str_pair pairs[] = {{"other", "x"}, {key, "old"}};
    set_map(field->cls, ref, field, str_map_new(pairs, there ? 2 : 1));
    AUTO_ANSWER struct trial_answer answer = {0};
    switch (door) {
    case DOOR_ADD:
        trial_call(&trial, session, doors->add->name, json_pack("[o,s,s]", ref_json(ref), key, "new"),
                   &answer);
        break;
    case DOOR_REMOVE:
        trial_call(&trial, session, doors->remove->name, json_pack("[o,s]", ref_json(ref), key), &answer);
        break;
    case DOOR_SET_REMOVES:
        trial_call(&trial, session, doors->set->name, json_pack("[o,{s:s}]", ref_json(ref), "other", "x"),
                   &answer);
        break;
    case DOOR_SET_ADDS:
    case DOOR_SET_CHANGES:
        trial_call(&trial, session, doors->set->name,
                   json_pack("[o,{s:s,s:s}]", ref_json(ref), "other", "x", key, "new"), &answer);
        break;
    case DOOR_COUNT:
        break;
    }
    if (answer.failed && !denied(&answer))
        cr_assert_fail("%s.%s, door %d, key %s: %s %s", field->cls->name, field->name, door, key, answer.code,
                       answer.params[0]);
    return denied(&answer);
}

/* A key that fits the pattern. */
static char *sample_key(const char *pattern)
{
    size_t len = strlen(pattern);
    if (len && pattern[len - 1] == '*')
        return xasprintf("%.*ssample", (int)len - 1, pattern);
    return xstrdup(pattern);
}

static void check_key(const struct session *sessions[], const struct field_desc *field,
                      const struct doors *doors, const char *key, enum role needed)
{
    struct ref ref = make_row(field->cls);
    for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++)
        for (int door = 0; door < DOOR_COUNT; door++) {
            /* Tasks of others need more than the key does. */
            enum role least =
                field->cls == CLASS_task && needed < ROLE_POOL_OPERATOR ? ROLE_POOL_OPERATOR : needed;
            bool got = is_denied(sessions[role], field, doors, (enum door)door, ref, key);
            cr_assert_eq(got, role < least, "%s.%s, door %d, key %s, role %s: %s", field->cls->name,
                         field->name, door, key, role_name(role), got ? "denied" : "allowed");
        }
}

Test(roles, every_door_to_a_map_gives_one_verdict)
{
    const struct session *sessions[ROLE_POOL_ADMIN + 1];
    struct session *made[ROLE_POOL_ADMIN + 1];
    size_t maps = 0, guarded = 0;
    for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++)
        sessions[role] = made[role] = trial_session(&trial, role);
    for (size_t c = 0; c < model_class_count; c++) {
        const struct class_desc *cls = &model_classes[c];
        if (!cls->row_size || cls->flags & CLASS_REMOVED)
            continue;
        for (size_t f = 0; f < cls->field_count; f++) {
            const struct field_desc *field = &cls->fields[f];
            if (field->type->kind != TYPE_MAP || field->type->key->kind != TYPE_STRING ||
                field->type->item->kind != TYPE_STRING || field->flags & FIELD_REMOVED)
                continue;
            struct doors doors = doors_of(field);
            if (!doors.add || !doors.remove || !doors.set || doors.set->flags & METHOD_REMOVED)
                continue;
            bool built = doors.set->kind == METHOD_SETTER || doors.set->flags & METHOD_HANDLER;
            if (!built || doors.add->kind != METHOD_ADD || doors.remove->kind != METHOD_REMOVE)
                continue;
            maps++;
            check_key(sessions, field, &doors, "unguarded", (enum role)doors.set->role);
            cr_assert_eq(doors.add->role, doors.set->role);
            cr_assert_eq(doors.remove->role, doors.set->role);
            for (size_t k = 0; k < doors.add->key_role_count; k++) {
                AUTO_FREE char *key = sample_key(doors.add->key_roles[k].key);
                check_key(sessions, field, &doors, key, doors.add->key_roles[k].role);
                guarded++;
            }
        }
    }
    cr_assert_gt(maps, 10);
    cr_assert_geq(guarded, 15);
    for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++) {
        session_close(&trial.server, made[role]);
        session_unref(made[role]);
    }
}

Test(roles, a_map_set_to_what_it_is_still_needs_a_role)
{
    struct session *reader = trial_session(&trial, ROLE_READ_ONLY);
    struct ref vm = make_row(CLASS_VM);
    AUTO_ANSWER struct trial_answer answer = {0};
    trial_call(&trial, reader, "VM.set_other_config", json_pack("[o,{}]", ref_json(vm)), &answer);
    cr_assert(denied(&answer));
    session_close(&trial.server, reader);
    session_unref(reader);
}

Test(roles, denial_names_the_permission)
{
    struct session *reader = trial_session(&trial, ROLE_READ_ONLY);
    struct ref vm = make_row(CLASS_VM);
    AUTO_ANSWER struct trial_answer start_answer = {0}, key_answer = {0};
    trial_call(&trial, reader, "VM.start", json_pack("[o,b,b]", ref_json(vm), 0, 0), &start_answer);
    cr_assert(denied(&start_answer));
    cr_assert_str_eq(start_answer.params[0], "vm.start");
    trial_call(&trial, reader, "VM.add_to_other_config", json_pack("[o,s,s]", ref_json(vm), "pci", "x"),
               &key_answer);
    cr_assert_str_eq(key_answer.params[0], "vm.add_to_other_config/key:pci");
    cr_assert(strstr(key_answer.params[1], "pool-admin"));
    cr_assert_null(strstr(key_answer.params[1], "vm-admin"));
    session_close(&trial.server, reader);
    session_unref(reader);
}

/* What a constructor takes for a VM, with these keys in its maps. */
static json_t *vm_record(const char *field, const char *key)
{
    struct row *fresh = row_new(CLASS_VM, REF_NULL);
    json_t *record = json_loads(row_json(fresh)->text, 0, NULL);
    row_unref(fresh);
    json_object_set_new(record, field, json_pack("{s:s}", key, "x"));
    return record;
}

Test(roles, a_constructor_is_a_door_too)
{
    static const struct {
        const char *field, *key;
        enum role least;
    } table[] = {
        {"other_config", "plain", ROLE_VM_ADMIN},    {"other_config", "folder", ROLE_VM_ADMIN},
        {"other_config", "pci", ROLE_POOL_ADMIN},    {"other_config", "hvm_serial", ROLE_POOL_ADMIN},
        {"platform", "hvm_serial", ROLE_POOL_ADMIN}, {"xenstore_data", "pci", ROLE_VM_ADMIN},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++) {
            struct session *session = trial_session(&trial, role);
            AUTO_ANSWER struct trial_answer answer = {0};
            trial_call(&trial, session, "VM.create",
                       json_pack("[o]", vm_record(table[i].field, table[i].key)), &answer);
            cr_assert(!answer.failed || denied(&answer), "%s %s", answer.code, answer.params[0]);
            cr_assert_eq(denied(&answer), role < table[i].least, "%s:%s by %s", table[i].field, table[i].key,
                         role_name(role));
            session_close(&trial.server, session);
            session_unref(session);
        }
}

/* ---- read-only ---- */

static json_t *plausible(const struct type *type, struct ref object, const struct class_desc *cls)
{
    switch (type->kind) {
    case TYPE_STRING:
        return json_string("x");
    case TYPE_INT:
        return json_integer(1);
    case TYPE_FLOAT:
        return json_real(0.0);
    case TYPE_BOOL:
        return json_false();
    case TYPE_DATETIME:
        return json_string("20200101T00:00:00Z");
    case TYPE_ENUM:
        return json_string(type->en->values[0]);
    case TYPE_REF:
        return type->cls == cls ? ref_json(object) : json_string(REF_NULL_TEXT);
    case TYPE_SET:
        return json_array();
    case TYPE_MAP:
    case TYPE_RECORD:
        return json_object();
    case TYPE_VOID:
    case TYPE_OPTION:
        break;
    }
    return json_null();
}

/* Every row of every class on disk as text. */
static bool add_text(const struct row *row, void *arg)
{
    const struct fragment *record = row_json(row);
    buf_add(arg, record->text, record->len);
    return true;
}

/* All that is on disk, but for tasks: everybody may make some, and calls do. */
static char *state_text(void)
{
    struct buf out = BUF_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    for (size_t c = 0; c < model_class_count; c++)
        if (model_classes[c].row_size && (model_classes[c].flags & CLASS_PERSIST) &&
            &model_classes[c] != CLASS_task)
            snapshot_each(snap, &model_classes[c], add_text, &out);
    return buf_take(&out);
}

Test(roles, read_only_tries_everything_and_nothing_changes)
{
    struct session *reader = trial_session(&trial, ROLE_READ_ONLY);
    size_t tried = 0, refused = 0;
    struct ref objects[256];
    for (size_t c = 0; c < model_class_count; c++)
        if (model_classes[c].row_size)
            objects[c] = make_row(&model_classes[c]);
    AUTO_FREE char *before = state_text();
    for (size_t i = 0; i < model_method_count; i++) {
        const struct method_desc *m = &model_methods[i];
        if (m->flags & METHOD_NO_SESSION || streq(m->name, "session.logout"))
            continue;
        json_t *params = json_array();
        for (size_t p = 0; p < m->param_count; p++)
            json_array_append_new(params, plausible(m->params[p].type, objects[m->cls->index], m->cls));
        AUTO_FREE char *async = xasprintf("Async.%s", m->name);
        AUTO_ANSWER struct trial_answer answer = {0}, async_answer = {0};
        if (m->flags & METHOD_ASYNC)
            trial_call(&trial, reader, async, json_deep_copy(params), &async_answer);
        trial_call(&trial, reader, m->name, params, &answer);
        tried++;
        refused += denied(&answer);
        if (m->role > ROLE_READ_ONLY)
            cr_assert(answer.failed, "%s needs %s, but read-only succeeded", m->name,
                      role_name((enum role)m->role));
    }
    cr_assert_gt(tried, 1500);
    cr_assert_gt(refused, 300, "%zu of %zu", refused, tried);
    session_close(&trial.server, reader);
    session_unref(reader);
    worker_pool_stop(trial.server.workers); /* the Async calls end */
    const struct worker_config workers = {
        .name = "work", .threads_min = 1, .threads_max = 1, .queue_max = 10};
    trial.server.workers = worker_pool_new(&workers);
    AUTO_FREE char *after = state_text();
    cr_assert(streq(before, after), "the state changed");
}

/* ---- every message, every role ---- */

/* The role that the model says, for arguments as plausible() makes them: a key that is not guarded, or a
 * whole map that is set to nothing, where the weakest of the keys' roles may go on to be judged key by key.
 */
static enum role role_needed(const struct method_desc *m)
{
    enum role needed = (enum role)m->role;
    if (m->kind == METHOD_SETTER)
        for (size_t i = 0; i < m->key_role_count; i++)
            needed = m->key_roles[i].role < needed ? m->key_roles[i].role : needed;
    return needed;
}

/* Messages that refuse by themselves: only a user with a password here changes it. */
static bool judges_by_itself(const struct method_desc *m)
{
    return streq(m->name, "session.change_password");
}

static bool is_asked(const struct method_desc *m)
{
    const unsigned never = METHOD_NO_SESSION | METHOD_REMOVED | METHOD_POOL_INTERNAL;
    /* Ends the session, or changes files that are not there. */
    static const char *const not_here[] = {"session.logout", "session.local_logout", "pool.rotate_secret"};
    for (size_t i = 0; i < ARRAY_LEN(not_here); i++)
        if (streq(m->name, not_here[i]))
            return false;
    return !(m->flags & never) && !judges_by_itself(m);
}

static json_t *arguments(const struct method_desc *m)
{
    json_t *params = json_array();
    for (size_t p = 0; p < m->param_count; p++) {
        const struct type *type = m->params[p].type;
        if (type->kind == TYPE_RECORD && type->cls->row_size) {
            struct row *fresh = row_new(type->cls, REF_NULL);
            json_array_append_new(params, json_loads(row_json(fresh)->text, 0, NULL));
            row_unref(fresh);
        } else {
            json_array_append_new(params, plausible(type, REF_NULL, NULL));
        }
    }
    return params;
}

static void ask_every_role(const struct method_desc *m, struct session *sessions[], json_t *params)
{
    for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++) {
        AUTO_ANSWER struct trial_answer answer = {0};
        trial_call(&trial, sessions[role], m->name, json_deep_copy(params), &answer);
        bool expected = role < role_needed(m);
        cr_expect_eq(denied(&answer), expected, "%s (needs %s) by %s: %s %s", m->name,
                     role_name(role_needed(m)), role_name(role), answer.failed ? answer.code : "done",
                     answer.param_count ? answer.params[0] : "");
        if (!denied(&answer))
            continue;
        const struct permission *permission = permission_find(answer.params[0]);
        cr_expect(permission || m->role == ROLE_INTERNAL || strstr(answer.params[0], "/key:"),
                  "%s: there is no permission %s", m->name, answer.params[0]);
        if (permission)
            cr_expect_eq(permission->role, (enum role)m->role, "%s", m->name);
    }
}

Test(roles, every_message_by_every_role)
{
    struct session *sessions[ROLE_POOL_ADMIN + 1];
    size_t asked = 0;
    for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++)
        sessions[role] = trial_session(&trial, role);
    for (size_t i = 0; i < model_method_count; i++) {
        if (!is_asked(&model_methods[i]))
            continue;
        json_t *params = arguments(&model_methods[i]);
        ask_every_role(&model_methods[i], sessions, params);
        json_decref(params);
        asked++;
    }
    cr_assert_gt(asked, 2000);
    for (enum role role = ROLE_READ_ONLY; role <= ROLE_POOL_ADMIN; role++) {
        session_close(&trial.server, sessions[role]);
        session_unref(sessions[role]);
    }
}

/* ---- sessions and tasks of others ---- */

Test(roles, tasks_of_others_are_theirs)
{
    struct session *admin = trial_session(&trial, ROLE_VM_ADMIN),
                   *reader = trial_session(&trial, ROLE_READ_ONLY),
                   *operator= trial_session(&trial, ROLE_POOL_OPERATOR);
    AUTO_ANSWER struct trial_answer made = {0};
    trial_call(&trial, admin, "task.create", json_pack("[s,s]", "label", ""), &made);
    cr_assert_not(made.failed, "%s", made.code);
    char ref[REF_TEXT_SIZE];
    snprintf(ref, sizeof(ref), "%.46s", made.json + 1);
    static const char *const messages[] = {"task.cancel", "task.destroy"};
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        AUTO_ANSWER struct trial_answer answer = {0};
        trial_call(&trial, reader, messages[i], json_pack("[s]", ref), &answer);
        cr_assert(denied(&answer), "%s by a stranger: %s", messages[i], answer.code);
    }
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        AUTO_ANSWER struct trial_answer answer = {0};
        trial_call(&trial, i ? admin : operator, messages[i], json_pack("[s]", ref), &answer);
        cr_assert_not(answer.failed, "%s: %s", messages[i], answer.code);
    }
    struct session *all[] = {admin, reader, operator};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        session_close(&trial.server, all[i]);
        session_unref(all[i]);
    }
}
