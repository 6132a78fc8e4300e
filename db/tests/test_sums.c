/* Sums of pages: whatever is flipped in the file is told, or does no harm; files without sums get them; what
 * other programs do with the file. CORRAL_FLIPS=N flips a bit in every Nth byte (1: in each). */
#include "engine.h"
#include "fixture.h"
#include "page_sums.h"
#include <base/buf.h>
#include <base/file.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_MAX (1 << 20)
#define PAGE 4096

struct place {
    char folder[64];
    char path[96], other[96];
};

static struct place place_make(void)
{
    struct place place;
    fixture_folder(place.folder);
    snprintf(place.path, sizeof(place.path), "%s/pool.db", place.folder);
    snprintf(place.other, sizeof(place.other), "%s/other.db", place.folder);
    return place;
}

/* Tables of several pages, values that go over to pages of their own, indexes of more than one page, free
 * pages, and rows that are gone. */
static void fill(const char *path)
{
    struct store *store = fixture_open(path);
    struct tx *tx = store_begin(store);
    struct ref disks[120];
    for (size_t i = 0; i < ARRAY_LEN(disks); i++) {
        struct disk_row *disk = AS(disk, tx_create(tx, DISK));
        AUTO_STR const char *name = str_newf("disk %zu", i);
        str_assign(&disk->name_label, name);
        disk->size = (int64_t)i << 20;
        disk->parent = i ? disks[i - 1] : (struct ref){0};
        disks[i] = disk->row.ref;
    }
    char text[3 * PAGE];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 3; i++)
        str_map_put(&AS(guest, tx_create(tx, GUEST))->other_config, "long", text);
    tx_create(tx, KIND);
    fixture_commit(tx);
    tx = store_begin(store);
    for (size_t i = 0; i < 60; i++)
        tx_delete(tx, DISK, disks[i]);
    fixture_commit(tx);
    store_close(store);
}

/* Opens it; NULL with *err. */
static struct store *try_open(const char *path, struct store_err *err)
{
    struct store_config config = fixture_config();
    config.path = path;
    struct store *store = NULL;
    return store_open(&store, &config, err) == 0 ? store : NULL;
}

static bool add_row(const struct row *row, void *arg)
{
    struct buf *all = arg;
    buf_add_str(all, row_json(row)->text);
    buf_add_char(all, '\n');
    return true;
}

/* Everything that is in it, as text; the caller frees. */
static char *content(struct store *store)
{
    AUTO_BUF struct buf all = BUF_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    for (size_t i = 0; i < C_COUNT; i++)
        snapshot_each(snap, &fixture_classes[i], add_row, &all);
    return buf_take(&all);
}

static char *content_of(const char *path)
{
    struct store *store = fixture_open(path);
    char *text = content(store);
    store_close(store);
    return text;
}

static bool edit_row(const struct row *row, void *arg)
{
    tx_edit(arg, row->cls, row->ref);
    tx_renew(arg, row->cls, row->ref);
    return true;
}

/* Writes every row again, one more, and reads all of it once more. */
static bool goes_on(struct store *store, struct store_err *err)
{
    struct tx *tx = store_begin(store);
    for (size_t i = 0; i < C_COUNT; i++)
        if (fixture_classes[i].flags & CLASS_PERSIST)
            tx_each(tx, &fixture_classes[i], edit_row, tx);
    tx_create(tx, DISK);
    return tx_commit(tx, NULL, err) == 0;
}

static void write_file(const char *path, const char *bytes, size_t len)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static void remove_logs(const char *path)
{
    static const char *const ends[] = {"-wal", "-shm", "-newest", "-wal-synced"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        AUTO_FREE char *name = xasprintf("%s%s", path, ends[i]);
        unlink(name);
    }
}

