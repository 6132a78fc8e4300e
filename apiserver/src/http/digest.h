/* Digests that a request announces: Content-Digest and Repr-Digest (RFC 9530), and Upload-Checksum of tus.
 * Reading them is pure. */
#pragma once
#include <base/digest.h>

struct digest {
    enum digest_kind kind;
    unsigned char sum[DIGEST_SIZE];
};
/* "sha-256=:<base64>:", perhaps among others with commas between. What is not SHA-256 is passed over: then
 * kind is DIGEST_NONE. False: malformed. */
bool digest_read(const char *text, struct digest *out);
/* "sha1 <base64>" or "sha256 <base64>". False: malformed, or of another kind. */
bool digest_read_checksum(const char *text, struct digest *out);
/* The bytes that were added to this digester of its kind have it. */
bool digest_fits(const struct digest *expected, struct digester *of);
