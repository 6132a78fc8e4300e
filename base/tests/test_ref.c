/* References and uuids: what is one and what is not. */
#include <base/mem.h>
#include <base/ref.h>
#include <criterion/criterion.h>

#define SOME "0123abcd-4567-89ab-cdef-fedcba987654"

Test(ref, text_and_back)
{
    struct ref r;
    cr_assert(ref_parse("OpaqueRef:" SOME, &r));
    cr_assert(r.hi == UINT64_C(0x0123abcd456789ab) && r.lo == UINT64_C(0xcdeffedcba987654));
    cr_assert_str_eq(REF_TEXT(r), "OpaqueRef:" SOME);
    cr_assert(uuid_parse(SOME, &r));
    cr_assert_str_eq(UUID_TEXT(r), SOME);
    cr_assert(uuid_parse("0123ABCD-4567-89AB-CDEF-FEDCBA987654", &r));
    cr_assert_str_eq(UUID_TEXT(r), SOME);
}

Test(ref, null_has_its_own_text)
{
    struct ref r = {1, 2};
    cr_assert(ref_parse("OpaqueRef:NULL", &r) && ref_is_null(r));
    r.hi = 1;
    cr_assert(ref_parse("", &r) && ref_is_null(r));
    cr_assert_str_eq(REF_TEXT(REF_NULL), "OpaqueRef:NULL");
}

Test(ref, refuses_what_is_not_one)
{
    static const char *const bad[] = {
        "O",
        "OpaqueRef:",
        "OpaqueRef",
        "OpaqueRef:NUL",
        "OpaqueRef:NULLx",
        "OpaqueRef:" SOME "0",
        "OpaqueRef:0123abcd-4567-89ab-cdef-fedcba98765",
        "opaqueref:" SOME,
        SOME,
        " OpaqueRef:" SOME,
        "OpaqueRef:0123abcd-4567-89ab-cdef_fedcba987654",
        "OpaqueRef:g123abcd-4567-89ab-cdef-fedcba987654",
        "OpaqueRef:0123abcd456789abcdeffedcba987654",
        "OpaqueRef:0123abcd-4567-89ab-cdef-fedcba98765\xc3",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct ref r = {1, 2};
        cr_assert_not(ref_parse(bad[i], &r), "%s", bad[i]);
        cr_assert(r.hi == 1 && r.lo == 2);
    }
    /* Every shorter text is refused without reading beyond its end (a heap copy, so that ASan sees). */
    for (size_t len = 0; len < 36; len++) {
        AUTO_FREE char *cut = xstrndup(SOME, len);
        struct ref r;
        cr_assert_not(uuid_parse(cut, &r));
    }
}

Test(ref, fresh_ones_differ_and_are_version_4)
{
    for (int i = 0; i < 1000; i++) {
        struct ref a = ref_new(), b = ref_new();
        cr_assert_not(ref_eq(a, b));
        char text[UUID_TEXT_SIZE];
        uuid_format(a, text);
        cr_assert_eq(text[14], '4');
        cr_assert(strchr("89ab", text[19]) != NULL);
    }
}

Test(ref, order_is_that_of_the_bytes)
{
    struct ref a = {1, 9}, b = {2, 0}, c = {2, 1};
    cr_assert(ref_cmp(a, b) < 0 && ref_cmp(b, c) < 0 && ref_cmp(c, a) > 0 && ref_cmp(b, b) == 0);
}