/* 'd': damage was told; 'h': harmless. Anything else fails. */
static char flip(const struct place *place, char *file, size_t len, size_t at, const char *expected)
{
    struct store_err err = {0};
    unsigned char bit = (unsigned char)(1u << (at * 7 % 8));
    file[at] ^= bit;
    write_file(place->other, file, len);
    file[at] ^= bit;
    remove_logs(place->other);
    struct store *store = try_open(place->other, &err);
    if (!store) {
        cr_assert_eq(err.code, STORE_E_CORRUPT, "byte %zu: told as %d, %s", at, err.code, err.text);
        cr_assert_not_null(strstr(err.text, place->other), "%s", err.text);
        return 'd';
    }
    AUTO_FREE char *found = content(store);
    cr_assert_str_eq(found, expected, "byte %zu (page %zu): another content, and nothing was told", at,
                     at / PAGE + 1);
    cr_assert(goes_on(store, &err), "byte %zu (page %zu): opened, then not written: %s", at, at / PAGE + 1,
              err.text);
    fixture_check(store);
    store_close(store);
    return 'h';
}

Test(sums, a_flip_anywhere_is_told_or_harmless, .timeout = 3600)
{
    struct place place = place_make();
    fill(place.path);
    AUTO_FREE char *expected = content_of(place.path);
    size_t len;
    AUTO_FREE char *file = file_read(place.path, FILE_MAX, &len);
    cr_assert_eq(len % PAGE, 0);
    const char *step_text = getenv("CORRAL_FLIPS");
    size_t step = step_text ? strtoul(step_text, NULL, 10) : 509, told = 0,
           harmless = 0; /* odd: all places of a page */
    for (size_t at = 0; at < len; at += at < 100 && step > 3 ? 3 : step)
        *(flip(&place, file, len, at, expected) == 'd' ? &told : &harmless) += 1;
    /* Free pages, and what the head says of sizes and changes. */
    cr_assert_gt(told, 4 * harmless, "%zu told, %zu harmless", told, harmless);
    cr_assert_gt(harmless, 0);
    fixture_remove(place.folder);
}

