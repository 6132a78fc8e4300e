/* Certificates: what is issued, what is refused, what the files look like. */
#include <base/clock.h>
#include <base/file.h>
#include <base/mem.h>
#include <base/pki.h>
#include <criterion/criterion.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>

struct folder {
    char dir[32];
    char *ca, *ca_key, *cert, *key;
    struct pki_error error;
};

static struct folder folder_new(void)
{
    struct folder f = {.dir = "/tmp/corral-pki-XXXXXX"};
    cr_assert_not_null(mkdtemp(f.dir));
    f.ca = xasprintf("%s/ca.pem", f.dir);
    f.ca_key = xasprintf("%s/ca.key", f.dir);
    f.cert = xasprintf("%s/leaf.pem", f.dir);
    f.key = xasprintf("%s/leaf.key", f.dir);
    cr_assert_eq(pki_create_ca("Test CA", 100, f.ca, f.ca_key, &f.error), 0, "%s", f.error.text);
    return f;
}

static void folder_done(struct folder *f)
{
    char *const files[] = {f->ca, f->ca_key, f->cert, f->key};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        unlink(files[i]);
        free(files[i]);
    }
    cr_assert_eq(rmdir(f->dir), 0, "something was left behind");
}

static char *read_all(const char *path)
{
    char *text = file_read(path, 100000, NULL);
    cr_assert_not_null(text, "%s", path);
    return text;
}

static const struct pki_leaf server_leaf = {
    .common_name = "server",
    .dns = (const char *const[]){"localhost", "pool.example", NULL},
    .ip = (const char *const[]){"127.0.0.1", "::1", NULL},
    .usage = PKI_SERVER,
    .days = 30,
};

