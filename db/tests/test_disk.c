/* The store on SQLite: what is kept over a restart, what is refused, layout and migrations. */
#include "engine.h"
#include "fixture.h"
#include "page_sums.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

struct place {
    char folder[64];
    char path[96];
};

static struct place place_make(void)
{
    struct place place;
    fixture_folder(place.folder);
    snprintf(place.path, sizeof(place.path), "%s/pool.db", place.folder);
    return place;
}

static void sql(const char *path, const char *text)
{
    sqlite3 *db;
    char *error = NULL;
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, &error), SQLITE_OK, "%s", error);
    sqlite3_close(db);
    page_sums_renew(path); /* false: it is no store's file */
}

/* The first column of the first row, as text; the caller frees it. */
static char *sql_text(const char *path, const char *text)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    cr_assert_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(db, text, -1, &stmt, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_step(stmt), SQLITE_ROW);
    char *value = xstrdup((const char *)sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

static void expect_sql(const char *path, const char *query, const char *expected)
{
    AUTO_FREE char *value = sql_text(path, query);
    cr_assert_str_eq(value, expected, "%s: %s", query, value);
}

static enum store_errno open_error(const char *path, int schema_version)
{
    struct store_config config = fixture_config();
    config.path = path;
    config.schema_version = schema_version;
    struct store *store;
    struct store_err err;
    cr_assert_eq(store_open(&store, &config, &err), -1);
    cr_assert_not_null(strstr(err.text, path), "%s", err.text);
    return err.code;
}

Test(disk, every_kind_of_value_survives_and_is_readable_with_other_tools)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref disk = tx_create(tx, DISK)->ref, other = tx_create(tx, DISK)->ref;
    struct kind_row *kind = AS(kind, tx_create(tx, KIND));
    struct ref ref = kind->row.ref, untouched = tx_create(tx, KIND)->ref;
    str_assign(&kind->uuid, "u");
    kind->flag = false;
    kind->number = INT64_MIN;
    kind->date = 1742357784;
    kind->real = 0.1;
    kind->colour = GREEN;
    str_assign(&kind->text, "quote ' and \"\n\t\xc3\xa4 \\");
    kind->other = disk;
    str_set_assign(&kind->words, str_set_new((const char *[]){"b", "a\"b", ""}, 3));
    str_set_assign(&kind->numbers, str_set_new((const char *[]){"10", "-2"}, 2));
    kind->others = ref_set_new((struct ref[]){disk, other}, 2);
    kind->colours = 1 << BLUE | 1 << RED;
    str_map_put(&kind->pairs, "key", "value \"x\"");
    str_map_put(&kind->counts, "n", "42");
    kind->nested = json_pack("{s:[s,s]}", "1", "x", "y");
    uint64_t generation = fixture_commit(tx);
    struct snapshot *snap = store_snapshot(store);
    AUTO_FREE char *before = xstrdup(row_json(snapshot_get(snap, KIND, ref))->text);
    AUTO_FREE char *initial = xstrdup(row_json(snapshot_get(snap, KIND, untouched))->text);
    snapshot_unref(snap);
    store_close(store);

    expect_sql(place.path, "SELECT date FROM kind WHERE uuid='u'", "2025-03-19T04:16:24Z");
    expect_sql(place.path, "SELECT datetime(date) FROM kind WHERE uuid='u'", "2025-03-19 04:16:24");
    expect_sql(place.path, "SELECT number FROM kind WHERE uuid='u'", "-9223372036854775808");
    expect_sql(place.path, "SELECT colour FROM kind WHERE uuid='u'", "Green");
    expect_sql(place.path, "SELECT flag FROM kind WHERE uuid='u'", "0");
    expect_sql(place.path, "SELECT json_extract(words, '$[1]') FROM kind WHERE uuid='u'", "a\"b");
    expect_sql(place.path, "SELECT json_extract(counts, '$.n') FROM kind WHERE uuid='u'", "42");
    expect_sql(place.path, "SELECT colours FROM kind WHERE uuid='u'", "[\"red\",\"blue\"]");
    expect_sql(place.path, "SELECT count(*) FROM kind JOIN disk ON kind.other = disk._ref", "1");

    store = fixture_open(place.path);
    snap = store_snapshot(store);
    const struct row *row = snapshot_get(snap, KIND, ref);
    cr_assert_str_eq(row_json(row)->text, before);
    cr_assert_str_eq(row_json(snapshot_get(snap, KIND, untouched))->text, initial);
    cr_assert_eq(row->generation, generation);
    cr_assert_eq(row->created, generation);
    cr_assert_eq(snapshot_by_uuid(snap, KIND, "u"), row);
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
    fixture_remove(place.folder);
}

