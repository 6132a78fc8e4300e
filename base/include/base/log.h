/* One line a record on stderr: time, level, part, sentence, then key=value pairs. A value is
 * quoted and escaped when it holds anything but plain characters, so no input can forge a line.
 * Any thread; a record is one write(2). Log once, at the top; never a password, key or session. */
#pragma once
#include <stdbool.h>

enum log_level { LOG_ERROR_LEVEL, LOG_WARN_LEVEL, LOG_INFO_LEVEL, LOG_DEBUG_LEVEL };

/* `program` names the daemon in each line; borrowed for the life of the process. */
void log_init(const char *program, enum log_level level);
/* false: not one of error, warn, info, debug. */
bool log_level_parse(const char *text, enum log_level *out);

/* True if records of that level are written: to skip costly preparation. */
bool log_enabled(enum log_level level);

/* Key and value pairs follow, as const char *, ended by NULL:
 *   log_event(LOG_INFO_LEVEL, "store", "opened", "rows", "12", NULL) */
void log_event(enum log_level level, const char *part, const char *sentence, ...) __attribute__((sentinel));

#define log_error(part, ...) log_event(LOG_ERROR_LEVEL, part, __VA_ARGS__, NULL)
#define log_warn(part, ...) log_event(LOG_WARN_LEVEL, part, __VA_ARGS__, NULL)
#define log_info(part, ...) log_event(LOG_INFO_LEVEL, part, __VA_ARGS__, NULL)
#define log_debug(part, ...) log_event(LOG_DEBUG_LEVEL, part, __VA_ARGS__, NULL)

/* With true, what this thread says is kept nowhere, because what it does is only tried. Returns what was set.
 */
bool log_quiet(bool quiet);

/* What was logged last, from the beginning of a record, at most LOG_KEPT_MAX bytes; the caller frees. */
#define LOG_KEPT_MAX (128 * 1024)
char *log_kept(void);

/* Decimal text on the stack of the calling expression, for log values. */
#define LOG_INT(n) log_int_format((n), (char[24]){0})
char *log_int_format(long long n, char out[static 24]);
