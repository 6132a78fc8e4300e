#include <base/digest.h>
#include <base/mem.h>
#include <criterion/criterion.h>

/* FIPS 180-4's and RFC 1321's examples. */
Test(digest, of_text)
{
    static const struct {
        enum digest_kind kind;
        const char *text, *digest;
    } rows[] = {
        {DIGEST_MD5, "", "d41d8cd98f00b204e9800998ecf8427e"},
        {DIGEST_MD5, "abc", "900150983cd24fb0d6963f7d28e17f72"},
        {DIGEST_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {DIGEST_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned char sum[DIGEST_SIZE], again[DIGEST_SIZE];
        char text[DIGEST_TEXT_SIZE];
        size_t len = strlen(rows[i].text);
        cr_assert(digest_of(rows[i].kind, rows[i].text, len, sum));
        cr_assert_str_eq(digest_text(rows[i].kind, sum, text), rows[i].digest);
        cr_assert_eq(strlen(text), 2 * digest_size(rows[i].kind));

        AUTO_DIGESTER struct digester *d = digester_new(rows[i].kind);
        digester_add(d, "what is forgotten", 17);
        digester_reset(d);
        for (size_t at = 0; at < len; at++)
            digester_add(d, rows[i].text + at, 1);
        cr_assert(digester_end(d, again));
        cr_assert_arr_eq(again, sum, digest_size(rows[i].kind));
    }
    cr_assert_eq(digest_size(DIGEST_NONE), 0);
}
