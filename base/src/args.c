/* The option table of a daemon: parsing and --help. */
#include <base/args.h>
#include <base/mem.h>
#include <errno.h>
#include <stdint.h>

#ifndef CORRAL_VERSION
#define CORRAL_VERSION "unknown"
#endif

static void write_help(struct buf *b, const char *program, const char *summary,
                       const struct arg_option *options, size_t count)
{
    buf_printf(b, "%s: %s\n\nUsage: %s", program, summary, program);
    for (size_t i = 0; i < count; i++)
        if (options[i].required)
            buf_printf(b, " --%s %s", options[i].name, options[i].value_name);
    buf_add_str(b, " [OPTIONS]\n\n");
    for (size_t i = 0; i < count; i++) {
        AUTO_FREE char *left =
            xasprintf("--%s %s", options[i].name, options[i].kind == ARG_FLAG ? "" : options[i].value_name);
        buf_printf(b, "  %-26s %s\n", left, options[i].help);
    }
    buf_printf(b, "  %-26s %s\n", "--help", "show this text");
    buf_printf(b, "  %-26s %s\n", "--version", "show the version");
}

static int find_option(const struct arg_option *options, size_t count, const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
            return (int)i;
    return -1;
}

static enum args_result set_value(const struct arg_option *option, const char *value, struct buf *text)
{
    if (option->kind == ARG_TEXT) {
        *(const char **)option->out = value;
        return ARGS_OK;
    }
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    bool digits = (value[0] >= '0' && value[0] <= '9') || (value[0] == '-' && value[1]);
    if (errno || !digits || *end || n < option->min || n > option->max) {
        buf_printf(text, "--%s wants a number from %lld to %lld, not \"%s\"", option->name, option->min,
                   option->max, value);
        return ARGS_ERROR;
    }
    *(long long *)option->out = n;
    return ARGS_OK;
}

/* One option at argv[*at]; steps behind what it used. */
static enum args_result take(int argc, char **argv, int *at, const struct arg_option *options, size_t count,
                             bool *seen, struct buf *text)
{
    const char *arg = argv[(*at)++];
    if (strncmp(arg, "--", 2) != 0 || !arg[2]) {
        buf_printf(text, "\"%s\" is not an option; see --help", arg);
        return ARGS_ERROR;
    }
    size_t len = strcspn(arg + 2, "=");
    const char *value = arg[2 + len] == '=' ? arg + 3 + len : NULL;
    int i = find_option(options, count, arg + 2, len);
    if (i < 0) {
        buf_printf(text, "there is no option --%.*s; see --help", (int)len, arg + 2);
        return ARGS_ERROR;
    }
    if (seen[i]) {
        buf_printf(text, "--%s is given twice", options[i].name);
        return ARGS_ERROR;
    }
    seen[i] = true;
    if (options[i].kind == ARG_FLAG) {
        if (value) {
            buf_printf(text, "--%s takes no value", options[i].name);
            return ARGS_ERROR;
        }
        *(bool *)options[i].out = true;
        return ARGS_OK;
    }
    if (!value && *at < argc)
        value = argv[(*at)++];
    if (!value || !*value) {
        buf_printf(text, "--%s wants a value: %s", options[i].name, options[i].value_name);
        return ARGS_ERROR;
    }
    return set_value(&options[i], value, text);
}

enum args_result args_parse(int argc, char **argv, const char *summary, const struct arg_option *options,
                            size_t count, struct buf *text)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL, *program = slash ? slash + 1 : argv[0];
    AUTO_FREE bool *seen = xcalloc(count, sizeof(*seen));
    for (int i = 1; i < argc; i++) {
        if (streq(argv[i], "--help")) {
            write_help(text, program, summary, options, count);
            return ARGS_HELP;
        }
        if (streq(argv[i], "--version")) {
            buf_printf(text, "%s %s\n", program, CORRAL_VERSION);
            return ARGS_HELP;
        }
    }
    for (int at = 1; at < argc;) {
        enum args_result result = take(argc, argv, &at, options, count, seen, text);
        if (result != ARGS_OK)
            return result;
    }
    for (size_t i = 0; i < count; i++) {
        if (options[i].required && !seen[i]) {
            buf_printf(text, "--%s %s is needed; see --help", options[i].name, options[i].value_name);
            return ARGS_ERROR;
        }
    }
    return ARGS_OK;
}
