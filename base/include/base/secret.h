/* Secrets: random tokens, password hashes, comparison in constant time. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* `bytes` random bytes (16 to 64) as base64url without padding, a heap string. */
char *secret_token(size_t bytes);
/* scrypt (N=2^15, r=8, p=1; 32 MiB, about 0.1 s) with a random salt, as
 * "$scrypt$ln=15,r=8,p=1$<salt>$<hash>". NULL: the password is empty. Passwords are given with their
 * length, so that one holding a NUL is refused rather than cut. The caller frees. */
char *secret_hash_password(const char *password, size_t len);
/* False also for a malformed `hash`, an empty password or one with a NUL. Takes the time of a hash either way
 * (a malformed hash excepted): call it on a worker thread. */
bool secret_verify_password(const char *password, size_t len, const char *hash);
/* Equal bytes, in time that depends on the lengths alone. */
bool secret_equal(const void *a, size_t a_len, const void *b, size_t b_len);
bool secret_equal_text(const char *a, const char *b);
/* Zeroes memory in a way that the compiler keeps. */
void secret_wipe(void *p, size_t len);
/* Cleanup of a heap string: wiped, then freed. */
void secret_free_cleanup(char **text);
#define AUTO_SECRET __attribute__((cleanup(secret_free_cleanup)))

/* Hash of bytes as 64 lower-case hexadecimal digits and a NUL: what is stored in place of a token. */
#define SHA256_TEXT_SIZE 65
char *sha256_text(const void *data, size_t len, char out[static SHA256_TEXT_SIZE]);
/* Standard base64, a heap string. Decoding accepts padding or none, nothing else (no white space); NULL: not
 * base64. The result has a NUL behind its *len bytes. */
char *base64_encode(const void *data, size_t len);
char *base64_decode(const char *text, size_t text_len, size_t *len);
