#include "trail_chain.h"

#include <base/buf.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUM_BYTES (SHA256_TEXT_SIZE - 1)
#define TAIL_BYTES 65536 /* more than a line is long */

void chain_next(const char *before, const char *text, size_t len, char out[static SHA256_TEXT_SIZE])
{
    AUTO_BUF struct buf both = BUF_INIT;
    buf_add(&both, before, SUM_BYTES);
    buf_add(&both, text, len);
    sha256_text(both.data, both.len, out);
}

size_t chain_split(const char *line, size_t len, const char **sum)
{
    *sum = NULL;
    if (len > 0 && line[len - 1] == '\n')
        len--;
    if (len < CHAIN_SUFFIX_BYTES)
        return len;
    const char *suffix = line + len - CHAIN_SUFFIX_BYTES;
    if (memcmp(suffix, " #", 2) != 0)
        return len;
    for (size_t i = 2; i < CHAIN_SUFFIX_BYTES; i++)
        if (!((suffix[i] >= '0' && suffix[i] <= '9') || (suffix[i] >= 'a' && suffix[i] <= 'f')))
            return len;
    *sum = suffix + 2;
    return len - CHAIN_SUFFIX_BYTES;
}

bool chain_last(const char *path, char out[static SHA256_TEXT_SIZE], bool *cut)
{
    AUTO_FREE char *tail = xmalloc(TAIL_BYTES);
    struct stat st;
    *cut = false;
    int fd AUTO_CLOSE = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
        return false;
    off_t from = st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0;
    ssize_t got = pread(fd, tail, TAIL_BYTES, from);
    if (got <= 0)
        return false;
    *cut = tail[got - 1] != '\n';
    for (size_t end = (size_t)got; end > 0;) {
        const char *newline = memrchr(tail, '\n', end);
        if (!newline)
            return false;
        const char *before = memrchr(tail, '\n', (size_t)(newline - tail));
        const char *line = before ? before + 1 : tail, *sum;
        chain_split(line, (size_t)(newline - line), &sum);
        if (sum) {
            memcpy(out, sum, SUM_BYTES);
            out[SUM_BYTES] = '\0';
            return true;
        }
        end = (size_t)(newline - tail);
    }
    return false;
}

/* ---- verifying ---- */

struct walk {
    FILE *out;
    const char *noted;
    char last[SHA256_TEXT_SIZE]; /* "": no line with a sum yet */
    char first_stamp[32], last_stamp[32];
    size_t lines, unsummed, wrong;
    bool begins_later, noted_seen;
};

/* What stands between the first bracket and the first bar. */
static void copy_stamp(char out[static 32], const char *line, size_t len)
{
    const char *bar = memchr(line, '|', len);
    int n = bar && line[0] == '[' ? (int)(bar - line - 1) : 0;
    snprintf(out, 32, "%.*s", n < 31 ? n : 31, line + 1);
}

static void walk_line(struct walk *w, const char *path, size_t number, const char *line, size_t len)
{
    char expected[SHA256_TEXT_SIZE];
    const char *sum;
    size_t text = chain_split(line, len, &sum);
    copy_stamp(w->last_stamp, line, text);
    if (w->lines++ == 0)
        copy_stamp(w->first_stamp, line, text);
    if (!sum && !*w->last) {
        w->unsummed++; /* from before there were sums */
        return;
    }
    if (!sum) {
        w->wrong++;
        fprintf(w->out, "%s, line %zu: it has no sum, or was cut\n", path, number);
        return;
    }
    chain_next(*w->last ? w->last : CHAIN_BEGIN, line, text, expected);
    if (memcmp(expected, sum, SUM_BYTES) != 0) {
        if (*w->last) {
            w->wrong++;
            fprintf(w->out, "%s, line %zu: it, or lines before it, were changed or are missing\n", path,
                    number);
        } else {
            w->begins_later = true;
        }
    }
    memcpy(w->last, sum, SUM_BYTES);
    w->last[SUM_BYTES] = '\0';
    if (w->noted && streq(w->noted, w->last))
        w->noted_seen = true;
}

static int walk_part(struct walk *w, const char *path)
{
    AUTO_FREE char *line = NULL;
    size_t size = 0, number = 0;
    ssize_t len;
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == ENOENT ? 0 : -1;
    while ((len = getline(&line, &size, file)) > 0)
        if (line[len - 1] == '\n') /* the last one may be being written */
            walk_line(w, path, ++number, line, (size_t)len);
    int rc = ferror(file) ? -1 : 0;
    fclose(file);
    return rc;
}

int chain_verify(const char *path, const char *noted, FILE *out)
{
    struct walk w = {.out = out, .noted = noted};
    for (unsigned part = TRAIL_PARTS_KEPT + 1; part-- > 0;) {
        AUTO_FREE char *name = part ? xasprintf("%s.%u", path, part) : xstrdup(path);
        if (walk_part(&w, name) < 0) {
            fprintf(out, "%s: %s\n", name, strerror(errno));
            return -1;
        }
    }
    if (!w.lines) {
        fprintf(out, "%s: %s\n", path, access(path, R_OK) < 0 ? strerror(errno) : "there are no lines");
        return -1;
    }
    fprintf(out, "%zu lines from %s to %s\n", w.lines, w.first_stamp, w.last_stamp);
    if (w.unsummed)
        fprintf(out, "the first %zu have no sums: they were written before there were any\n", w.unsummed);
    if (w.begins_later)
        fputs("the beginning is not there: older parts were dropped\n", out);
    if (noted && !w.noted_seen)
        fprintf(out, "the sum %s is not among them: what it stood for was changed or removed\n", noted);
    fprintf(out, "last sum %s\n", *w.last ? w.last : "(none)");
    bool broken = w.wrong > 0 || (noted && !w.noted_seen);
    fputs(broken ? "BROKEN\n" : "unbroken\n", out);
    return broken ? 1 : 0;
}