static int64_t number(const char *path, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    int rc = sqlite3_step(stmt);
    int64_t value = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -1;
    cr_assert(rc == SQLITE_ROW || rc == SQLITE_DONE, "%s", sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

static int reserved(const char *path)
{
    char head[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_eq(read(fd, head, sizeof(head)), sizeof(head));
    close(fd);
    return head[20];
}

static void run(sqlite3 *db, const char *sql)
{
    char *error = NULL;
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, &error), SQLITE_OK, "%s: %s", sql, error);
}

static int copy_table(void *arg, int count, char **values, char **names)
{
    (void)count, (void)names;
    AUTO_FREE char *fill =
        xasprintf("INSERT INTO main.\"%s\" SELECT * FROM old.\"%s\"", values[0], values[0]);
    run(arg, values[1]);
    run(arg, fill);
    return 0;
}

/* As a version without sums has left it. */
static void drop_sums(const char *path)
{
    sqlite3 *db;
    AUTO_FREE char *plain = xasprintf("%s-plain", path), *attach = xasprintf("ATTACH '%s' AS old", path);
    AUTO_FREE char *marks = xasprintf(
        "PRAGMA user_version = 3; PRAGMA application_id = %d; PRAGMA journal_mode = WAL", 0x436f7272);
    cr_assert_eq(sqlite3_open(plain, &db), SQLITE_OK);
    run(db, attach);
    cr_assert_eq(sqlite3_exec(db, "SELECT name, sql FROM old.sqlite_schema WHERE type = 'table'", copy_table,
                              db, NULL),
                 SQLITE_OK);
    run(db, "DETACH old");
    run(db, marks);
    sqlite3_close(db);
    cr_assert_eq(rename(plain, path), 0);
    cr_assert_eq(reserved(path), 0);
}

Test(sums, a_file_without_gets_them_when_it_is_opened)
{
    struct place place = place_make();
    fill(place.path);
    AUTO_FREE char *expected = content_of(place.path);
    drop_sums(place.path);
    for (int i = 0; i < 2; i++) {
        AUTO_FREE char *found = content_of(place.path);
        cr_assert_str_eq(found, expected);
        cr_assert_eq(reserved(place.path), PAGE_SUM_BYTES);
    }
    struct stat st;
    cr_assert_eq(stat(place.path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    fixture_remove(place.folder);
}

Test(sums, a_file_without_that_another_program_reads_gets_them_later)
{
    struct place place = place_make();
    struct store_err err;
    fill(place.path);
    drop_sums(place.path);
    sqlite3 *reader;
    cr_assert_eq(sqlite3_open(place.path, &reader), SQLITE_OK);
    run(reader, "BEGIN; SELECT * FROM disk");
    struct store *store = fixture_open(place.path);
    cr_assert(goes_on(store, &err), "%s", err.text);
    AUTO_FREE char *before = content(store);
    cr_assert_eq(reserved(place.path), 0); /* in the log */
    run(reader, "COMMIT");
    sqlite3_close(reader);
    store_close(store);
    cr_assert_eq(reserved(place.path), PAGE_SUM_BYTES);
    AUTO_FREE char *after = content_of(place.path);
    cr_assert_str_eq(after, before);
    fixture_remove(place.folder);
}

/* With SQLite's own means and without the sums, as `sqlite3 pool.db ".backup FILE"` does, a page at a time
 * while the store writes. */
static void back_up(struct store *store, const char *path, const char *to)
{
    struct store_err err;
    sqlite3 *from, *into;
    cr_assert_eq(sqlite3_open(path, &from), SQLITE_OK);
    cr_assert_eq(sqlite3_open(to, &into), SQLITE_OK);
    sqlite3_backup *backup = sqlite3_backup_init(into, "main", from, "main");
    int rc, writes = 0;
    while ((rc = sqlite3_backup_step(backup, 7)) == SQLITE_OK)
        if (writes++ < 3)
            cr_assert(goes_on(store, &err), "%s", err.text);
    cr_assert_eq(rc, SQLITE_DONE);
    sqlite3_backup_finish(backup);
    sqlite3_close(into);
    sqlite3_close(from);
}

static int copy_by_other(struct store *store, const char *path, const char *to, struct store_err *err)
{
    (void)err;
    back_up(store, path, to);
    return 0;
}

static int copy_by_us(struct store *store, const char *path, const char *to, struct store_err *err)
{
    (void)store;
    return store_copy_file(path, to, err);
}

Test(sums, copies_that_are_made_while_it_is_written_are_whole)
{
    static int (*const copies[])(struct store *, const char *, const char *,
                                 struct store_err *) = {copy_by_other, copy_by_us};
    for (size_t i = 0; i < ARRAY_LEN(copies); i++) {
        struct place place = place_make();
        struct store_err err;
        fill(place.path);
        struct store *store = fixture_open(place.path);
        cr_assert(goes_on(store, &err), "%s", err.text); /* not only in the log, not only in the file */
        cr_assert_eq(copies[i](store, place.path, place.other, &err), 0, "%s", err.text);
        AUTO_FREE char *expected = content(store);
        store_close(store);
        AUTO_FREE char *copied = content_of(place.other);
        cr_assert_str_eq(copied, expected);
        cr_assert_eq(reserved(place.other), PAGE_SUM_BYTES);
        fixture_remove(place.folder);
    }
}

/* After a crash, with all in the log, which somebody's look into the file then empties. */
Test(sums, a_look_with_another_program_after_a_crash_does_no_harm)
{
    struct place place = place_make();
    struct store_err err;
    fill(place.path);
    struct store *store = fixture_open(place.path);
    cr_assert(goes_on(store, &err), "%s", err.text);
    AUTO_FREE char *expected = content(store), *log = xasprintf("%s-wal", place.path),
                   *other_log = xasprintf("%s-wal", place.other);
    for (int i = 0; i < 2; i++) {
        size_t len;
        AUTO_FREE char *bytes = file_read(i ? log : place.path, FILE_MAX, &len);
        cr_assert_gt(len, 0);
        write_file(i ? other_log : place.other, bytes, len);
    }
    store_close(store);
    cr_assert_gt(number(place.other, "SELECT count(*) FROM disk"), 0);
    struct stat st;
    cr_assert_eq(stat(other_log, &st), -1);
    AUTO_FREE char *found = content_of(place.other);
    cr_assert_str_eq(found, expected);
    fixture_remove(place.folder);
}

Test(sums, what_another_program_has_written_is_refused_until_it_is_accepted)
{
    struct place place = place_make();
    struct store_err err;
    fill(place.path);
    number(place.path, "UPDATE disk SET name_label = 'by hand' WHERE rowid = (SELECT max(rowid) FROM disk)");
    cr_assert_null(try_open(place.path, &err));
    cr_assert_eq(err.code, STORE_E_CORRUPT);
    cr_assert_not_null(strstr(err.text, "page"), "%s", err.text);
    cr_assert_eq(store_accept_file(place.path, &err), 0, "%s", err.text);
    struct store *store = fixture_open(place.path);
    AUTO_FREE char *found = content(store);
    cr_assert_not_null(strstr(found, "by hand"));
    cr_assert_eq(store_accept_file(place.path, &err), -1); /* in use */
    cr_assert_eq(err.code, STORE_E_BUSY);
    store_close(store);
    write_file(place.path, "no database", 11);
    remove_logs(place.path);
    cr_assert_eq(store_accept_file(place.path, &err), -1);
    cr_assert_eq(err.code, STORE_E_CORRUPT);
    fixture_remove(place.folder);
}

/* ---- the log ---- */

enum { CRASHED_FILE, CRASHED_LOG, CRASHED_NOTE, CRASHED_PARTS };

/* What a killed process leaves: all that its last transactions changed is in the log. */
struct crashed {
    char *bytes[CRASHED_PARTS];
    size_t len[CRASHED_PARTS], synced; /* how much of the log was */
    char *content, *content_synced;
};
static const char *const crashed_ends[] = {"", "-wal", "-wal-synced"};

static void add_disk(struct store *store, const struct class_desc *cls)
{
    struct tx *tx = store_begin(store);
    tx_create(tx, cls);
    fixture_commit(tx);
}

static size_t file_size(const char *path, const char *end)
{
    AUTO_FREE char *name = xasprintf("%s%s", path, end);
    struct stat st;
    cr_assert_eq(stat(name, &st), 0);
    return (size_t)st.st_size;
}

/* Four transactions that were waited for and one that was not. */
static struct crashed crash(const struct place *place)
{
    struct crashed crashed = {0};
    struct store *store = fixture_open(place->path);
    for (int i = 0; i < 4; i++)
        add_disk(store, DISK);
    crashed.synced = file_size(place->path, "-wal");
    crashed.content_synced = content(store);
    add_disk(store, ERRAND);
    crashed.content = content(store);
    for (size_t i = 0; i < CRASHED_PARTS; i++) {
        AUTO_FREE char *name = xasprintf("%s%s", place->path, crashed_ends[i]);
        crashed.bytes[i] = file_read(name, FILE_MAX, &crashed.len[i]);
        cr_assert_not_null(crashed.bytes[i], "%s", name);
    }
    cr_assert_gt(crashed.len[CRASHED_LOG], crashed.synced);
    store_close(store);
    return crashed;
}

static void crashed_done(struct crashed *crashed)
{
    for (size_t i = 0; i < CRASHED_PARTS; i++)
        free(crashed->bytes[i]);
    free(crashed->content);
    free(crashed->content_synced);
}

/* With the log cut to `log` bytes. */
static void put_down(const struct place *place, const struct crashed *crashed, size_t log)
{
    remove_logs(place->other);
    for (size_t i = 0; i < CRASHED_PARTS; i++) {
        AUTO_FREE char *name = xasprintf("%s%s", place->other, crashed_ends[i]);
        write_file(name, crashed->bytes[i], i == CRASHED_LOG ? log : crashed->len[i]);
    }
}

/* 'd': told; 'h': all that was waited for is there. Anything else fails. */
static char open_crashed(const struct place *place, const struct crashed *crashed, const char *what,
                         size_t at)
{
    struct store_err err = {0};
    struct store *store = try_open(place->other, &err);
    if (!store) {
        cr_assert_eq(err.code, STORE_E_CORRUPT, "%s %zu: told as %d, %s", what, at, err.code, err.text);
        cr_assert_not_null(strstr(err.text, "-wal: "), "%s", err.text);
        return 'd';
    }
    AUTO_FREE char *found = content(store);
    cr_assert(streq(found, crashed->content) || streq(found, crashed->content_synced),
              "%s %zu: something that was acknowledged is gone, and nothing was told", what, at);
    store_close(store);
    return 'h';
}

Test(log, a_flip_in_what_was_synced_is_told_and_behind_it_harmless, .timeout = 3600)
{
    struct place place = place_make();
    struct crashed crashed = crash(&place);
    char *log = crashed.bytes[CRASHED_LOG], *note = crashed.bytes[CRASHED_NOTE];
    const char *step_text = getenv("CORRAL_FLIPS");
    size_t step = step_text ? strtoul(step_text, NULL, 10) : 1009;
    put_down(&place, &crashed, crashed.len[CRASHED_LOG]);
    cr_assert_eq(open_crashed(&place, &crashed, "whole", 0), 'h');
    for (size_t at = 0; at < crashed.len[CRASHED_LOG]; at += at < 56 && step > 5 ? 5 : step) {
        log[at] ^= (char)(1u << (at * 7 % 8));
        put_down(&place, &crashed, crashed.len[CRASHED_LOG]);
        log[at] ^= (char)(1u << (at * 7 % 8));
        cr_assert_eq(open_crashed(&place, &crashed, "byte", at), at < crashed.synced ? 'd' : 'h', "byte %zu",
                     at);
    }
    for (size_t at = 0; at < crashed.len[CRASHED_NOTE]; at += 7) {
        note[at] ^= 1;
        put_down(&place, &crashed, crashed.len[CRASHED_LOG]);
        note[at] ^= 1;
        cr_assert_eq(open_crashed(&place, &crashed, "byte of the note", at), 'h');
    }
    crashed_done(&crashed);
    fixture_remove(place.folder);
}

Test(log, an_end_that_is_missing_is_told_when_it_was_synced)
{
    struct place place = place_make();
    struct crashed crashed = crash(&place);
    size_t frame = PAGE + 24;
    for (size_t len = crashed.len[CRASHED_LOG] - 100; len > frame; len -= frame) {
        put_down(&place, &crashed, len);
        cr_assert_eq(open_crashed(&place, &crashed, "cut at", len), len < crashed.synced ? 'd' : 'h', "%zu",
                     len);
    }
    put_down(&place, &crashed,
             0); /* somebody else has emptied it into the file, or nothing was written yet */
    struct store_err err;
    struct store *store = try_open(place.other, &err);
    cr_assert_not_null(store, "%s", err.text);
    store_close(store);
    crashed_done(&crashed);
    fixture_remove(place.folder);
}

static uint64_t newest_of(struct store *store)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    return snapshot_generation(snap);
}

Test(log, what_is_left_of_a_damaged_one_can_be_accepted)
{
    struct place place = place_make();
    struct crashed crashed = crash(&place);
    struct store_err err;
    struct store *store = fixture_open(place.path);
    uint64_t token = newest_of(store);
    store_close(store);
    crashed.bytes[CRASHED_LOG][crashed.synced - 10] ^= 1;
    put_down(&place, &crashed, crashed.len[CRASHED_LOG]);
    cr_assert_eq(open_crashed(&place, &crashed, "damaged", 0), 'd');
    cr_assert_eq(store_accept_file(place.other, &err), 0, "%s", err.text);
    store = try_open(place.other, &err);
    cr_assert_not_null(store, "%s", err.text);
    AUTO_FREE char *found = content(store);
    cr_expect_str_neq(found, crashed.content_synced);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    cr_expect_gt(snapshot_oldest_token_of(snap, DISK), token, "readers start over");
    snapshot_unref(TAKE_PTR(snap));
    store_close(store);
    crashed_done(&crashed);
    fixture_remove(place.folder);
}