Test(pki, files_and_modes)
{
    struct folder f = folder_new();
    struct stat st;
    cr_assert_eq(stat(f.ca_key, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_eq(pki_create_ca("Other", 100, f.ca, f.ca_key, &f.error), -1, "a CA was overwritten");
    cr_assert_eq(pki_issue_files(f.ca, f.ca_key, &server_leaf, f.cert, f.key, &f.error), 0, "%s",
                 f.error.text);
    cr_assert_eq(stat(f.key, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    AUTO_FREE char *chain = read_all(f.cert);
    AUTO_FREE char *ca = read_all(f.ca);
    cr_assert_not_null(strstr(chain, ca), "the chain lacks its root");
    cr_assert(pki_key_matches(chain, f.key) && !pki_key_matches(chain, f.ca_key));
    folder_done(&f);
}

Test(pki, names_and_usage_are_checked)
{
    struct folder f = folder_new(), other = folder_new();
    cr_assert_eq(pki_issue_files(f.ca, f.ca_key, &server_leaf, f.cert, f.key, &f.error), 0);
    AUTO_FREE char *cert = read_all(f.cert);
    AUTO_FREE char *ca = read_all(f.ca);
    AUTO_FREE char *other_ca = read_all(other.ca);
    static const char *const good[] = {"localhost", "LOCALHOST", "pool.example", "127.0.0.1", "::1"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        cr_assert_eq(pki_check(cert, ca, PKI_SERVER, good[i], &f.error), 0, "%s: %s", good[i], f.error.text);
    cr_assert_eq(pki_check(cert, ca, PKI_SERVER, NULL, &f.error), 0);
    static const char *const bad[] = {"server", "example", "x.localhost", "127.0.0.2", "::2"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(pki_check(cert, ca, PKI_SERVER, bad[i], &f.error), -1, "%s", bad[i]);
    cr_assert_eq(pki_check(cert, ca, PKI_CLIENT, NULL, &f.error), -1);
    cr_assert_eq(pki_check(cert, other_ca, PKI_SERVER, NULL, &f.error), -1);
    cr_assert_eq(pki_check("nonsense", ca, PKI_SERVER, NULL, &f.error), -1);
    cr_assert_eq(pki_check(cert, "", PKI_SERVER, NULL, &f.error), -1);
    folder_done(&f);
    folder_done(&other);
}

Test(pki, the_issuer_states_the_names_not_the_request)
{
    struct folder f = folder_new();
    AUTO_FREE char *csr = NULL;
    cr_assert_eq(pki_create_request("poold.corral.internal", f.key, &csr, &f.error), 0, "%s", f.error.text);
    struct pki_leaf leaf = {.common_name = "host-1",
                            .dns = (const char *const[]){"host-1.internal", NULL},
                            .usage = PKI_SERVER,
                            .days = 10};
    AUTO_FREE char *cert = NULL;
    cr_assert_eq(pki_issue_from_request(f.ca, f.ca_key, csr, strlen(csr), &leaf, &cert, &f.error), 0, "%s",
                 f.error.text);
    AUTO_FREE char *ca = read_all(f.ca);
    cr_assert_eq(pki_check(cert, ca, PKI_SERVER, "host-1.internal", &f.error), 0, "%s", f.error.text);
    cr_assert_eq(pki_check(cert, ca, PKI_SERVER, "poold.corral.internal", &f.error), -1);
    cr_assert(pki_key_matches(cert, f.key));
    BIO *bio = BIO_new_mem_buf(cert, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    char cn[64];
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, cn, sizeof(cn));
    cr_assert_str_eq(cn, "host-1");
    X509_free(x);
    BIO_free(bio);
    folder_done(&f);
}

Test(pki, a_request_keeps_an_existing_key)
{
    struct folder f = folder_new();
    AUTO_FREE char *first = NULL;
    AUTO_FREE char *second = NULL;
    cr_assert_eq(pki_create_request("a", f.key, &first, &f.error), 0);
    AUTO_FREE char *key = read_all(f.key);
    cr_assert_eq(pki_create_request("a", f.key, &second, &f.error), 0);
    AUTO_FREE char *key_now = read_all(f.key);
    cr_assert_str_eq(key, key_now);
    folder_done(&f);
}

Test(pki, requests_that_are_refused)
{
    struct folder f = folder_new();
    AUTO_FREE char *csr = NULL;
    AUTO_FREE char *cert = NULL;
    cr_assert_eq(pki_create_request("a", f.key, &csr, &f.error), 0);
    cr_assert_eq(pki_issue_from_request(f.ca, f.ca_key, "junk", 4, &server_leaf, &cert, &f.error), -1);
    cr_assert_eq(pki_issue_from_request(f.ca, f.ca_key, "", 0, &server_leaf, &cert, &f.error), -1);
    AUTO_FREE char *huge = xcalloc(1, 20000);
    cr_assert_eq(pki_issue_from_request(f.ca, f.ca_key, huge, 20000, &server_leaf, &cert, &f.error), -1);
    /* A changed byte: the signature over the request no longer fits. */
    BIO *bio = BIO_new_mem_buf(csr, -1);
    X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "O", MBSTRING_ASC,
                               (const unsigned char *)"x", -1, -1, 0);
    BIO *out = BIO_new(BIO_s_mem());
    char *text;
    /* Encode anew with the changed subject but the old signature. */
    i2d_re_X509_REQ_tbs(request, NULL);
    PEM_write_bio_X509_REQ(out, request);
    long len = BIO_get_mem_data(out, &text);
    cr_assert_eq(pki_issue_from_request(f.ca, f.ca_key, text, (size_t)len, &server_leaf, &cert, &f.error),
                 -1);
    cr_assert_not_null(strstr(f.error.text, "signature"), "%s", f.error.text);
    BIO_free(out);
    BIO_free(bio);
    X509_REQ_free(request);
    /* A weak key. */
    EVP_PKEY *rsa = EVP_RSA_gen(1024);
    X509_REQ *weak = X509_REQ_new();
    X509_REQ_set_pubkey(weak, rsa);
    X509_REQ_sign(weak, rsa, EVP_sha256());
    out = BIO_new(BIO_s_mem());
    PEM_write_bio_X509_REQ(out, weak);
    len = BIO_get_mem_data(out, &text);
    cr_assert_eq(pki_issue_from_request(f.ca, f.ca_key, text, (size_t)len, &server_leaf, &cert, &f.error),
                 -1);
    cr_assert_not_null(strstr(f.error.text, "key"), "%s", f.error.text);
    BIO_free(out);
    X509_REQ_free(weak);
    EVP_PKEY_free(rsa);
    folder_done(&f);
}

Test(pki, malformed_names_are_refused)
{
    struct folder f = folder_new();
    static const char *const bad_dns[] = {"a,DNS:b", "a b", "", "a\nb", "*"};
    static const char *const bad_ip[] = {"localhost", "1.2.3", "", "1.2.3.4,IP:5.6.7.8"};
    for (size_t i = 0; i < ARRAY_LEN(bad_dns); i++) {
        struct pki_leaf leaf = server_leaf;
        leaf.dns = (const char *const[]){bad_dns[i], NULL};
        cr_assert_eq(pki_issue_files(f.ca, f.ca_key, &leaf, f.cert, f.key, &f.error), -1, "%s", bad_dns[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad_ip); i++) {
        struct pki_leaf leaf = server_leaf;
        leaf.ip = (const char *const[]){bad_ip[i], NULL};
        cr_assert_eq(pki_issue_files(f.ca, f.ca_key, &leaf, f.cert, f.key, &f.error), -1, "%s", bad_ip[i]);
    }
    struct pki_leaf leaf = server_leaf;
    leaf.usage = 0;
    cr_assert_eq(pki_issue_files(f.ca, f.ca_key, &leaf, f.cert, f.key, &f.error), -1);
    cr_assert_neq(access(f.key, F_OK), 0);
    folder_done(&f);
}

Test(pki, fingerprint_expiry_and_serial)
{
    struct folder f = folder_new();
    cr_assert_eq(pki_issue_files(f.ca, f.ca_key, &server_leaf, f.cert, f.key, &f.error), 0);
    AUTO_FREE char *cert = read_all(f.cert);
    cr_assert_eq(pki_issue_files(f.ca, f.ca_key, &server_leaf, f.cert, f.key, &f.error), 0);
    AUTO_FREE char *next = read_all(f.cert);
    char a[SHA256_TEXT_SIZE], b[SHA256_TEXT_SIZE];
    cr_assert_eq(pki_fingerprint(cert, strlen(cert), a, &f.error), 0);
    cr_assert_eq(pki_fingerprint(next, strlen(next), b, &f.error), 0);
    cr_assert_eq(strlen(a), 64);
    cr_assert_str_neq(a, b);
    cr_assert_eq(pki_fingerprint("x", 1, a, &f.error), -1);
    long long end;
    cr_assert_eq(pki_expiry(cert, &end, &f.error), 0);
    long long expected = clock_unix_seconds() + 30 * 86400;
    cr_assert(end > expected - 60 && end < expected + 60);
    folder_done(&f);
}

Test(pki, an_expired_certificate)
{
    struct folder f = folder_new();
    struct pki_leaf leaf = server_leaf;
    leaf.days = 0;
    cr_assert_eq(pki_issue_files(f.ca, f.ca_key, &leaf, f.cert, f.key, &f.error), 0);
    AUTO_FREE char *cert = read_all(f.cert);
    AUTO_FREE char *ca = read_all(f.ca);
    long long end;
    cr_assert_eq(pki_expiry(cert, &end, &f.error), 0);
    /* It ends with the second in which it was made. */
    while (clock_unix_seconds() <= end)
        usleep(20000);
    cr_assert_eq(pki_check(cert, ca, PKI_SERVER, NULL, &f.error), -1);
    cr_assert_not_null(strstr(f.error.text, "expired"), "%s", f.error.text);
    folder_done(&f);
}
