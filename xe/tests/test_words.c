/* Small parts: sizes, booleans, task results, settings and the file of known servers. */
#include "../client/options.h"
#include "../client/pick.h"
#include "../client/trust.h"
#include "../engine/src/run.h"
#include "../engine/src/xmlvalue.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/stat.h>

Test(words, sizes)
{
    int64_t n = 0;
    cr_expect(xe_parse_bytes("512", &n) && n == 512);
    cr_expect(xe_parse_bytes("10GiB", &n) && n == 10LL << 30);
    cr_expect(xe_parse_bytes("3 mb", &n) && n == 3 << 20);
    cr_expect(xe_parse_bytes("8388607TiB", &n));
    cr_expect_not((xe_parse_bytes("9000000TiB", &n)));
    cr_expect_not((xe_parse_bytes("-1", &n)));
    cr_expect_not((xe_parse_bytes("10 elephants", &n)));
    cr_expect_not((xe_parse_bytes("", &n)));
}

Test(words, nearest_command)
{
    cr_expect_str_eq(xe_command_nearest("vm-strat"), "vm-start");
    cr_expect_null(xe_command_nearest("completely-different-thing"));
}

static void xml(const char *text, const char *json)
{
    AUTO_JSON json_t *v = xe_xml_value(text);
    AUTO_FREE char *got = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    cr_expect_str_eq(got, json, "%s", text);
}

Test(words, task_results)
{
    xml("<value>OpaqueRef:1</value>", "\"OpaqueRef:1\"");
    xml("<value><string>a &amp; &#x41;&lt;</string></value>", "\"a & A<\"");
    xml("<value><array><data><value>a</value><value>b</value></data></array></value>", "[\"a\",\"b\"]");
    xml("<value><array><data/></array></value>", "[]");
    xml("<value><struct><member><name>k</name><value><boolean>1</boolean></value></member></struct></value>",
        "{\"k\":true}");
    xml("<value></value>", "\"\"");
    xml("<value/>", "\"\"");
    xml("", "\"\"");
    xml("plain", "\"plain\"");
    xml("<value>broken", "\"<value>broken\"");
    xml("<value>&bad;</value>", "\"<value>&bad;</value>\"");
    struct buf deep = BUF_INIT;
    for (int i = 0; i < 100; i++)
        buf_add_str(&deep, "<value><array><data>");
    AUTO_JSON json_t *v = xe_xml_value(deep.data);
    cr_expect_eq(json_typeof(v), JSON_STRING);
    buf_done(&deep);
}

static void picks(const char *text, const char *wanted)
{
    AUTO_BUF struct buf out = BUF_INIT;
    bool good = xe_pick(text, strlen(text), (const char *const[]){"a", "b", NULL}, &out);
    cr_expect_eq(good, wanted != NULL, "%s", text);
    if (good && wanted)
        cr_expect_str_eq(out.data, wanted);
}

Test(words, large_answers_are_cut_before_parsing)
{
    picks("{\"result\":{\"r\":{\"a\":1,\"x\":{\"a\":[1,2]},\"b\":\"q\\\"}\"}},\"id\":1}",
          "{\"result\":{\"r\":{\"a\":1,\"b\":\"q\\\"}\"}},\"id\":1}");
    picks("{\"result\":{\"r\":{\"x\":\"\\\\\",\"ab\":null},\"s\":{\"b\":{ \"c\" : [ ] }}}}",
          "{\"result\":{\"r\":{},\"s\":{\"b\":{ \"c\" : [ ] }}}}");
    picks(" {\"result\": {} , \"id\":1} \n", "{\"result\":{},\"id\":1}");
    picks("{\"error\":{\"message\":\"X\"},\"id\":1}", NULL);
    picks("{\"result\":\"text\"}", NULL);
    picks("{\"result\":{\"r\":{\"a\":1}}", NULL);
    picks("{\"result\":{\"r\":{\"x\":\"unended}}}", NULL);
    picks("{\"result\":{\"r\":{\"x\":[1}}}}", NULL);
    picks("", NULL);
}

/* What a parser that reads everything makes of the same text. */
static json_t *filtered(json_t *answer)
{
    json_t *record, *value, *out = json_deep_copy(answer);
    const char *ref, *name;
    void *next;
    json_object_foreach(json_object_get(out, "result"), ref, record)
        json_object_foreach_safe(record, next, name, value) if (!streq(name, "a") && !streq(name, "b"))
            json_object_del(record, name);
    return out;
}

