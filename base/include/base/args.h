/* Command line options of the daemons: a table, from which --help is made; all know --version, too.
 * "--name value", "--name=value"; "--" is refused, as are operands, repeated and unknown options. */
#pragma once
#include <base/buf.h>
#include <stdbool.h>
#include <stddef.h>

enum arg_kind { ARG_TEXT, ARG_INT, ARG_FLAG };
struct arg_option {
    const char *name; /* without the dashes */
    enum arg_kind kind;
    const char *value_name; /* "DIR", for the help; NULL for a flag */
    const char *help;
    void *out;          /* const char **, long long * or bool *; keeps its value when the option is absent */
    long long min, max; /* ARG_INT */
    bool required;
};
enum args_result { ARGS_OK, ARGS_HELP, ARGS_ERROR };
/* ARGS_HELP: *text is the help, or the version; ARGS_ERROR: one sentence saying what is wrong. Text values
 * point into argv.
 */
enum args_result args_parse(int argc, char **argv, const char *summary, const struct arg_option *options,
                            size_t count, struct buf *text);
