/* See hello.h. Every length that the client gives is checked before anything is waited for. */
#include "hello.h"

#include <base/bytes.h>
#include <base/mem.h>
#include <stdio.h>

#define MAGIC_OPTION UINT64_C(0x49484156454f5054) /* IHAVEOPT */
#define MAGIC_REPLY UINT64_C(0x0003e889045565a9)
#define FLAG_FIXED_NEWSTYLE 1u
#define FLAG_NO_ZEROES 2u
#define OPTION_HEAD 16
#define OPTION_MAX 16384u
#define OPTIONS_MAX 100u
#define ZEROES 124

enum {
    OPT_EXPORT_NAME = 1,
    OPT_ABORT = 2,
    OPT_STARTTLS = 5,
    OPT_INFO = 6,
    OPT_GO = 7,
    OPT_STRUCTURED_REPLY = 8,
};

#define REP_ACK 1u
#define REP_INFO 3u
#define REP_ERR_UNSUP 0x80000001u
#define REP_ERR_POLICY 0x80000002u
#define REP_ERR_INVALID 0x80000003u
#define REP_ERR_TLS_REQD 0x80000005u
#define REP_ERR_UNKNOWN 0x80000006u
#define INFO_EXPORT 0u

static void put16(struct buf *out, uint16_t n)
{
    be16_put(buf_reserve(out, sizeof(n)), n);
    buf_advance(out, sizeof(n));
}

static void put32(struct buf *out, uint32_t n)
{
    be32_put(buf_reserve(out, sizeof(n)), n);
    buf_advance(out, sizeof(n));
}

static void put64(struct buf *out, uint64_t n)
{
    be64_put(buf_reserve(out, sizeof(n)), n);
    buf_advance(out, sizeof(n));
}

static void reply(struct buf *out, uint32_t option, uint32_t type, const char *text)
{
    size_t len = strlen(text);
    put64(out, MAGIC_REPLY);
    put32(out, option);
    put32(out, type);
    put32(out, (uint32_t)len);
    buf_add(out, text, len);
}