Test(disk, numbers_and_dates_at_their_ends)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    static const double reals[] = {0.0, -0.0, 1e308, 5e-324, INFINITY, -INFINITY, NAN, 12};
    static const int64_t dates[] = {0, -62167219200, 253402300799, INT64_MAX, INT64_MIN, -1, 1, 253402300800};
    struct ref refs[ARRAY_LEN(reals)];
    struct tx *tx = store_begin(store);
    for (size_t i = 0; i < ARRAY_LEN(reals); i++) {
        struct kind_row *kind = AS(kind, tx_create(tx, KIND));
        kind->real = reals[i];
        kind->date = dates[i];
        refs[i] = kind->row.ref;
    }
    fixture_commit(tx);
    store_close(store);
    store = fixture_open(place.path);
    struct snapshot *snap = store_snapshot(store);
    for (size_t i = 0; i < ARRAY_LEN(reals); i++) {
        struct kind_row *kind = AS(kind, snapshot_get(snap, KIND, refs[i]));
        cr_assert(isnan(reals[i]) ? isnan(kind->real) : kind->real == reals[i], "%g", reals[i]);
        cr_assert_eq(kind->date, dates[i]);
    }
    snapshot_unref(snap);
    store_close(store);
    fixture_remove(place.folder);
}

Test(disk, relations_are_whole_after_a_restart_and_runtime_parts_are_new)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref disk = tx_create(tx, DISK)->ref, group = tx_create(tx, GROUP)->ref;
    struct ref job = tx_create(tx, JOB)->ref, link = tx_create(tx, LINK)->ref;
    struct guest_row *guest = AS(guest, tx_create(tx, GUEST));
    struct ref ref = guest->row.ref;
    guest->running = true;
    guest->home = disk;
    guest->job = job;
    guest->groups = ref_set_new(&group, 1);
    AS(link, tx_edit(tx, LINK, link))->guest = ref;
    AS(link, tx_edit(tx, LINK, link))->disk = disk;
    uint64_t token = fixture_commit(tx);
    store_close(store);
    store = fixture_open(place.path);
    fixture_check(store);
    struct snapshot *snap = store_snapshot(store);
    guest = AS(guest, snapshot_get(snap, GUEST, ref));
    cr_assert(!guest->running);
    cr_assert(ref_is_null(guest->job), "its row was in memory only");
    cr_assert(ref_eq(guest->home, disk));
    cr_assert(ref_set_has(guest->links, link));
    cr_assert(ref_set_has(AS(group, snapshot_get(snap, GROUP, group))->guests, ref));
    cr_assert_null(snapshot_get(snap, JOB, job));
    cr_assert_gt(guest->row.generation, token, "readers hear of the reset");
    cr_assert_eq(snapshot_get(snap, DISK, disk)->generation, token, "and of nothing else");
    cr_assert_gt(snapshot_oldest_token_of(snap, JOB), token);
    cr_assert_leq(snapshot_oldest_token_of(snap, GUEST), token);
    cr_assert_leq(snapshot_oldest_token_of(snap, ERRAND), token);
    snapshot_unref(snap);
    store_close(store);
    fixture_remove(place.folder);
}

