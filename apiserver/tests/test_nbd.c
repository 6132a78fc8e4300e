/* The beginning of NBD connections: what is answered to what, byte by byte, whole and in pieces. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <nbd/hello.h>
#include <stdio.h>
#include <string.h>

#define FLAGS_FIXED "\0\0\0\1"
#define FLAGS_BOTH "\0\0\0\3"
#define OPT(n) "IHAVEOPT\0\0\0" n
#define REP(n) "\x00\x03\xe8\x89\x04\x55\x65\xa9\0\0\0" n
#define ACK "\0\0\0\1\0\0\0\0"
#define UNSUP "\x80\0\0\1\0\0\0\0"
#define INVALID "\x80\0\0\3\0\0\0\0"
#define TLS_REQUIRED "\x80\0\0\5\0\0\0\x21this server answers over TLS only"
#define BYTES(text) (text), sizeof(text) - 1

struct exchange {
    bool tls;
    const char *in;
    size_t in_len;
    const char *out; /* behind the greeting */
    size_t out_len;
    enum nbd_want want;
    const char *name; /* with NBD_WANT_EXPORT */
};

static const struct exchange table[] = {
    {false, BYTES(""), BYTES(""), NBD_WANT_MORE, NULL},
    {false, BYTES("\0\0\0\0"), BYTES(""), NBD_WANT_END, NULL},   /* the old negotiation */
    {false, BYTES("\0\0\0\x81"), BYTES(""), NBD_WANT_END, NULL}, /* a flag that nobody knows */
    {false, BYTES(FLAGS_FIXED "IHAVEOPX\0\0\0\1\0\0\0\0"), BYTES(""), NBD_WANT_END, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\1") "\xff\xff\xff\xff"), BYTES(""), NBD_WANT_END, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\2") "\0\0\0\0"), BYTES(REP("\2") ACK), NBD_WANT_END, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\1") "\0\0\0\4/abc"), BYTES(""), NBD_WANT_EXPORT, "/abc"},
    {false, BYTES(FLAGS_FIXED OPT("\1") "\0\0\0\4/a\0c"), BYTES(""), NBD_WANT_END, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\1") "\0\0\0\4/ab"), BYTES(""), NBD_WANT_MORE, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\3") "\0\0\0\0"), BYTES(REP("\3") UNSUP), NBD_WANT_MORE, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\12") "\0\0\0\0"), BYTES(REP("\12") UNSUP), NBD_WANT_MORE, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\10") "\0\0\0\0"), BYTES(REP("\10") ACK), NBD_WANT_MORE, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\10") "\0\0\0\1x"), BYTES(REP("\10") INVALID), NBD_WANT_MORE, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\5") "\0\0\0\0"), BYTES(REP("\5") ACK), NBD_WANT_TLS, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\7") "\0\0\0\x0a\0\0\0\4name\0\0"), BYTES(""), NBD_WANT_EXPORT, "name"},
    {false, BYTES(FLAGS_FIXED OPT("\6") "\0\0\0\x0c\0\0\0\4name\0\1\0\3"), BYTES(""), NBD_WANT_EXPORT,
     "name"},
    {false, BYTES(FLAGS_FIXED OPT("\7") "\0\0\0\x0a\0\0\0\xffname\0\0"), BYTES(REP("\7") INVALID),
     NBD_WANT_MORE, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\7") "\0\0\0\x0a\0\0\0\4name\0\1"), BYTES(REP("\7") INVALID),
     NBD_WANT_MORE, NULL},
    {false, BYTES(FLAGS_FIXED OPT("\7") "\0\0\0\2\0\0"), BYTES(REP("\7") INVALID), NBD_WANT_MORE, NULL},
    {true, BYTES(FLAGS_FIXED OPT("\1") "\0\0\0\4/abc"), BYTES(""), NBD_WANT_END, NULL},
    {true, BYTES(FLAGS_FIXED OPT("\7") "\0\0\0\x0a\0\0\0\4name\0\0"), BYTES(REP("\7") TLS_REQUIRED),
     NBD_WANT_MORE, NULL},
    {true, BYTES(FLAGS_FIXED OPT("\3") "\0\0\0\0" OPT("\5") "\0\0\0\0"),
     BYTES(REP("\3") TLS_REQUIRED REP("\5") ACK), NBD_WANT_TLS, NULL},
    {true, BYTES(FLAGS_FIXED OPT("\2") "\0\0\0\0"), BYTES(REP("\2") ACK), NBD_WANT_END, NULL},
};

/* All at once, or byte by byte. */
static void run(const struct exchange *e, size_t step, size_t index)
{
    static struct nbd_hello h;
    AUTO_BUF struct buf in = BUF_INIT, out = BUF_INIT;
    nbd_hello_begin(&h, e->tls, &out);
    cr_assert_eq(out.len, 18);
    cr_assert_eq(memcmp(out.data, "NBDMAGICIHAVEOPT\0\3", 18), 0);
    buf_clear(&out);
    enum nbd_want want = NBD_WANT_MORE;
    for (size_t at = 0; at < e->in_len && want == NBD_WANT_MORE; at += step) {
        buf_add(&in, e->in + at, step < e->in_len - at ? step : e->in_len - at);
        want = nbd_hello_feed(&h, &in, &out);
    }
    cr_expect_eq(want, e->want, "%zu: %d", index, want);
    cr_expect_eq(out.len, e->out_len, "%zu: %zu", index, out.len);
    cr_expect(out.len == e->out_len && (out.len == 0 || memcmp(out.data, e->out, out.len) == 0), "%zu",
              index);
    if (e->name)
        cr_expect_str_eq(h.name, e->name, "%zu", index);
}

