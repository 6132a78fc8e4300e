/* Sessions: which one goes when there are too many, what their rows tell, and what follows from subjects. */
#include "trial.h"

#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/accounts.h>
#include <gate/permissions.h>
#include <gate/role_rows.h>
#include <gate/session.h>
#include <gate/task.h>
#include <pthread.h>
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

TestSuite(sessions, .init = start, .fini = stop, .timeout = 120);

static struct session *open_as(const char *user, const char *originator)
{
    AUTO_IDENTITY struct identity who = {.user = xstrdup(user), .sid = xstrdup(""), .role = ROLE_READ_ONLY};
    struct session *session;
    struct api_err err = API_ERR_INIT;
    cr_assert_eq(session_open(&trial.server, &who, originator, &session, &err), 0);
    return session;
}

static size_t open_many(struct session **all, size_t count, const char *user, const char *originator)
{
    for (size_t i = 0; i < count; i++)
        all[i] = open_as(user, originator);
    return count;
}

static size_t gone(struct session **all, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += all[i]->gone;
    return n;
}

static void unref_all(struct session **all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        session_unref(all[i]);
}

/* Of a pool of many hosts, whatever order their rows have. */
Test(sessions, sessions_and_tasks_are_the_coordinators)
{
    struct ref hosts[16];
    struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(trial.server.store);
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
        hosts[i] = tx_create(tx, CLASS_host)->ref;
    cr_assert_eq(server_commit(tx, &err), 0);
    for (size_t i = 0; i < 3; i++) {
        tx = store_begin(trial.server.store);
        pool_row_mut(tx_edit(tx, CLASS_pool, trial.server.pool_ref))->master = hosts[i];
        cr_assert_eq(server_commit(tx, &err), 0);
        struct session *session = open_as("user", "app");
        tx = store_begin(trial.server.store);
        const struct task_spec spec = {.label = "a task", .description = "", .owner = session};
        struct ref task = task_create(tx, &spec);
        cr_assert(ref_eq(session_row(tx_get(tx, CLASS_session, session->ref))->this_host, hosts[i]));
        cr_assert(ref_eq(task_row(tx_get(tx, CLASS_task, task))->resident_on, hosts[i]));
        tx_abort(tx);
        session_unref(session);
    }
}

/* Also when all of them were active in the same millisecond: then the order of logins decides. */
Test(sessions, the_oldest_goes_whatever_the_clock_says)
{
    struct session *all[520];
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        all[i] = open_as("crowd", "app");
        all[i]->last_active_ms = 1000;
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        cr_assert_eq((bool)all[i]->gone, i < 20, "session %zu", i);
    unref_all(all, ARRAY_LEN(all));
}

Test(sessions, limits_are_of_one_user_and_originator)
{
    static struct session *mine[500], *others[10], *nobody[410];
    open_many(mine, ARRAY_LEN(mine), "user", "app");
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        others[i] = open_as(i % 2 ? "user" : "another", i % 2 ? "" : "app");
    cr_assert_eq(gone(mine, ARRAY_LEN(mine)), 0);
    cr_assert_eq(gone(others, ARRAY_LEN(others)), 0);
    open_many(nobody, ARRAY_LEN(nobody), "", "");
    cr_assert_eq(gone(nobody, ARRAY_LEN(nobody)), 10);
    unref_all(mine, ARRAY_LEN(mine));
    unref_all(others, ARRAY_LEN(others));
    unref_all(nobody, ARRAY_LEN(nobody));
}

#define THREADS 4
#define EACH 150

static void *open_in_a_thread(void *arg)
{
    open_many(arg, EACH, "user", "app");
    return NULL;
}

Test(sessions, logins_at_the_same_time_end_neither_too_many_nor_too_few)
{
    static struct session *all[THREADS][EACH];
    pthread_t threads[THREADS];
    size_t ended = 0;
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, open_in_a_thread, all[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < THREADS; i++) {
        ended += gone(all[i], EACH);
        unref_all(all[i], EACH);
    }
    cr_assert_eq(ended, THREADS * EACH - 500);
}

static int64_t last_active(const struct session *session)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    return session_row(snapshot_get(snap, CLASS_session, session->ref))->last_active;
}

Test(sessions, activity_is_noted_when_it_is_much_newer)
{
    struct session *session = open_as("user", "app");
    int64_t before = last_active(session);
    session->last_active_ms += 599 * 1000;
    sessions_note_activity(&trial.server, 600 * 1000);
    cr_assert_eq(last_active(session), before);
    session->last_active_ms += 2 * 1000;
    sessions_note_activity(&trial.server, 600 * 1000);
    cr_assert_geq(last_active(session), before + 600);
    session_unref(session);
}