Test(disk, lazy_rows_may_have_been_lost_when_the_machine_was_started_anew)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    tx_create(tx, ERRAND);
    tx_create(tx, DISK);
    uint64_t token = fixture_commit(tx);
    store_close(store);
    sql(place.path, "UPDATE _meta SET value = value + 1 WHERE key = 'boot'");
    for (int start = 0; start < 2; start++) {
        store = fixture_open(place.path);
        struct snapshot *snap = store_snapshot(store);
        cr_assert_leq(snapshot_oldest_token_of(snap, DISK), token);
        if (start == 0) {
            cr_assert_gt(snapshot_oldest_token_of(snap, ERRAND), token);
            token = snapshot_generation(snap);
        } else {
            cr_assert_leq(snapshot_oldest_token_of(snap, ERRAND), token);
        }
        snapshot_unref(snap);
        store_close(store);
    }
    fixture_remove(place.folder);
}

Test(disk, a_reference_that_dangles_in_the_file_is_null_and_counts_as_changed)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref ref = tx_create(tx, DISK)->ref;
    uint64_t token = fixture_commit(tx);
    store_close(store);
    sql(place.path, "UPDATE disk SET parent = 'OpaqueRef:11111111-2222-4333-8444-555555555555'");
    store = fixture_open(place.path);
    struct snapshot *snap = store_snapshot(store);
    cr_assert(ref_is_null(AS(disk, snapshot_get(snap, DISK, ref))->parent));
    cr_assert_gt(snapshot_get(snap, DISK, ref)->generation, token);
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
    fixture_remove(place.folder);
}

Test(disk, a_change_of_a_derived_set_alone_is_not_lost_to_readers)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref disk = tx_create(tx, DISK)->ref;
    uint64_t token = fixture_commit(tx);
    tx = store_begin(store);
    AS(link, tx_create(tx, LINK))->disk = disk;
    uint64_t linked = fixture_commit(tx);
    store_close(store);
    store = fixture_open(place.path);
    struct snapshot *snap = store_snapshot(store);
    cr_assert_eq(snapshot_get(snap, DISK, disk)->generation, linked);
    cr_assert_eq(snapshot_get(snap, DISK, disk)->created, token);
    snapshot_unref(snap);
    store_close(store);
    fixture_remove(place.folder);
}

static void make_many(struct store *store, int count)
{
    struct tx *tx = store_begin(store);
    struct ref parent = tx_create(tx, DISK)->ref;
    for (int i = 1; i < count; i++) {
        struct disk_row *disk = AS(disk, tx_create(tx, DISK));
        disk->size = i;
        disk->parent = parent;
    }
    fixture_commit(tx);
}

static bool add_size(const struct row *row, void *arg)
{
    *(int64_t *)arg += AS(disk, row)->size;
    return true;
}

Test(disk, a_large_table_is_read_in_pieces)
{
    enum { COUNT = 45000 };
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    make_many(store, COUNT);
    store_close(store);
    for (int round = 0; round < 2; round++) {
        store = fixture_open(place.path);
        struct snapshot *snap = store_snapshot(store);
        int64_t sum = -7; /* the parent's */
        snapshot_each(snap, DISK, add_size, &sum);
        cr_assert_eq(snapshot_count(snap, DISK), COUNT + (size_t)round);
        cr_assert_eq(sum, (int64_t)COUNT * (COUNT - 1) / 2);
        snapshot_unref(snap);
        store_close(store);
        /* Row numbers far apart, also negative ones. */
        if (round == 0)
            sql(place.path, "UPDATE disk SET rowid = rowid * 200000000000000 WHERE rowid > 100;"
                            "INSERT INTO disk (rowid, _ref, _created, _generation, size) VALUES "
                            "(-5, 'OpaqueRef:11111111-2222-4333-8444-555555555555', 1, 1, 0)");
    }
    fixture_remove(place.folder);
}

