/* Passwords, tokens, encodings, files. */
#include <base/file.h>
#include <base/mem.h>
#include <base/secret.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

Test(password, round_trip)
{
    AUTO_SECRET char *hash = secret_hash_password("s3cret pass", 11);
    AUTO_SECRET char *again = secret_hash_password("s3cret pass", 11);
    cr_assert_str_neq(hash, again, "the salt is missing");
    cr_assert(strncmp(hash, "$scrypt$ln=15,r=8,p=1$", 22) == 0);
    cr_assert_null(strstr(hash, "s3cret"));
    cr_assert(secret_verify_password("s3cret pass", 11, hash));
    cr_assert(secret_verify_password("s3cret pass", 11, again));
    cr_assert(!secret_verify_password("s3cret pas", 10, hash));
    cr_assert(!secret_verify_password("s3cret pass ", 12, hash));
}

Test(password, empty_and_nul_are_refused)
{
    cr_assert_null(secret_hash_password("", 0));
    cr_assert_null(secret_hash_password("\0abc", 4));
    cr_assert_null(secret_hash_password("abc\0", 4));
    AUTO_SECRET char *hash = secret_hash_password("abc", 3);
    cr_assert(!secret_verify_password("", 0, hash));
    cr_assert(!secret_verify_password("abc\0", 4, hash));
    cr_assert(!secret_verify_password("\0", 1, hash));
}

Test(password, a_known_hash_of_other_parameters)
{
    /* RFC 7914, section 12, N=16384: the first 32 bytes of the vector. */
    static const char hash[] =
        "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofI";
    cr_assert(secret_verify_password("pleaseletmein", 13, hash));
    cr_assert(!secret_verify_password("pleaseletmeout", 14, hash));
}

Test(password, malformed_hashes)
{
    static const char *const bad[] = {
        "",
        "plain",
        "$scrypt$",
        "$scrypt$ln=15,r=8,p=1$",
        "$scrypt$ln=15,r=8,p=1$$",
        "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$",
        "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA",
        "$scrypt$ln=40,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=15,r=99,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=0,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert(!secret_verify_password("x", 1, bad[i]), "%s", bad[i]);
}

Test(secret, tokens)
{
    AUTO_SECRET char *a = secret_token(32), *b = secret_token(32);
    cr_assert_eq(strlen(a), 43);
    cr_assert_str_neq(a, b);
    cr_assert_eq(strspn(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 43);
}

Test(secret, comparison)
{
    cr_assert(secret_equal_text("abc", "abc") && secret_equal_text("", ""));
    cr_assert(!secret_equal_text("abc", "abd") && !secret_equal_text("abc", "ab") &&
              !secret_equal_text("", "a"));
    cr_assert(!secret_equal("a\0b", 3, "a\0c", 3));
}

Test(secret, sha256_of_a_known_text)
{
    char text[SHA256_TEXT_SIZE];
    cr_assert_str_eq(sha256_text("abc", 3, text),
                     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

Test(base64, known_texts)
{
    static const struct {
        const char *plain, *text;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *text = base64_encode(cases[i].plain, strlen(cases[i].plain));
        cr_assert_str_eq(text, cases[i].text);
        size_t len = 99, unpadded = strcspn(cases[i].text, "=");
        AUTO_FREE char *back = base64_decode(cases[i].text, strlen(cases[i].text), &len);
        AUTO_FREE char *bare = base64_decode(cases[i].text, unpadded, &len);
        cr_assert(back && bare);
        cr_assert_str_eq(back, cases[i].plain);
        cr_assert_str_eq(bare, cases[i].plain);
        cr_assert_eq(len, strlen(cases[i].plain));
    }
    static const char *const bad[] = {
        "Z", "Zg=", "Zg===", "Z===", "====", "Zm 9", "Zm9v\n", "Zm-v", "Zh==", "Zm9="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        size_t len;
        cr_assert_null(base64_decode(bad[i], strlen(bad[i]), &len), "%s", bad[i]);
    }
}

Test(file, written_whole_with_its_mode_or_not_at_all)
{
    char dir[] = "/tmp/corral-file-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    AUTO_FREE char *path = xasprintf("%s/key", dir);
    struct stat st;
    cr_assert_eq(file_write_atomic(path, "one", 3, 0600), 0);
    cr_assert_eq(file_write_atomic(path, "two!", 4, 0600), 0);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    size_t len;
    AUTO_FREE char *text = file_read(path, 4, &len);
    cr_assert_str_eq(text, "two!");
    cr_assert_null(file_read(path, 3, &len));
    cr_assert_eq(errno, EFBIG);
    AUTO_FREE char *missing = xasprintf("%s/none/key", dir);
    cr_assert_eq(file_write_atomic(missing, "x", 1, 0600), -1);
    cr_assert_null(file_read(missing, 10, &len));
    /* A failed rename leaves no temporary file. */
    AUTO_FREE char *folder = xasprintf("%s/folder", dir);
    mkdir(folder, 0700);
    cr_assert_eq(file_write_atomic(folder, "x", 1, 0600), -1);
    rmdir(folder);
    unlink(path);
    cr_assert_eq(rmdir(dir), 0, "something was left behind");
}