Test(nbd, negotiation, .timeout = 120)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        run(&table[i], 1, i);
        run(&table[i], 1000, i);
    }
}

Test(nbd, after_tls_nothing_of_before_counts, .timeout = 120)
{
    static struct nbd_hello h;
    AUTO_BUF struct buf in = BUF_INIT, out = BUF_INIT;
    nbd_hello_begin(&h, true, &out);
    buf_add(&in, BYTES(FLAGS_FIXED OPT("\5") "\0\0\0\0"));
    cr_assert_eq(nbd_hello_feed(&h, &in, &out), NBD_WANT_TLS);
    nbd_hello_secured(&h);
    buf_clear(&out);
    buf_add(&in, BYTES(OPT("\5") "\0\0\0\0" OPT("\1") "\0\0\0\1x"));
    cr_assert_eq(nbd_hello_feed(&h, &in, &out), NBD_WANT_EXPORT); /* no second TLS */
    cr_assert_eq(out.len, 20);
    cr_assert_eq(memcmp(out.data + 12, INVALID, 8), 0);
}

Test(nbd, options_are_counted, .timeout = 120)
{
    static struct nbd_hello h;
    AUTO_BUF struct buf in = BUF_INIT, out = BUF_INIT;
    nbd_hello_begin(&h, false, &out);
    buf_add(&in, BYTES(FLAGS_FIXED));
    size_t answered = 0;
    for (; answered < 1000; answered++) {
        buf_add(&in, BYTES(OPT("\3") "\0\0\0\0"));
        if (nbd_hello_feed(&h, &in, &out) == NBD_WANT_END)
            break;
    }
    cr_assert_eq(answered, 100, "%zu", answered);
}

Test(nbd, an_export_is_told, .timeout = 120)
{
    static const struct {
        const char *in;
        size_t in_len;
        bool begins;
        size_t out_len;
    } cases[] = {
        {BYTES(FLAGS_FIXED OPT("\1") "\0\0\0\1x"), true, 134},
        {BYTES(FLAGS_BOTH OPT("\1") "\0\0\0\1x"), true, 10},
        {BYTES(FLAGS_BOTH OPT("\7") "\0\0\0\7\0\0\0\1x\0\0"), true, 52},
        {BYTES(FLAGS_BOTH OPT("\6") "\0\0\0\7\0\0\0\1x\0\0"), false, 52},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        static struct nbd_hello h;
        AUTO_BUF struct buf in = BUF_INIT, out = BUF_INIT;
        nbd_hello_begin(&h, false, &out);
        buf_add(&in, cases[i].in, cases[i].in_len);
        cr_assert_eq(nbd_hello_feed(&h, &in, &out), NBD_WANT_EXPORT, "%zu", i);
        buf_clear(&out);
        cr_expect_eq(nbd_hello_refuse(&h, NBD_REFUSED_UNKNOWN, "no", &out), i >= 2, "%zu", i);
        buf_clear(&out);
        cr_expect_eq(nbd_hello_export(&h, 0x123456789a, 0x0103, &out), cases[i].begins, "%zu", i);
        cr_expect_eq(out.len, cases[i].out_len, "%zu: %zu", i, out.len);
        const char *size = out.data + (i < 2 ? 0 : 22);
        cr_expect_eq(memcmp(size, "\0\0\0\x12\x34\x56\x78\x9a\1\3", 10), 0, "%zu", i);
    }
}

Test(nbd, names, .timeout = 120)
{
#define UUID "01234567-89ab-cdef-0123-456789abcdef"
    static const struct {
        const char *name, *session; /* NULL: refused */
    } names[] = {
        {"/" UUID "?session_id=OpaqueRef:1", "OpaqueRef:1"},
        {UUID "?session_id=OpaqueRef:1", "OpaqueRef:1"},
        {"/" UUID "?other=2&session_id=OpaqueRef:1&more", "OpaqueRef:1"},
        {"/" UUID, NULL},
        {"/" UUID "?", NULL},
        {"/" UUID "?session_id=", NULL},
        {"/" UUID "?session_ix=OpaqueRef:1", NULL},
        {"/" UUID "0?session_id=OpaqueRef:1", NULL},
        {"//" UUID "?session_id=OpaqueRef:1", NULL},
        {"/" UUID "?session_id=0123456789012345678901234567890123456789012345678901234567890123", NULL},
        {"", NULL},
        {"?", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char uuid[NBD_UUID_SIZE], session[NBD_SESSION_SIZE];
        bool good = nbd_name_parse(names[i].name, uuid, session);
        cr_assert_eq(good, names[i].session != NULL, "%s", names[i].name);
        if (good) {
            cr_expect_str_eq(uuid, UUID);
            cr_expect_str_eq(session, names[i].session);
        }
    }
}
