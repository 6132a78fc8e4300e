/* Reads exactly what the protocol says comes next, so no byte of the transmission is taken. */
#include "upstream.h"

#include <base/buf.h>
#include <base/bytes.h>
#include <base/clock.h>
#include <errno.h>

#define FLAG_NO_ZEROES 2u
#define OPTION_EXPORT_NAME 1u
#define OPTION_STRUCTURED_REPLY 8u
#define REPLY_ACK 1u

static int read_exactly(struct stream *s, void *to, size_t len, int64_t deadline_ms)
{
    char *at = to;
    while (len > 0) {
        ssize_t n = stream_read(s, at, len);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
            continue;
        }
        int64_t left = deadline_ms - clock_mono_ms();
        if (n == 0 || errno != EAGAIN || left <= 0 || !stream_wait_readable(s, left))
            return -1;
    }
    return 0;
}

static int send_option(struct stream *s, uint32_t option, const char *data, int64_t deadline_ms)
{
    char head[16] = "IHAVEOPT";
    AUTO_BUF struct buf message = BUF_INIT;
    be32_put(head + 8, option);
    be32_put(head + 12, (uint32_t)strlen(data));
    buf_add(&message, head, sizeof(head));
    buf_add_str(&message, data);
    return stream_write_all(s, message.data, message.len, deadline_ms - clock_mono_ms());
}

int upstream_begin(struct stream *s, bool structured, int64_t timeout_ms, struct upstream_export *out)
{
    static const char client_flags[4] = {0, 0, 0, 3};
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    char greeting[18], reply[20], export[10];
    if (read_exactly(s, greeting, sizeof(greeting), deadline_ms) < 0 ||
        memcmp(greeting, "NBDMAGICIHAVEOPT", 16) != 0 || !(greeting[17] & FLAG_NO_ZEROES) ||
        stream_write_all(s, client_flags, sizeof(client_flags), timeout_ms) < 0)
        return -1;
    if (structured && (send_option(s, OPTION_STRUCTURED_REPLY, "", deadline_ms) < 0 ||
                       read_exactly(s, reply, sizeof(reply), deadline_ms) < 0 ||
                       be32_get(reply + 12) != REPLY_ACK || be32_get(reply + 16) != 0))
        return -1;
    if (send_option(s, OPTION_EXPORT_NAME, "disk", deadline_ms) < 0 ||
        read_exactly(s, export, sizeof(export), deadline_ms) < 0)
        return -1;
    out->size = be64_get(export);
    out->flags = be16_get(export + 8);
    return 0;
}
