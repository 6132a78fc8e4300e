/* The negotiation of NBD: whatever comes, in whatever pieces, answers stay within bounds and it ends. The
 * first byte says whether TLS is needed and how long the pieces are. */
#include <assert.h>
#include <nbd/hello.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct nbd_hello h;
    char uuid[NBD_UUID_SIZE], session[NBD_SESSION_SIZE];
    AUTO_BUF struct buf in = BUF_INIT, out = BUF_INIT;
    if (size == 0)
        return 0;
    size_t piece = 1 + data[0] / 2;
    nbd_hello_begin(&h, data[0] & 1, &out);
    for (size_t at = 1; at < size; at += piece) {
        buf_add(&in, data + at, piece < size - at ? piece : size - at);
        for (enum nbd_want want = NBD_WANT_TLS; want != NBD_WANT_MORE;) {
            buf_clear(&out);
            want = nbd_hello_feed(&h, &in, &out);
            assert(out.len <= 100 * 64);
            if (want == NBD_WANT_END)
                return 0;
            if (want == NBD_WANT_TLS)
                nbd_hello_secured(&h);
            if (want != NBD_WANT_EXPORT)
                continue;
            assert(!h.tls_needed || h.secure);
            (void)nbd_name_parse(h.name, uuid, session);
            if (size % 2 ? nbd_hello_export(&h, 1, 1, &out)
                         : !nbd_hello_refuse(&h, NBD_REFUSED_POLICY, "no", &out))
                return 0;
        }
    }
    return 0;
}