Test(disk, generations_grow_over_restarts)
{
    struct place place = place_make();
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        struct store *store = fixture_open(place.path);
        struct tx *tx = store_begin(store);
        tx_create(tx, i % 2 ? JOB : DISK); /* also when nothing but memory changes */
        uint64_t generation = fixture_commit(tx);
        cr_assert_gt(generation, last);
        last = generation;
        store_close(store);
    }
    fixture_remove(place.folder);
}

static void copy_of(const char *from, const char *to)
{
    size_t len;
    AUTO_FREE char *data = file_read(from, 64 << 20, &len);
    cr_assert(data && file_write_atomic(to, data, len, 0600) == 0, "%s", from);
}

static uint64_t add_one(struct store *store)
{
    struct tx *tx = store_begin(store);
    tx_create(tx, DISK);
    return fixture_commit(tx);
}

/* Whether a reader who has seen `token` may go on. */
static bool token_is_good(struct store *store, uint64_t token)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    return token >= snapshot_oldest_token_of(snap, DISK) && token < snapshot_generation(snap);
}

static size_t count_of(struct store *store)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    return snapshot_count(snap, DISK);
}

Test(disk, an_older_copy_is_noticed_and_no_token_from_before_is_good)
{
    struct place place = place_make();
    AUTO_FREE char *ended = xasprintf("%s.ended", place.path), *live = xasprintf("%s.live", place.path);
    struct store_err err;
    struct store *store = fixture_open(place.path);
    add_one(store);
    store_close(store);
    copy_of(place.path, ended);
    store = fixture_open(place.path);
    cr_assert_eq(store_copy_file(place.path, live, &err), 0, "%s", err.text);
    uint64_t token = add_one(store);
    store_close(store);
    const char *const copies[] = {live, ended};
    for (size_t i = 0; i < ARRAY_LEN(copies); i++) {
        store = fixture_open(place.path);
        cr_expect(token_is_good(store, token), "the file itself was taken for a copy");
        store_close(store);
        copy_of(copies[i], place.path);
        store = fixture_open(place.path);
        cr_expect_not(token_is_good(store, token), "copy %zu was not noticed", i);
        fixture_check(store);
        uint64_t later = add_one(store);
        cr_expect_gt(later, token);
        token = later;
        store_close(store);
    }
    fixture_remove(place.folder);
}

/* Also while the old one is open, and with the log that a killed process leaves. */
Test(disk, another_file_that_is_offered_takes_the_place_of_this_one)
{
    struct place place = place_make();
    AUTO_FREE char *fresh = xasprintf("%s-fresh", place.path), *kept = xasprintf("%s-replaced", place.path);
    struct store_err err;
    struct store *old = fixture_open(place.path);
    for (int i = 0; i < 3; i++)
        add_one(old);
    uint64_t token = add_one(old);
    cr_assert_eq(store_offer_file(place.path, fresh, &err), -1);
    cr_expect_eq(err.code, STORE_E_IO);
    struct store *store = fixture_open(fresh);
    add_one(store);
    store_close(store);
    cr_assert_eq(store_offer_file(place.path, fresh, &err), 0, "%s", err.text);
    cr_expect_gt(add_one(old), token, "who has it open goes on");
    AUTO_FREE char *log = xasprintf("%s-wal", place.path), *log_copy = xasprintf("%s-log", place.path);
    copy_of(log, log_copy);
    store_close(old);
    cr_assert_eq(rename(log_copy, log), 0);
    store = fixture_open(place.path);
    cr_expect_eq(count_of(store), 1);
    cr_expect_not(token_is_good(store, token));
    cr_expect_gt(add_one(store), token);
    fixture_check(store);
    store_close(store);
    store = fixture_open(kept);
    cr_expect_eq(count_of(store), 5, "the old one is kept whole");
    store_close(store);
    store = fixture_open(place.path);
    cr_expect_eq(count_of(store), 2, "an offer is taken once");
    store_close(store);
    fixture_remove(place.folder);
}

