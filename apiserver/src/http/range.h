/* The header Range (RFC 9110, section 14): which bytes are asked for. Pure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum range_verdict {
    RANGE_ALL,  /* nothing that we know of was asked for: the whole */
    RANGE_PART, /* these bytes */
    RANGE_NONE, /* bytes that are not there: 416 */
};
struct byte_range {
    int64_t from, length; /* length > 0 */
};
/* What `text` (NULL: no such header) asks of `size` bytes; *out is set for RANGE_PART. Units other than
 * bytes, several ranges and what is malformed count as no header at all, as the RFC lets a server do. */
enum range_verdict range_read(const char *text, int64_t size, struct byte_range *out);
/* A Range beside this If-Range (NULL: none) counts, for what has this ETag. */
bool range_counts(const char *if_range, const char *etag);