static bool map_of_records(json_t *answer)
{
    json_t *record, *result = json_object_get(answer, "result");
    const char *ref;
    json_object_foreach(result, ref, record) if (!json_is_object(record)) return false;
    return json_is_object(result);
}

Test(words, cutting_changes_nothing_else)
{
    static const char seed_text[] =
        "{\"jsonrpc\":\"2.0\",\"result\":{\"r1\":{\"a\":\"x\\\\\",\"c\":[1,{\"a\":2}],\"b\":{}},"
        "\"r2\":{\"d\":\"\\\"}\",\"a\":null}},\"id\":7}";
    static const char spice[] = "{}[]\",:\\ab1 ";
    unsigned state = 12345;
    for (int round = 0; round < 20000; round++) {
        char text[sizeof seed_text];
        memcpy(text, seed_text, sizeof text);
        for (int i = 0; i < round % 4; i++) {
            state = state * 1103515245 + 12345;
            text[state / 65536 % (sizeof text - 1)] = spice[state / 7 % (sizeof spice - 1)];
        }
        struct json_error error;
        AUTO_BUF struct buf cut = BUF_INIT;
        AUTO_JSON json_t *whole = json_parse(text, strlen(text), &error);
        bool picked = xe_pick(text, strlen(text), (const char *const[]){"a", "b", NULL}, &cut);
        if (!whole || !map_of_records(whole))
            continue;
        AUTO_JSON json_t *wanted = filtered(whole),
                         *got = picked ? json_parse(cut.data, cut.len, &error) : NULL;
        cr_assert(json_equal(got, wanted), "%s", text);
    }
}

static char home[] = "/tmp/xe-test-XXXXXX";

static void with_home(void)
{
    cr_assert_not_null(mkdtemp(home));
    setenv("HOME", home, 1);
    unsetenv("XDG_CONFIG_HOME");
    for (const char **v = (const char *[]){"XE_SERVER", "XE_PORT", "XE_USER", "XE_PASSWORD_FILE", "XE_CA",
                                           "XE_EXTRA_ARGS", NULL};
         *v; v++)
        unsetenv(*v);
}

static void without_home(void)
{
    AUTO_FREE char *command = xasprintf("%s/.xe", home);
    unlink(command);
    for (const char **n =
             (const char *[]){"pw", ".config/corral/known_hosts", ".config/corral", ".config", "", NULL};
         *n; n++) {
        AUTO_FREE char *path = xasprintf("%s/%s", home, *n);
        remove(path);
    }
}

static void write_home(const char *name, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/%s", home, name);
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    chmod(path, 0600);
}

TestSuite(options, .init = with_home, .fini = without_home);

static int read_options(struct xe_options *o, const char *line, char **problem)
{
    static char copy[512];
    char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    char *rest = copy, *word;
    while ((word = strsep(&rest, " ")))
        if (*word)
            argv[argc++] = word;
    return xe_options_read(o, argc, argv, problem);
}

Test(options, command_line_before_environment_before_file_before_defaults)
{
    struct xe_options o = {0};
    char *problem = NULL;
    cr_assert(eq(int, read_options(&o, "vm-list", &problem), 0));
    cr_expect_str_eq(o.server, "127.0.0.1");
    cr_expect(eq(int, o.port, 443));
    xe_options_done(&o);
    write_home(".xe", "server=filehost\nport=1\n\nusername=fileuser\nparams=uuid\n");
    cr_assert(eq(int, read_options(&o, "vm-list", &problem), 0));
    cr_expect_str_eq(o.server, "filehost");
    cr_expect_str_eq(o.user, "fileuser");
    cr_expect(eq(int, o.word_count, 2));
    cr_expect_str_eq(o.words[1], "params=uuid");
    xe_options_done(&o);
    setenv("XE_SERVER", "envhost", 1);
    setenv("XE_PORT", "2", 1);
    setenv("XE_EXTRA_ARGS", "username=extra,a\\,b=c", 1);
    cr_assert(eq(int, read_options(&o, "vm-list", &problem), 0));
    cr_expect_str_eq(o.server, "envhost");
    cr_expect(eq(int, o.port, 2));
    cr_expect_str_eq(o.user, "extra");
    cr_expect_str_eq(o.words[2], "a,b=c");
    xe_options_done(&o);
    cr_assert(eq(int, read_options(&o, "-s cmdhost vm-list port=3 -u cmd --ca=x", &problem), 0));
    cr_expect_str_eq(o.server, "cmdhost");
    cr_expect(eq(int, o.port, 3));
    cr_expect_str_eq(o.user, "cmd");
    cr_expect_str_eq(o.ca_file, "x");
    cr_expect_str_eq(o.words[0], "vm-list");
    xe_options_done(&o);
}

