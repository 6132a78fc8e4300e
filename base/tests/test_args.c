/* The option table: what is read, what is refused, the help. */
#include <base/args.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <stdio.h>

struct values {
    const char *state;
    long long port;
    bool verbose;
};

static enum args_result parse(struct values *v, struct buf *text, const char *const *arguments)
{
    static char program[] = "/usr/sbin/poold";
    char *argv[16] = {program};
    int argc = 1;
    for (; arguments[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
    const struct arg_option options[] = {
        {"state", ARG_TEXT, "DIR", "where everything is kept", &v->state, 0, 0, true},
        {"port", ARG_INT, "N", "to listen on", &v->port, 0, 65535, false},
        {"verbose", ARG_FLAG, NULL, "tell more", &v->verbose, 0, 0, false},
    };
    return args_parse(argc, argv, "the server", options, ARRAY_LEN(options), text);
}
#define PARSE(v, text, ...) parse(v, text, (const char *const[]){__VA_ARGS__, NULL})

Test(args, both_forms_of_a_value)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct values v = {.port = 8443};
    cr_assert_eq(PARSE(&v, &text, "--state", "/x", "--verbose"), ARGS_OK);
    cr_assert(streq(v.state, "/x") && v.port == 8443 && v.verbose);
    cr_assert_eq(PARSE(&v, &text, "--state=/y=z", "--port=0"), ARGS_OK);
    cr_assert(streq(v.state, "/y=z") && v.port == 0);
}

Test(args, refusals_name_the_option)
{
    static const struct {
        const char *arguments[4];
        const char *says;
    } cases[] = {
        {{"--state"}, "--state wants a value"},
        {{"--state", ""}, "--state wants a value"},
        {{"--state="}, "--state wants a value"},
        {{"--port", "1"}, "--state DIR is needed"},
        {{"--state=x", "--port=x"}, "number from 0 to 65535"},
        {{"--state=x", "--port=65536"}, "number from 0 to 65535"},
        {{"--state=x", "--port=-1"}, "number from 0 to 65535"},
        {{"--state=x", "--port= 1"}, "number from 0 to 65535"},
        {{"--state=x", "--port=99999999999999999999"}, "number from 0 to 65535"},
        {{"--state=x", "--verbose=1"}, "takes no value"},
        {{"--state=x", "--state=y"}, "given twice"},
        {{"--state=x", "--stat=y"}, "no option --stat;"},
        {{"--state=x", "operand"}, "not an option"},
        {{"--state=x", "--"}, "not an option"},
        {{"--state=x", "-v"}, "not an option"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF struct buf text = BUF_INIT;
        struct values v = {0};
        cr_assert_eq(parse(&v, &text, cases[i].arguments), ARGS_ERROR, "case %zu", i);
        cr_assert_not_null(strstr(text.data, cases[i].says), "case %zu: %s", i, text.data);
    }
}

Test(args, help_lists_every_option)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct values v = {0};
    cr_assert_eq(PARSE(&v, &text, "--port", "1", "--help"), ARGS_HELP);
    cr_assert_not_null(strstr(text.data, "Usage: poold --state DIR [OPTIONS]"), "%s", text.data);
    cr_assert_not_null(strstr(text.data, "--port N "));
    cr_assert_not_null(strstr(text.data, "tell more"));
}

Test(args, the_version_is_told_by_itself)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct values v = {0};
    cr_assert_eq(PARSE(&v, &text, "--version"), ARGS_HELP);
    unsigned part;
    char rest;
    cr_assert_eq(sscanf(text.data, "poold %u.%u.%u%c", &part, &part, &part, &rest), 4, "%s", text.data);
    cr_assert_eq(rest, '\n');
}