/* What a process that was killed has left is no older copy. */
Test(disk, a_file_that_was_not_closed_is_no_older_copy)
{
    static const char *const parts[] = {"", "-wal", "-newest"};
    struct place place = place_make(), killed = place_make();
    struct store *store = fixture_open(place.path);
    uint64_t token = add_one(store);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        AUTO_FREE char *from = xasprintf("%s%s", place.path, parts[i]),
                       *to = xasprintf("%s%s", killed.path, parts[i]);
        copy_of(from, to);
    }
    store_close(store);
    store = fixture_open(killed.path);
    cr_expect(token_is_good(store, token));
    store_close(store);
    fixture_remove(place.folder);
    fixture_remove(killed.folder);
}

static int commit_one(struct store *store, struct store_err *err)
{
    struct tx *tx = store_begin(store);
    tx_create(tx, GUEST);
    return tx_commit(tx, NULL, err);
}

/* A file without its content is no new one, and what goes into one that was removed is not promised. */
Test(disk, a_file_that_is_gone_is_told)
{
    static const char *const parts[] = {"", "-wal"};
    struct place place = place_make();
    struct store_err err;
    struct store *store = fixture_open(place.path);
    add_one(store);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        AUTO_FREE char *path = xasprintf("%s%s", place.path, parts[i]), *away = xasprintf("%s.away", path);
        cr_assert_eq(rename(path, away), 0);
        cr_expect_eq(commit_one(store, &err), -1);
        cr_expect_eq(err.code, STORE_E_IO, "%s", err.text);
        cr_assert_eq(rename(away, path), 0);
        cr_expect_eq(commit_one(store, &err), 0, "%s", err.text);
    }
    store_close(store);
    cr_assert_eq(truncate(place.path, 0), 0);
    cr_expect_eq(open_error(place.path, 3), STORE_E_CORRUPT);
    cr_assert_eq(unlink(place.path), 0);
    cr_expect_eq(open_error(place.path, 3), STORE_E_CORRUPT);
    AUTO_FREE char *note = xasprintf("%s-newest", place.path);
    cr_assert_eq(unlink(note), 0);
    store = fixture_open(place.path);
    cr_expect_eq(count_of(store), 0, "as the message says");
    store_close(store);
    fixture_remove(place.folder);
}

Test(disk, changes_of_runtime_parts_alone_cost_no_writing)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref guest = tx_create(tx, GUEST)->ref;
    fixture_commit(tx);
    AUTO_FREE char *wal = xasprintf("%s-wal", place.path);
    struct stat before, after;
    cr_assert_eq(stat(wal, &before), 0);
    for (int i = 0; i < 20; i++) {
        tx = store_begin(store);
        AS(guest, tx_edit(tx, GUEST, guest))->running ^= true;
        struct ref job = tx_create(tx, JOB)->ref;
        AS(job, tx_edit(tx, JOB, job))->guest = guest;
        fixture_commit(tx);
    }
    cr_assert_eq(stat(wal, &after), 0);
    cr_assert_eq(after.st_size, before.st_size);
    cr_assert_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    fixture_check(store);
    store_close(store);
    fixture_remove(place.folder);
}

Test(disk, tombstones_survive)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref disk = tx_create(tx, DISK)->ref;
    uint64_t token = fixture_commit(tx);
    tx = store_begin(store);
    tx_delete(tx, DISK, disk);
    fixture_commit(tx);
    store_close(store);
    store = fixture_open(place.path);
    fixture_check(store);
    struct snapshot *snap = store_snapshot(store);
    cr_assert_lt(snapshot_oldest_token_of(snap, DISK), token);
    cr_assert_eq(snapshot_count(snap, DISK), 0);
    snapshot_unref(snap);
    store_close(store);
    expect_sql(place.path, "SELECT class FROM _tombstone", "disk");
    fixture_remove(place.folder);
}