Test(options, a_malformed_line_voids_the_file)
{
    struct xe_options o = {0};
    char *problem = NULL;
    write_home(".xe", "server=filehost\nnonsense\n");
    cr_assert(eq(int, read_options(&o, "vm-list", &problem), 0));
    cr_expect_str_eq(o.server, "127.0.0.1");
    xe_options_done(&o);
}

Test(options, plain_http_stays_on_loopback)
{
    struct xe_options o = {0};
    char *problem = NULL;
    cr_assert(eq(int, read_options(&o, "--nossl -s ::1 vm-list", &problem), 0));
    cr_expect(eq(int, o.port, 80));
    xe_options_done(&o);
    cr_expect(eq(int, read_options(&o, "--nossl -s 192.0.2.1 vm-list", &problem), -1));
    cr_expect_not_null(strstr(problem, "loopback"));
    free(problem);
    xe_options_done(&o);
    cr_expect_not((xe_is_loopback("127.0.0.1.example.com")));
    cr_expect_not((xe_is_loopback("localhost.example.com")));
}

Test(options, password_files_of_one_and_two_lines)
{
    struct xe_options o = {0};
    char *problem = NULL;
    write_home("pw", "s3cret\n");
    AUTO_FREE char *one = xasprintf("-pwf %s/pw vm-list", home);
    cr_assert(eq(int, read_options(&o, one, &problem), 0));
    cr_assert(eq(int, xe_options_password(&o, &problem), 0));
    cr_expect_str_eq(o.user, "root");
    cr_expect_str_eq(o.password, "s3cret");
    xe_options_done(&o);
    write_home("pw", "alice\nother\n");
    cr_assert(eq(int, read_options(&o, one, &problem), 0));
    cr_assert(eq(int, xe_options_password(&o, &problem), 0));
    cr_expect_str_eq(o.user, "alice");
    cr_expect_str_eq(o.password, "other");
    xe_options_done(&o);
    write_home("pw", "");
    cr_assert(eq(int, read_options(&o, one, &problem), 0));
    cr_expect(eq(int, xe_options_password(&o, &problem), -1));
    free(problem);
    xe_options_done(&o);
}

Test(options, a_password_in_the_arguments_is_overwritten)
{
    struct xe_options o = {0};
    char *problem = NULL;
    char a[] = "-pw", b[] = "s3cret", c[] = "password=s3cret";
    char *argv[] = {a, b, c};
    cr_assert(eq(int, xe_options_read(&o, 3, argv, &problem), 0));
    cr_expect_str_eq(o.password, "s3cret");
    cr_expect_str_eq(b, "xxxxxx");
    cr_expect_str_eq(c, "password=xxxxxx");
    xe_options_done(&o);
}

Test(options, known_servers)
{
    static const char print[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    char found[SHA256_TEXT_SIZE], *problem = NULL;
    AUTO_FREE char *path = xe_trust_path();
    cr_expect(eq(int, xe_trust_find(path, "pool", 443, found, &problem), 0));
    cr_assert(eq(int, xe_trust_add(path, "pool", 443, print, &problem), 0));
    cr_assert(eq(int, xe_trust_add(path, "pool", 8443, print, &problem), 0));
    cr_expect(eq(int, xe_trust_find(path, "pool", 443, found, &problem), 1));
    cr_expect_str_eq(found, print);
    cr_expect(eq(int, xe_trust_find(path, "poo", 443, found, &problem), 0));
    struct stat st;
    cr_assert(eq(int, stat(path, &st), 0));
    cr_expect(eq(int, st.st_mode & 0777, 0600));
    AUTO_FREE char *shown = xe_trust_format("0a1b2c");
    cr_expect_str_eq(shown, "0a:1b:2c");
}