/* ---- subjects ---- */

static struct ref add_subject(const char *sid, const char *role)
{
    struct tx *tx = store_begin(trial.server.store);
    struct subject_row *subject = subject_row_mut(tx_create(tx, CLASS_subject));
    struct ref ref = subject->row.ref, role_row_ref = role ? role_ref(role) : REF_NULL;
    struct store_err cause;
    str_assign(&subject->subject_identifier, sid);
    if (role)
        ref_set_assign(&subject->roles, ref_set_new(&role_row_ref, 1));
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
    return ref;
}

Test(sessions, the_strongest_role_of_user_and_groups_counts)
{
    static const char *const sids[] = {"u", "g1", "g2"};
    const struct str_set *mine = str_set_new(sids, ARRAY_LEN(sids));
    struct ref subject;
    enum role role;
    AUTO_SNAPSHOT struct snapshot *none = store_snapshot(trial.server.store);
    cr_assert_eq(accounts_rights(none, mine, &subject, &role), RIGHTS_NO_SUBJECT);
    add_subject("stranger", "pool-admin");
    struct ref without = add_subject("u", NULL);
    AUTO_SNAPSHOT struct snapshot *one = store_snapshot(trial.server.store);
    cr_assert_eq(accounts_rights(one, mine, &subject, &role), RIGHTS_NO_ROLE);
    cr_assert(ref_eq(subject, without));
    add_subject("g1", "vm-operator");
    struct ref strongest = add_subject("g2", "pool-operator");
    AUTO_SNAPSHOT struct snapshot *all = store_snapshot(trial.server.store);
    cr_assert_eq(accounts_rights(all, mine, &subject, &role), RIGHTS_SOME);
    cr_assert_eq(role, ROLE_POOL_OPERATOR);
    cr_assert(ref_eq(subject, strongest));
    str_set_unref(mine);
}

/* The rights that a login found may be gone before its session is there. */
Test(sessions, a_session_that_comes_too_late_for_its_rights_is_no_session)
{
    static const char *const sids[] = {"u"};
    struct ref subject = add_subject("u", "pool-admin");
    struct session *session;
    struct api_err err = API_ERR_INIT;
    AUTO_IDENTITY struct identity who = {.user = xstrdup("u"),
                                         .sid = xstrdup("u"),
                                         .sids = str_set_new(sids, 1),
                                         .role = ROLE_POOL_ADMIN,
                                         .subject = subject};
    struct tx *tx = store_begin(trial.server.store);
    tx_delete(tx, CLASS_subject, subject);
    struct store_err cause;
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
    cr_assert_eq(session_open(&trial.server, &who, "app", &session, &err), 0);
    cr_assert(session->gone);
    session_unref(session);
}

/* ---- roles as rows ---- */

static uint64_t generation(void)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    return snapshot_generation(snap);
}

static bool count_role(const struct row *row, void *arg)
{
    *(size_t *)arg += row->cls == CLASS_role;
    return true;
}
static bool count_gone_role(const struct store_tombstone *gone_row, void *arg)
{
    *(size_t *)arg += gone_row->cls == CLASS_role;
    return true;
}
static size_t roles_changed_since(uint64_t since)
{
    size_t count = 0;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    snapshot_changes(snap, since, count_role, count_gone_role, &count);
    return count;
}

static void bring_up_to_date(void)
{
    struct tx *tx = store_begin(trial.server.store);
    struct store_err cause;
    role_rows_bootstrap(tx);
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
}

Test(sessions, roles_are_written_once_and_put_right_after_an_upgrade)
{
    uint64_t before = generation();
    bring_up_to_date();
    cr_assert_eq(roles_changed_since(before), 0);

    struct tx *tx = store_begin(trial.server.store);
    struct store_err cause;
    str_assign(&role_row_mut(tx_edit(tx, CLASS_role, role_ref("vm.start")))->name_description, "old");
    tx_delete(tx, CLASS_role, role_ref("vm.clone"));
    struct role_row *stale = role_row_mut(tx_create(tx, CLASS_role));
    str_assign(&stale->name_label, "vm.no_such_message");
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
    before = generation();
    bring_up_to_date();
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    size_t permissions;
    permissions_all(&permissions);
    cr_assert_eq(snapshot_count(snap, CLASS_role), permissions + 7);
    cr_assert(snapshot_get(snap, CLASS_role, role_ref("vm.clone")));
    cr_assert_leq(roles_changed_since(before), 10);
    before = generation();
    bring_up_to_date();
    cr_assert_eq(roles_changed_since(before), 0);
}
