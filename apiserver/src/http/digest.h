/* Digests that a request announces: Content-Digest and Repr-Digest (RFC 9530), and Upload-Checksum of tus.
 * Reading them is pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum digest_kind { DIGEST_NONE, DIGEST_SHA1, DIGEST_SHA256 };
struct digest {
    enum digest_kind kind;
    unsigned char sum[32];
};
/* "sha-256=:<base64>:", perhaps among others with commas between. What is not SHA-256 is passed over: then
 * kind is DIGEST_NONE. False: malformed. */
bool digest_read(const char *text, struct digest *out);
/* "sha1 <base64>" or "sha256 <base64>". False: malformed, or of another kind. */
bool digest_read_checksum(const char *text, struct digest *out);

/* Makes one of bytes as they come. */
struct digester;
struct digester *digester_new(enum digest_kind kind);
void digester_add(struct digester *d, const void *data, size_t len);
/* Frees. True if those bytes have this digest. */
bool digester_fits(struct digester *d, const struct digest *expected);
void digester_free(struct digester *d);