void nbd_hello_begin(struct nbd_hello *h, bool tls_needed, struct buf *out)
{
    *h = (struct nbd_hello){.tls_needed = tls_needed};
    buf_add_str(out, "NBDMAGIC");
    put64(out, MAGIC_OPTION);
    put16(out, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
}

void nbd_hello_secured(struct nbd_hello *h)
{
    h->secure = true;
    h->structured = false;
}

static enum nbd_want choose(struct nbd_hello *h, uint32_t option, const char *name, size_t len)
{
    if (len > NBD_NAME_MAX || memchr(name, '\0', len))
        return NBD_WANT_END;
    memcpy(h->name, name, len);
    h->name[len] = '\0';
    h->option = option;
    return NBD_WANT_EXPORT;
}

/* INFO and GO: length of the name, the name, how many kinds of information are wished for, these. All that is
 * told is what has to be told. */
static enum nbd_want choose_info(struct nbd_hello *h, uint32_t option, const char *data, size_t len,
                                 struct buf *out)
{
    uint32_t name_len = len >= 6 ? be32_get(data) : 0;
    if (len < 6 || name_len > len - 6 || len - 6 - name_len != 2 * (size_t)be16_get(data + 4 + name_len)) {
        reply(out, option, REP_ERR_INVALID, "");
        return NBD_WANT_MORE;
    }
    return choose(h, option, data + 4, name_len);
}

static enum nbd_want take_option(struct nbd_hello *h, uint32_t option, const char *data, size_t len,
                                 struct buf *out)
{
    bool closed = h->tls_needed && !h->secure;
    switch (option) {
    case OPT_ABORT:
        reply(out, option, REP_ACK, "");
        return NBD_WANT_END;
    case OPT_STARTTLS:
        if (len == 0 && !h->secure) {
            reply(out, option, REP_ACK, "");
            return NBD_WANT_TLS;
        }
        reply(out, option, REP_ERR_INVALID, "");
        return NBD_WANT_MORE;
    case OPT_EXPORT_NAME:
        return closed ? NBD_WANT_END : choose(h, option, data, len); /* no error can be told here */
    default:
        break;
    }
    if (closed) {
        reply(out, option, REP_ERR_TLS_REQD, "this server answers over TLS only");
        return NBD_WANT_MORE;
    }
    if (option == OPT_INFO || option == OPT_GO)
        return choose_info(h, option, data, len, out);
    if (option == OPT_STRUCTURED_REPLY && len == 0) {
        h->structured = true;
        reply(out, option, REP_ACK, "");
    } else {
        reply(out, option, option == OPT_STRUCTURED_REPLY ? REP_ERR_INVALID : REP_ERR_UNSUP, "");
    }
    return NBD_WANT_MORE;
}

static enum nbd_want take_flags(struct nbd_hello *h, uint32_t flags)
{
    if (!(flags & FLAG_FIXED_NEWSTYLE) || (flags & ~(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)))
        return NBD_WANT_END;
    h->greeted = true;
    h->no_zeroes = flags & FLAG_NO_ZEROES;
    return NBD_WANT_MORE;
}

enum nbd_want nbd_hello_feed(struct nbd_hello *h, struct buf *in, struct buf *out)
{
    enum nbd_want want = NBD_WANT_MORE;
    if (!h->greeted) {
        if (in->len < 4)
            return NBD_WANT_MORE;
        want = take_flags(h, be32_get(in->data));
        buf_consume(in, 4);
    }
    while (want == NBD_WANT_MORE && in->len >= OPTION_HEAD) {
        uint32_t option = be32_get(in->data + 8), len = be32_get(in->data + 12);
        if (be64_get(in->data) != MAGIC_OPTION || len > OPTION_MAX || ++h->options > OPTIONS_MAX)
            return NBD_WANT_END;
        if (in->len - OPTION_HEAD < len) {
            h->options--;
            return NBD_WANT_MORE;
        }
        want = take_option(h, option, in->data + OPTION_HEAD, len, out);
        buf_consume(in, OPTION_HEAD + len);
    }
    return want;
}

bool nbd_hello_export(struct nbd_hello *h, uint64_t size, uint16_t flags, struct buf *out)
{
    if (h->option == OPT_EXPORT_NAME) {
        put64(out, size);
        put16(out, flags);
        if (!h->no_zeroes) {
            memset(buf_reserve(out, ZEROES), 0, ZEROES);
            buf_advance(out, ZEROES);
        }
        return true;
    }
    put64(out, MAGIC_REPLY);
    put32(out, h->option);
    put32(out, REP_INFO);
    put32(out, 12);
    put16(out, INFO_EXPORT);
    put64(out, size);
    put16(out, flags);
    reply(out, h->option, REP_ACK, "");
    return h->option == OPT_GO;
}

bool nbd_hello_refuse(struct nbd_hello *h, enum nbd_refusal refusal, const char *text, struct buf *out)
{
    if (h->option == OPT_EXPORT_NAME)
        return false;
    reply(out, h->option, refusal == NBD_REFUSED_POLICY ? REP_ERR_POLICY : REP_ERR_UNKNOWN, text);
    return true;
}

bool nbd_name_parse(const char *name, char uuid[static NBD_UUID_SIZE], char session[static NBD_SESSION_SIZE])
{
    static const char key[] = "session_id=";
    name += *name == '/';
    size_t len = strcspn(name, "?");
    if (len != NBD_UUID_SIZE - 1 || !name[len])
        return false;
    memcpy(uuid, name, len);
    uuid[len] = '\0';
    for (const char *at = name + len + 1;; at++) {
        size_t n = strcspn(at, "&");
        if (strncmp(at, key, sizeof(key) - 1) == 0) {
            at += sizeof(key) - 1;
            n -= sizeof(key) - 1;
            if (n == 0 || n >= NBD_SESSION_SIZE)
                return false;
            memcpy(session, at, n);
            session[n] = '\0';
            return true;
        }
        at += n;
        if (!*at)
            return false;
    }
}
