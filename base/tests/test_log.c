/* Log records: one line each, whatever the values hold. */
#include <base/log.h>
#include <base/mem.h>
#include <criterion/criterion.h>
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
