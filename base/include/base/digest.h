/* Message digests of bytes as they come, by OpenSSL. A digester belongs to one thread at a time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum digest_kind { DIGEST_NONE, DIGEST_MD5, DIGEST_SHA1, DIGEST_SHA256 };
#define DIGEST_SIZE 32 /* bytes of the longest */
/* Bytes of this kind's digests; 0 of DIGEST_NONE. */
size_t digest_size(enum digest_kind kind);
/* Lower-case hexadecimal digits and a NUL. Returns `out`. */
#define DIGEST_TEXT_SIZE (2 * DIGEST_SIZE + 1)
char *digest_text(enum digest_kind kind, const unsigned char sum[static DIGEST_SIZE],
                  char out[static DIGEST_TEXT_SIZE]);

/* Of any kind but DIGEST_NONE, as below. */
bool digest_of(enum digest_kind kind, const void *data, size_t len, unsigned char sum[static DIGEST_SIZE]);
struct digester;
struct digester *digester_new(enum digest_kind kind);
void digester_add(struct digester *d, const void *data, size_t len);
/* The digest of what was added, once: then it must be reset. False: OpenSSL's configuration forbids this
 * kind. */
bool digester_end(struct digester *d, unsigned char sum[static DIGEST_SIZE]);
void digester_reset(struct digester *d);
void digester_free(struct digester *d);
void digester_free_cleanup(struct digester **d);
#define AUTO_DIGESTER __attribute__((cleanup(digester_free_cleanup)))
