/* Ranges of bytes: "bytes=0-99", "bytes=100-", "bytes=-100". */
#include "range.h"

#include <base/mem.h>
#include <string.h>
#include <strings.h>

/* Digits at *text, which is moved behind them: false when there are none. A number too large for any size
 * counts as the largest. */
static bool read_number(const char **text, int64_t *out)
{
    int64_t n = 0;
    if (**text < '0' || **text > '9')
        return false;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        n = n > (INT64_MAX - 9) / 10 ? INT64_MAX : n * 10 + (**text - '0');
    *out = n;
    return true;
}

static const char *skip_space(const char *text)
{
    return text + strspn(text, " \t");
}

enum range_verdict range_read(const char *text, int64_t size, struct byte_range *out)
{
    int64_t first = 0, last = INT64_MAX;
    if (!text || strncasecmp(text, "bytes=", 6) != 0)
        return RANGE_ALL;
    text = skip_space(text + 6);
    bool has_first = read_number(&text, &first);
    if (*text++ != '-')
        return RANGE_ALL;
    bool has_last = read_number(&text, &last);
    if (*skip_space(text) || (!has_first && !has_last) || (has_first && has_last && last < first))
        return RANGE_ALL;
    if (!has_first) { /* the last so many */
        first = last < size ? size - last : 0;
        last = last > 0 ? INT64_MAX : -1;
    }
    if (first >= size || last < 0)
        return RANGE_NONE;
    *out = (struct byte_range){first, (last < size ? last + 1 : size) - first};
    return RANGE_PART;
}

/* A date, or a weak ETag, never says that the bytes are the same. */
bool range_counts(const char *if_range, const char *etag)
{
    return !if_range || streq(if_range, etag);
}