Test(disk, forgotten_tombstones_leave_the_file_too)
{
    struct place place = place_make();
    struct store_config config = fixture_config();
    config.path = place.path;
    config.max_tombstones = 10;
    struct store *store;
    struct store_err err;
    cr_assert_eq(store_open(&store, &config, &err), 0, "%s", err.text);
    for (int i = 0; i < 30; i++) {
        struct tx *tx = store_begin(store);
        struct ref ref = tx_create(tx, DISK)->ref;
        fixture_commit(tx);
        tx = store_begin(store);
        tx_delete(tx, DISK, ref);
        fixture_commit(tx);
    }
    struct snapshot *snap = store_snapshot(store);
    uint64_t oldest = snapshot_oldest_token_of(snap, DISK);
    snapshot_unref(snap);
    store_close(store);
    AUTO_FREE char *count = sql_text(place.path, "SELECT count(*) FROM _tombstone");
    cr_assert(atoi(count) >= 10 && atoi(count) <= 12, "%s", count);
    cr_assert_eq(store_open(&store, &config, &err), 0, "%s", err.text);
    snap = store_snapshot(store);
    cr_assert_eq(snapshot_oldest_token_of(snap, DISK), oldest);
    snapshot_unref(snap);
    fixture_check(store);
    store_close(store);
    fixture_remove(place.folder);
}

/* ---- the file ---- */

Test(file, only_its_owner_may_read_it)
{
    struct place place = place_make();
    umask(0);
    struct store *store = fixture_open(place.path);
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        AUTO_FREE char *path = xasprintf("%s%s", place.path, suffixes[i]);
        struct stat st;
        cr_assert_eq(stat(path, &st), 0);
        cr_assert_eq(st.st_mode & 0777, 0600, "%s", path);
    }
    store_close(store);
    fixture_remove(place.folder);
}

