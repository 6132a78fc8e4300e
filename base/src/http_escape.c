/* Percent-encoding (RFC 3986, 2.1): for everybody who writes a path or a query. */
#include <base/buf.h>
#include <base/http.h>
#include <stdbool.h>
#include <string.h>

void http_escape(struct buf *b, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     strchr("-._~", *p);
        if (plain) {
            buf_add_char(b, (char)*p);
        } else {
            char escaped[3] = {'%', hex[*p >> 4], hex[*p & 15]};
            buf_add(b, escaped, 3);
        }
    }
}
