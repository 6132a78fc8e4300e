/* Log records: one line each, whatever the values hold. */
#include <base/log.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>

/* What one record looks like, without its time. */
static char *record_of(void (*emit)(void))
{
    int pipe_fds[2], saved = dup(STDERR_FILENO);
    cr_assert(pipe(pipe_fds) == 0);
    dup2(pipe_fds[1], STDERR_FILENO);
    emit();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipe_fds[1]);
    static char text[4096];
    ssize_t n = read(pipe_fds[0], text, sizeof(text) - 1);
    close(pipe_fds[0]);
    text[n > 0 ? n : 0] = '\0';
    char *space = strchr(text, ' ');
    return space ? space + 1 : text;
}

static void emit_plain(void)
{
    log_info("store", "opened", "rows", "12", "path", "/var/lib/x.db", "n", LOG_INT(-5));
}
static void emit_nasty(void)
{
    log_warn("http", "bad\nsentence", "v", "a b\"c\\\nERROR forged=1 \x1b[31m\xff", "empty", "", "null",
             (const char *)NULL);
}
static void emit_debug(void)
{
    log_debug("http", "never seen");
}

Test(log, plain_values_stand_as_they_are)
{
    log_init("poold", LOG_INFO_LEVEL);
    cr_assert_str_eq(record_of(emit_plain), "poold info store: opened rows=12 path=/var/lib/x.db n=-5\n");
}

Test(log, no_value_can_forge_a_line)
{
    log_init("poold", LOG_INFO_LEVEL);
    cr_assert_str_eq(record_of(emit_nasty),
                     "poold warn http: bad sentence v=\"a b\\\"c\\\\\\nERROR forged=1 \\x1b[31m\\xff\" "
                     "empty=\"\" null=-\n");
}

Test(log, what_is_only_tried_is_not_told)
{
    log_init("poold", LOG_INFO_LEVEL);
    cr_assert_not(log_quiet(true));
    cr_assert_str_eq(record_of(emit_plain), "");
    cr_assert(log_quiet(false));
    cr_assert_str_neq(record_of(emit_plain), "");
}

Test(log, the_level_is_a_threshold)
{
    log_init("poold", LOG_INFO_LEVEL);
    cr_assert_str_eq(record_of(emit_debug), "");
    log_init("poold", LOG_DEBUG_LEVEL);
    cr_assert_str_eq(record_of(emit_debug), "poold debug http: never seen\n");
}

Test(log, level_names)
{
    enum log_level level = LOG_ERROR_LEVEL;
    cr_assert(log_level_parse("debug", &level) && level == LOG_DEBUG_LEVEL);
    cr_assert(!log_level_parse("loud", &level) && !log_level_parse("", &level));
}

static void emit_many(void)
{
    static char value[1000];
    memset(value, 'x', sizeof(value) - 1);
    for (int i = 0; i < 300; i++) /* more than is kept */
        log_info("store", "filler", "v", value);
    log_info("store", "the last one");
}

Test(log, what_was_said_last_is_kept_from_the_beginning_of_a_record)
{
    log_init("poold", LOG_INFO_LEVEL);
    int null = open("/dev/null", O_WRONLY), saved = dup(STDERR_FILENO);
    dup2(null, STDERR_FILENO);
    emit_plain();
    AUTO_FREE char *few = log_kept();
    emit_many();
    AUTO_FREE char *many = log_kept();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(null);
    cr_assert(strstr(few, "store: opened rows=12"));
    cr_assert(!strstr(many, "store: opened rows=12"));
    cr_assert(strlen(many) <= LOG_KEPT_MAX && strlen(many) > LOG_KEPT_MAX / 2);
    cr_assert_eq(many[4], '-', "it begins with a time: %.40s", many);
    cr_assert(strstr(many, "the last one"));
}