Test(file, that_others_could_read_is_closed_to_them)
{
    struct place place = place_make();
    store_close(fixture_open(place.path));
    chmod(place.path, 0644);
    store_close(fixture_open(place.path));
    struct stat st;
    cr_assert_eq(stat(place.path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    fixture_remove(place.folder);
}

Test(file, a_second_opener_is_refused)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    cr_assert_eq(open_error(place.path, 3), STORE_E_BUSY);
    expect_sql(place.path, "SELECT count(*) FROM disk", "0"); /* but a person may look */
    store_close(store);
    store = fixture_open(place.path);
    store_close(store);
    fixture_remove(place.folder);
}

Test(file, of_a_newer_version_is_refused)
{
    struct place place = place_make();
    store_close(fixture_open(place.path));
    cr_assert_eq(open_error(place.path, 2), STORE_E_NEWER);
    store_close(fixture_open(place.path));
    fixture_remove(place.folder);
}

Test(file, that_is_not_ours_is_refused_and_left_alone)
{
    struct place place = place_make();
    sql(place.path, "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    cr_assert_eq(open_error(place.path, 3), STORE_E_CORRUPT);
    expect_sql(place.path, "SELECT count(*) FROM sqlite_schema", "1");
    unlink(place.path);
    FILE *text = fopen(place.path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is not a database at all\n", text);
    fclose(text);
    cr_assert_eq(open_error(place.path, 3), STORE_E_CORRUPT);
    unlink(place.path);
    mkdir(place.path, 0700);
    cr_assert_eq(open_error(place.path, 3), STORE_E_IO);
    rmdir(place.path);
    fixture_remove(place.folder);
}

static void fill(const char *path)
{
    struct store *store = fixture_open(path);
    struct tx *tx = store_begin(store);
    for (int i = 0; i < 500; i++) {
        struct row *row = tx_create(tx, GUEST);
        str_map_put(&AS(guest, row)->other_config, "key", "a value of some length, to fill pages");
    }
    fixture_commit(tx);
    store_close(store);
}

Test(file, damage_is_told)
{
    struct place place = place_make();
    fill(place.path);
    int fd = open(place.path, O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);
    char noise[4096];
    memset(noise, 0x5a, sizeof(noise));
    for (off_t at = 8 * 4096; at < size; at += 5 * 4096)
        cr_assert_eq(pwrite(fd, noise, sizeof(noise), at), sizeof(noise));
    close(fd);
    cr_assert_eq(open_error(place.path, 3), STORE_E_CORRUPT);
    fixture_remove(place.folder);
}

Test(file, values_that_are_not_of_their_type_are_told)
{
    static const char *const wrong[] = {
        "UPDATE guest SET other_config = '{\"a\":'", "UPDATE guest SET other_config = '[]x'",
        "UPDATE guest SET home = 'nothing'",         "UPDATE guest SET _ref = 'OpaqueRef:NULL' WHERE rowid=1",
        "UPDATE guest SET _generation = 0",          "UPDATE guest SET name_label = x'00'",
        "UPDATE guest SET favourites = '[\"x\"]'",
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct place place = place_make();
        fill(place.path);
        sql(place.path, wrong[i]);
        cr_assert_eq(open_error(place.path, 3), STORE_E_CORRUPT, "%s", wrong[i]);
        fixture_remove(place.folder);
    }
}

/* ---- older files ---- */

Test(older, missing_tables_and_columns_are_added_with_their_initial_values)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref ref = tx_create(tx, KIND)->ref;
    fixture_commit(tx);
    store_close(store);
    sql(place.path, "DROP TABLE \"group\"; ALTER TABLE kind DROP COLUMN text; ALTER TABLE kind DROP COLUMN "
                    "colours; ALTER TABLE kind DROP COLUMN date; ALTER TABLE kind DROP COLUMN number;"
                    "ALTER TABLE kind ADD COLUMN retired TEXT NOT NULL DEFAULT 'x'; PRAGMA user_version = 2");
    store = fixture_open(place.path);
    struct snapshot *snap = store_snapshot(store);
    struct kind_row *kind = AS(kind, snapshot_get(snap, KIND, ref));
    cr_assert_str_eq(kind->text, "it's \"new\"");
    cr_assert_eq(kind->colours, 5);
    cr_assert_eq(kind->date, 86400);
    cr_assert_eq(kind->number, -3);
    snapshot_unref(snap);
    tx = store_begin(store);
    tx_create(tx, GROUP);
    tx_create(tx, KIND);
    fixture_commit(tx);
    store_close(store);
    expect_sql(place.path, "PRAGMA user_version", "3");
    fixture_remove(place.folder);
}

Test(older, explicit_steps_run_once_and_in_order)
{
    static const struct migration steps[] = {
        {2, "UPDATE disk SET name_label = 'not run: the file is newer'"},
        {4, "UPDATE disk SET name_label = name_label || '+4'"},
        {5, "UPDATE disk SET name_label = name_label || '+5'"},
        {7, "UPDATE disk SET name_label = 'not run: for a later version'"},
    };
    struct sqlite_options options = {.migrations = steps, .migration_count = ARRAY_LEN(steps)};
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref ref = tx_create(tx, DISK)->ref;
    str_assign(&AS(disk, tx_edit(tx, DISK, ref))->name_label, "d");
    fixture_commit(tx);
    store_close(store);
    for (int i = 0; i < 2; i++) {
        struct engine *engine;
        struct store_err err;
        struct store_config config = fixture_config();
        config.schema_version = 6;
        cr_assert_eq(engine_sqlite_open(&engine, place.path, &options, &err), 0);
        cr_assert_eq(store_open_engine(&store, &config, engine, &err), 0, "%s", err.text);
        struct snapshot *snap = store_snapshot(store);
        cr_assert_str_eq(AS(disk, snapshot_get(snap, DISK, ref))->name_label, "d+4+5");
        snapshot_unref(snap);
        store_close(store);
    }
    fixture_remove(place.folder);
}

Test(older, a_step_that_fails_leaves_the_file_as_it_was)
{
    static const struct migration steps[] = {
        {4, "UPDATE disk SET name_label = 'half'"},
        {5, "UPDATE nowhere SET x = 1"},
    };
    struct sqlite_options options = {.migrations = steps, .migration_count = ARRAY_LEN(steps)};
    struct place place = place_make();
    store_close(fixture_open(place.path));
    sql(place.path, "INSERT INTO disk (_ref, _created, _generation, uuid) VALUES "
                    "('OpaqueRef:11111111-2222-4333-8444-555555555555', 1, 1, 'u')");
    struct engine *engine;
    struct store_err err;
    struct store *store;
    struct store_config config = fixture_config();
    config.schema_version = 6;
    cr_assert_eq(engine_sqlite_open(&engine, place.path, &options, &err), 0);
    cr_assert_eq(store_open_engine(&store, &config, engine, &err), -1);
    expect_sql(place.path, "SELECT name_label FROM disk", "");
    store_close(fixture_open(place.path));
    fixture_remove(place.folder);
}

static void set_running(struct tx *tx, struct row *row, void *arg)
{
    (void)tx;
    AS(guest, row)->running = true;
    ++*(int *)arg;
}

/* What is in memory only is put right in the rows themselves: a subscriber hears of it by the opening's own
 * generation, and nothing is written. */
Test(disk, runtime_fields_are_settled_in_place_after_an_opening)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref one = tx_create(tx, GUEST)->ref, two = tx_create(tx, GUEST)->ref;
    fixture_commit(tx);
    store_close(store);
    store = fixture_open(place.path);
    int settled = 0;
    tx = store_begin(store);
    tx_settle(tx, GUEST, set_running, &settled);
    fixture_commit(tx);
    cr_expect_eq(settled, 2);
    struct snapshot *snap = store_snapshot(store);
    cr_expect(((const struct guest_row *)snapshot_get(snap, GUEST, one))->running);
    cr_expect(((const struct guest_row *)snapshot_get(snap, GUEST, two))->running);
    snapshot_unref(snap);
    struct store_stats stats;
    store_stats(store, &stats);
    cr_expect_eq(stats.batches, 0, "nothing had to be written");
    fixture_check(store);
    store_close(store);
    fixture_remove(place.folder);
}

static void count_settled(struct tx *tx, struct row *row, void *arg)
{
    struct guest_row *guest = AS(guest, row);
    guest->running = ref_is_null(guest->parent) || tx_get(tx, GUEST, guest->parent);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static bool count_running(const struct row *row, void *arg)
{
    *(int *)arg += ((const struct guest_row *)row)->running;
    return true;
}

/* Enough rows for several threads to share: references, derived sets and what is settled. */
Test(disk, a_large_table_is_put_together_by_several_threads)
{
    enum { COUNT = 20000, GONE = 10 };
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct tx *tx = store_begin(store);
    struct ref parent = tx_create(tx, GUEST)->ref;
    for (int i = 1; i < COUNT; i++)
        AS(guest, tx_create(tx, GUEST))->parent = parent;
    fixture_commit(tx);
    store_close(store);
    sql(place.path,
        "UPDATE guest SET parent = 'OpaqueRef:11111111-2222-4333-8444-555555555555' WHERE rowid > 19990");
    store = fixture_open(place.path);
    fixture_check(store);
    _Atomic int settled = 0;
    tx = store_begin(store);
    tx_settle(tx, GUEST, count_settled, &settled);
    fixture_commit(tx);
    cr_expect_eq(settled, COUNT);
    struct snapshot *snap = store_snapshot(store);
    int running = 0;
    snapshot_each(snap, GUEST, count_running, &running);
    cr_expect_eq(running, COUNT);
    cr_expect_eq(((const struct guest_row *)snapshot_get(snap, GUEST, parent))->children->count,
                 COUNT - 1 - GONE);
    snapshot_unref(snap);
    store_close(store);
    fixture_remove(place.folder);
}
