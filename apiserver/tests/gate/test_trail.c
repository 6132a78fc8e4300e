/* The audit log: its lines cannot be forged, its parts rotate, and reading finds what is wanted. */
#include <base/buf.h>
#include <base/file.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/gate.h>
#include <gate/trail.h>
#include <gate/trail_chain.h>
#include <model/errors.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static void start(void)
{
    snprintf(folder, sizeof(folder), "/tmp/corral-trail-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void stop(void)
{
    for (int part = 0; part < 12; part++) {
        AUTO_FREE char *path =
            part ? xasprintf("%s/audit.log.%d", folder, part) : xasprintf("%s/audit.log", folder);
        remove(path);
    }
    cr_assert_eq(remove(folder), 0);
}

TestSuite(trail, .init = start, .fini = stop, .timeout = 120);

static int put(void *arg, const char *data, size_t len)
{
    buf_add(arg, data, len);
    return 0;
}

static char *read_since(struct trail *trail, const char *since)
{
    struct buf out = BUF_INIT;
    cr_assert_eq(trail_read(trail, since, false, put, &out), 0);
    buf_add_char(&out, '\0');
    return buf_take(&out);
}

static void must_verify(void)
{
    AUTO_FREE char *path = xasprintf("%s/audit.log", folder), *told = NULL;
    size_t size;
    FILE *out = open_memstream(&told, &size);
    cr_assert_eq(chain_verify(path, NULL, out), 0);
    fclose(out);
    cr_assert_null(strstr(told, "older parts were dropped"));
}

static size_t count(const char *text, char c)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == c;
    return n;
}

Test(trail, what_a_client_says_stays_on_its_line)
{
    static const struct {
        const char *user, *shown;
    } table[] = {
        {"plain", "'plain'"},
        {"", "''"},
        {"a' 'b", "'a\\' \\'b'"},
        {"a\nb\r", "'a\\x0ab\\x0d'"},
        {"back\\slash", "'back\\\\slash'"},
        {"\x1b[31m", "'\\x1b[31m'"},
    };
    struct trail *trail = trail_open(folder);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    err_session_authentication_failed(&err, "x", "y");
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        trail_session(trail, "127.0.0.1", "session.login_with_password", table[i].user, NULL, &err);
    AUTO_FREE char *text = read_since(trail, "");
    cr_assert_eq(count(text, '\n'), ARRAY_LEN(table));
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_FREE char *part =
            xasprintf(" %s 'DENIED' 'ERROR:SESSION_AUTHENTICATION_FAILED' 'API' ", table[i].shown);
        cr_assert(strstr(text, part), "%s not in %s", part, text);
    }
    trail_close(trail);
}

Test(trail, long_words_are_cut_between_characters)
{
    struct trail *trail = trail_open(folder);
    char user[1000];
    memset(user, 'x', 199);
    for (size_t i = 199; i + 2 < sizeof(user); i += 2)
        memcpy(user + i, "\xc3\xbc", 2);
    user[sizeof(user) - 2] = '\0';
    trail_session(trail, "", "session.login_with_password", user, NULL, NULL);
    AUTO_FREE char *text = read_since(trail, "");
    cr_assert(strstr(text, "xxx...'"));
    cr_assert_null(strstr(text, "\xc3"));
    cr_assert(strstr(text, "|local|"));
    trail_close(trail);
}

/* The limit of a file's size stands for a disk that is full in the middle of a line. */
Test(trail, a_line_that_found_no_room_is_told_with_the_reason_and_leaves_no_half)
{
    AUTO_FREE char *path = xasprintf("%s/told", folder);
    struct trail *trail = trail_open(folder);
    trail_session(trail, "", "session.login_with_password", "first", NULL, NULL);
    AUTO_FREE char *before = read_since(trail, "");
    signal(SIGXFSZ, SIG_IGN);
    int out = dup(STDERR_FILENO);
    cr_assert_neq((intptr_t)freopen(path, "w", stderr), 0);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){strlen(before) + 100, RLIM_INFINITY}), 0);
    trail_session(trail, "", "session.login_with_password", "second", NULL, NULL);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}), 0);
    fflush(stderr);
    dup2(out, STDERR_FILENO);
    close(out);
    AUTO_FREE char *told = file_read(path, 65536, NULL), *after = read_since(trail, "");
    cr_expect(strstr(told, "cause=\"No space left on device\""), "%s", told);
    cr_expect(strstr(after, "'first'") && !strstr(after, "'second'"), "%s", after);
    trail_session(trail, "", "session.login_with_password", "third", NULL, NULL);
    must_verify();
    trail_close(trail);
    remove(path);
}

Test(trail, a_log_goes_on_after_a_restart_and_is_for_the_server_alone)
{
    struct stat st;
    for (int i = 0; i < 3; i++) {
        struct trail *trail = trail_open(folder);
        trail_session(trail, "127.0.0.1", "session.login_with_password", "user", NULL, NULL);
        AUTO_FREE char *text = read_since(trail, "");
        cr_assert_eq(count(text, '\n'), (size_t)i + 1);
        trail_close(trail);
    }
    AUTO_FREE char *path = xasprintf("%s/audit.log", folder);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
}

