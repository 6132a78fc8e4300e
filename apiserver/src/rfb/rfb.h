/* A client of the RFB protocol (RFC 6143) that wants one picture: the whole screen, raw, once. Pure: it is
 * fed what the server says and tells what to answer. The server is not trusted: sizes are bounded before
 * memory is taken. */
#pragma once
#include <base/buf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RFB_SIDE_MAX 8192
#define RFB_PIXELS_MAX (16u << 20)

enum rfb_status {
    RFB_MORE,   /* go on feeding */
    RFB_DONE,   /* the picture is whole */
    RFB_FAILED, /* `complaint` says why */
};

struct rfb_picture {
    unsigned width, height;
    uint8_t *rgb; /* width * height * 3 */
};

struct rfb {
    struct buf out; /* to be sent; the caller takes it out */
    struct rfb_picture picture;
    const char *complaint;
    /* The rest is its own. */
    struct buf in;
    int phase;
    unsigned minor, rectangles;
    size_t covered; /* pixels that came in this update */
    uint64_t skip;  /* bytes that mean nothing to us */
    unsigned x, y, w, h, row;
};

void rfb_init(struct rfb *r);
void rfb_done(struct rfb *r);
enum rfb_status rfb_feed(struct rfb *r, const void *data, size_t len);
