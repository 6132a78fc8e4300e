/* The list of messages is bounded, whoever adds to it: the oldest go first. */
#include "trial.h"

#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <handlers/alert.h>
#include <stdio.h>

#define KEPT 10000

static struct trial_server trial;

static void start(void)
{
    trial_start(&trial);
}

static void stop(void)
{
    trial_stop(&trial);
}

TestSuite(messages, .init = start, .fini = stop, .timeout = 120);

static void add(size_t count, const char *body)
{
    struct tx *tx = store_begin(trial.server.store);
    for (size_t i = 0; i < count; i++)
        alert_add(tx, ALERT_VM_STARTED, CLS_VM, "some", body);
    struct store_err cause;
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
}

struct tally {
    const char *body;
    size_t count;
};

static bool tally_row(const struct row *row, void *arg)
{
    struct tally *tally = arg;
    tally->count += streq(message_row(row)->body, tally->body);
    return true;
}

static size_t count_of(const char *body)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    struct tally tally = {body, 0};
    snapshot_each(snap, CLASS_message, tally_row, &tally);
    return tally.count;
}

static const char *pool_uuid(const struct snapshot *snap)
{
    return pool_row(snapshot_get(snap, CLASS_pool, trial.server.pool_ref))->uuid;
}

Test(messages, the_oldest_make_room)
{
    add(KEPT - 10, "old");
    add(10, "newer");
    cr_assert_eq(count_of("old"), KEPT - 10);
    add(60, "newest");
    cr_assert_eq(count_of("newest"), 60);
    cr_assert_eq(count_of("newer"), 10);
    cr_assert_eq(count_of("old"), KEPT - 70);

    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    struct trial_answer answer;
    trial_call(&trial, trial.root, "message.create",
               json_pack("[sisss]", "NAME", 3, "Pool", pool_uuid(snap), "a client's"), &answer);
    cr_assert_not(answer.failed, "%s", answer.code);
    trial_answer_done(&answer);
    cr_assert_eq(count_of("a client's"), 1);
    cr_assert_eq(count_of("old"), KEPT - 71);
}