Test(trail, since_is_compared_with_the_stamp)
{
    struct trail *trail = trail_open(folder);
    trail_session(trail, "127.0.0.1", "session.login_with_password", "user", NULL, NULL);
    AUTO_FREE char *all = read_since(trail, "");
    char stamp[64] = "";
    snprintf(stamp, sizeof(stamp), "%.*s", (int)(strchr(all, '|') - all) - 1, all + 1);
    AUTO_FREE char *same = read_since(trail, stamp), *day = read_since(trail, "20000101");
    AUTO_FREE char *later = read_since(trail, "99991231T00:00:00.000Z");
    cr_assert_str_eq(same, all);
    cr_assert_str_eq(day, all);
    cr_assert_str_eq(later, "");
    trail_close(trail);
}

static void fill(const char *name, char c, off_t size)
{
    AUTO_FREE char *path = xasprintf("%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    cr_assert(file);
    fprintf(file, "[2020010%cT00:00:00.000Z|info|h|p|a|audit] (part %c)\n", c, c);
    for (off_t at = 0; at < size; at += 1024)
        fprintf(file, "%1023s\n", "");
    cr_assert_eq(fclose(file), 0);
}

Test(trail, a_full_file_makes_room_and_the_oldest_part_goes)
{
    char name[32];
    for (int part = 1; part <= 8; part++) {
        snprintf(name, sizeof(name), "audit.log.%d", part);
        fill(name, (char)('9' - part), 0); /* part 8 is the oldest */
    }
    fill("audit.log", '9', 16 * 1024 * 1024);
    struct trail *trail = trail_open(folder);
    trail_session(trail, "127.0.0.1", "session.login_with_password", "newest", NULL, NULL);
    AUTO_FREE char *text = read_since(trail, "");
    cr_assert_null(strstr(text, "(part 1)"));
    const char *at = text;
    for (char c = '2'; c <= '9'; c++) {
        char want[16];
        snprintf(want, sizeof(want), "(part %c)", c);
        at = strstr(at, want);
        cr_assert(at, "%s is missing or out of order", want);
    }
    AUTO_FREE char *newest = read_since(trail, "20210101");
    cr_assert(strstr(newest, "'newest'"));
    cr_assert_eq(count(newest, '\n'), 1);
    AUTO_FREE char *ninth = xasprintf("%s/audit.log.9", folder);
    struct stat st;
    cr_assert_neq(stat(ninth, &st), 0);
    trail_close(trail);
}

Test(trail, sums_go_on_into_the_next_part)
{
    AUTO_FREE char *path = xasprintf("%s/audit.log", folder), *older = xasprintf("%s/audit.log.1", folder);
    struct trail *trail = trail_open(folder);
    char user[200];
    memset(user, 'x', sizeof(user) - 1);
    user[sizeof(user) - 1] = '\0';
    while (access(older, F_OK) != 0)
        trail_session(trail, "127.0.0.1", "session.login_with_password", user, NULL, NULL);
    trail_session(trail, "127.0.0.1", "session.login_with_password", "newest", NULL, NULL);
    trail_close(trail);
    must_verify();
    cr_assert_eq(remove(path), 0);
}

static struct call *ended(struct server *server, const char *name, const char *code)
{
    struct call *call = call_new(server, name, NULL, false, "127.0.0.1", NULL);
    call->method = method_find(name, strlen(name));
    call->failed = code != NULL;
    if (code)
        fail_internal(&call->err, "%s", code);
    return call;
}

Test(trail, calls_that_end_together_are_lines_of_one_chain)
{
    struct trail *trail = trail_open(folder);
    struct server server = {.trail = trail};
    trail_session(trail, "127.0.0.1", "session.login_with_password", "before", NULL, NULL);
    struct call *calls[] = {
        ended(&server, "VM.set_name_label", NULL),
        ended(&server, "VM.get_name_label", NULL),
        ended(&server, "VM.set_name_description", "x"),
        ended(&server, "VM.add_tags", NULL),
    };
    trail_calls(calls, ARRAY_LEN(calls));
    trail_calls(calls + 1, 1);
    trail_session(trail, "127.0.0.1", "session.login_with_password", "after", NULL, NULL);
    AUTO_FREE char *text = read_since(trail, "");
    cr_assert_eq(count(text, '\n'), 5, "%s", text);
    cr_assert_null(strstr(text, "get_name_label"));
    static const char *const words[] = {"'before'",
                                        "VM.set_name_label",
                                        "'ALLOWED' 'OK'",
                                        "VM.set_name_description",
                                        "'ERROR:INTERNAL_ERROR'",
                                        "VM.add_tags",
                                        "'after'"};
    const char *at = text;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        cr_assert((at = strstr(at, words[i])), "%s is missing or out of order: %s", words[i], text);
    trail_close(trail);
    must_verify();
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        call_free(calls[i]);
}
