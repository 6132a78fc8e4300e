/* Log records: built in one buffer, written by one write(2). Quoting keeps a record on its line. */
#include <base/buf.h>
#include <base/log.h>
#include <base/mem.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static _Atomic int log_threshold = LOG_INFO_LEVEL;
static const char *_Atomic log_program = "corral";
static _Thread_local bool log_muted;

void log_init(const char *program, enum log_level level)
{
    log_program = program;
    log_threshold = (int)level;
}

bool log_enabled(enum log_level level)
{
    return !log_muted && (int)level <= atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

bool log_quiet(bool quiet)
{
    bool before = log_muted;
    log_muted = quiet;
    return before;
}

bool log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (streq(text, level_names[i])) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

char *log_int_format(long long n, char out[static 24])
{
    snprintf(out, 24, "%lld", n);
    return out;
}

static bool is_plain(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("-_.:/@+,%", c));
}

static void add_value(struct buf *b, const char *value)
{
    const unsigned char *p = (const unsigned char *)value;
    while (is_plain(*p))
        p++;
    if (*p == '\0' && *value) {
        buf_add_str(b, value);
        return;
    }
    buf_add_char(b, '"');
    for (p = (const unsigned char *)value; *p; p++) {
        if (*p == '"' || *p == '\\') {
            buf_add_char(b, '\\');
            buf_add_char(b, (char)*p);
        } else if (*p == '\n') {
            buf_add_str(b, "\\n");
        } else if (*p < 0x20 || *p >= 0x7f) {
            buf_printf(b, "\\x%02x", *p);
        } else {
            buf_add_char(b, (char)*p);
        }
    }
    buf_add_char(b, '"');
}

/* The sentence is the program's own text; control characters are replaced all the same. */
static void add_sentence(struct buf *b, const char *s)
{
    for (; *s; s++)
        buf_add_char(b, (unsigned char)*s < 0x20 || *s == 0x7f ? ' ' : *s);
}

/* ---- what was said last ---- */

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static char kept[LOG_KEPT_MAX];
static size_t kept_at;   /* where the next byte goes */
static bool kept_filled; /* it has begun anew at least once */

static void keep(const char *data, size_t len)
{
    if (len >= sizeof(kept))
        return;
    pthread_mutex_lock(&kept_lock);
    size_t first = sizeof(kept) - kept_at < len ? sizeof(kept) - kept_at : len;
    memcpy(kept + kept_at, data, first);
    memcpy(kept, data + first, len - first);
    kept_filled = kept_filled || kept_at + len >= sizeof(kept);
    kept_at = (kept_at + len) % sizeof(kept);
    pthread_mutex_unlock(&kept_lock);
}

char *log_kept(void)
{
    struct buf out = BUF_INIT;
    pthread_mutex_lock(&kept_lock);
    if (kept_filled) {
        buf_add(&out, kept + kept_at, sizeof(kept) - kept_at);
        buf_add(&out, kept, kept_at);
    } else {
        buf_add(&out, kept, kept_at);
    }
    bool cut = kept_filled;
    pthread_mutex_unlock(&kept_lock);
    buf_add_char(&out, '\0');
    char *text = buf_take(&out);
    const char *line = cut ? strchr(text, '\n') : NULL;
    if (line)
        memmove(text, line + 1, strlen(line + 1) + 1);
    return text;
}

void log_event(enum log_level level, const char *part, const char *sentence, ...)
{
    if (!log_enabled(level))
        return;
    AUTO_BUF struct buf b = BUF_INIT;
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    buf_printf(&b, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s %s: ", utc.tm_year + 1900, utc.tm_mon + 1,
               utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000000, log_program,
               level_names[level], part);
    add_sentence(&b, sentence);
    va_list ap;
    va_start(ap, sentence);
    for (const char *key; (key = va_arg(ap, const char *));) {
        const char *value = va_arg(ap, const char *);
        buf_add_char(&b, ' ');
        buf_add_str(&b, key);
        buf_add_char(&b, '=');
        add_value(&b, value ? value : "-");
    }
    va_end(ap);
    buf_add_char(&b, '\n');
    keep(b.data, b.len);
    /* A log that cannot be written has nobody left to be told. */
    ssize_t ignored = write(STDERR_FILENO, b.data, b.len);
    (void)ignored;
}
