/* The phases of the protocol as a table: how many bytes each wants, and what it makes of them. */
#include "rfb.h"

#include <base/mem.h>
#include <stdio.h>

#define SKIP_MAX (1u << 20)
#define SECURITY_NONE 1
#define ENCODING_RAW 0
#define ENCODING_DESKTOP_SIZE (-223)

enum phase {
    PHASE_VERSION,
    PHASE_SECURITY_33,    /* protocol 3.3: the server decides */
    PHASE_SECURITY_COUNT, /* 3.7, 3.8: the server offers */
    PHASE_SECURITY_LIST,
    PHASE_SECURITY_RESULT,
    PHASE_INIT,
    PHASE_MESSAGE,
    PHASE_UPDATE,
    PHASE_RECTANGLE,
    PHASE_PIXELS,
    PHASE_COLOURS,
    PHASE_CUT_TEXT,
};

void rfb_init(struct rfb *r)
{
    *r = (struct rfb){.phase = PHASE_VERSION};
}

void rfb_done(struct rfb *r)
{
    buf_done(&r->out);
    buf_done(&r->in);
    free(r->picture.rgb);
    *r = (struct rfb){0};
}

static unsigned u16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static enum rfb_status fail(struct rfb *r, const char *complaint)
{
    r->complaint = complaint;
    return RFB_FAILED;
}

static void put_u16(struct rfb *r, unsigned value)
{
    const uint8_t bytes[] = {(uint8_t)(value >> 8), (uint8_t)value};
    buf_add(&r->out, bytes, sizeof(bytes));
}

static enum rfb_status resize(struct rfb *r, unsigned width, unsigned height)
{
    if (width == 0 || height == 0 || width > RFB_SIDE_MAX || height > RFB_SIDE_MAX ||
        width * height > RFB_PIXELS_MAX)
        return fail(r, "the screen has no size that a picture can have");
    free(r->picture.rgb);
    r->picture = (struct rfb_picture){width, height, xcalloc((size_t)width * height, 3)};
    r->covered = 0;
    return RFB_MORE;
}

/* FramebufferUpdateRequest of the whole, not incremental. */
static void ask_for_all(struct rfb *r)
{
    buf_add(&r->out, "\3\0\0\0\0\0", 6);
    put_u16(r, r->picture.width);
    put_u16(r, r->picture.height);
}

static enum rfb_status skip(struct rfb *r, uint64_t bytes)
{
    if (bytes > SKIP_MAX)
        return fail(r, "the server sends more than it needs to say");
    r->skip = bytes;
    return RFB_MORE;
}

/* ---- what the phases do: `p` has as many bytes as `wants` said ---- */

static enum rfb_status on_version(struct rfb *r, const uint8_t *p)
{
    unsigned major, minor;
    char text[13] = "";
    memcpy(text, p, 12);
    if (sscanf(text, "RFB %3u.%3u\n", &major, &minor) != 2 || major != 3)
        return fail(r, "the server does not speak RFB 3");
    r->minor = minor >= 8 ? 8 : minor == 7 ? 7 : 3;
    buf_printf(&r->out, "RFB 003.%03u\n", r->minor);
    r->phase = r->minor == 3 ? PHASE_SECURITY_33 : PHASE_SECURITY_COUNT;
    return RFB_MORE;
}

static enum rfb_status begin_init(struct rfb *r)
{
    buf_add_char(&r->out, 1); /* leave other viewers alone */
    r->phase = PHASE_INIT;
    return RFB_MORE;
}

static enum rfb_status on_security_33(struct rfb *r, const uint8_t *p)
{
    return u32(p) == SECURITY_NONE ? begin_init(r) : fail(r, "the server wants a password");
}

static enum rfb_status on_security_count(struct rfb *r, const uint8_t *p)
{
    if (p[0] == 0)
        return fail(r, "the server refuses to talk");
    r->rectangles = p[0]; /* how many types follow */
    r->phase = PHASE_SECURITY_LIST;
    return RFB_MORE;
}

static enum rfb_status on_security_list(struct rfb *r, const uint8_t *p)
{
    if (!memchr(p, SECURITY_NONE, r->rectangles))
        return fail(r, "the server wants a password");
    buf_add_char(&r->out, SECURITY_NONE);
    if (r->minor < 8)
        return begin_init(r);
    r->phase = PHASE_SECURITY_RESULT;
    return RFB_MORE;
}

static enum rfb_status on_security_result(struct rfb *r, const uint8_t *p)
{
    return u32(p) == 0 ? begin_init(r) : fail(r, "the server lets nobody in");
}

/* ServerInit: the size, a pixel format, a name. Ours: 32 bits, red in bits 16-23, little-endian. */
static enum rfb_status on_init(struct rfb *r, const uint8_t *p)
{
    static const uint8_t format[] = {0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0};
    static const uint8_t encodings[] = {2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21};
    if (resize(r, u16(p), u16(p + 2)) == RFB_FAILED || skip(r, u32(p + 20)) == RFB_FAILED)
        return RFB_FAILED;
    buf_add(&r->out, format, sizeof(format));
    buf_add(&r->out, encodings, sizeof(encodings));
    ask_for_all(r);
    r->phase = PHASE_MESSAGE;
    return RFB_MORE;
}

static enum rfb_status on_message(struct rfb *r, const uint8_t *p)
{
    static const enum phase phases[] = {PHASE_UPDATE, PHASE_COLOURS, PHASE_MESSAGE /* bell */,
                                        PHASE_CUT_TEXT};
    if (p[0] >= ARRAY_LEN(phases))
        return fail(r, "the server says what nobody asked for");
    r->phase = phases[p[0]];
    return RFB_MORE;
}

static enum rfb_status on_colours(struct rfb *r, const uint8_t *p)
{
    r->phase = PHASE_MESSAGE;
    return skip(r, 6ull * u16(p + 3));
}

static enum rfb_status on_cut_text(struct rfb *r, const uint8_t *p)
{
    r->phase = PHASE_MESSAGE;
    return skip(r, u32(p + 3));
}

/* The next rectangle, or the end of the update: is the picture whole now? */
static enum rfb_status next_rectangle(struct rfb *r)
{
    if (r->rectangles > 0) {
        r->rectangles--;
        r->phase = PHASE_RECTANGLE;
        return RFB_MORE;
    }
    if (r->covered >= (size_t)r->picture.width * r->picture.height)
        return RFB_DONE;
    ask_for_all(r);
    r->phase = PHASE_MESSAGE;
    return RFB_MORE;
}

static enum rfb_status on_update(struct rfb *r, const uint8_t *p)
{
    r->rectangles = u16(p + 1);
    return next_rectangle(r);
}

static enum rfb_status on_rectangle(struct rfb *r, const uint8_t *p)
{
    int32_t encoding = (int32_t)u32(p + 8);
    r->x = u16(p);
    r->y = u16(p + 2);
    r->w = u16(p + 4);
    r->h = u16(p + 6);
    if (encoding == ENCODING_DESKTOP_SIZE)
        return resize(r, r->w, r->h) == RFB_FAILED ? RFB_FAILED : next_rectangle(r);
    if (encoding != ENCODING_RAW)
        return fail(r, "the server sends an encoding that was not offered");
    if (r->x + r->w > r->picture.width || r->y + r->h > r->picture.height)
        return fail(r, "a rectangle lies outside of the screen");
    if (r->w == 0 || r->h == 0)
        return next_rectangle(r);
    r->row = 0;
    r->phase = PHASE_PIXELS;
    return RFB_MORE;
}

/* One row of the rectangle. */
static enum rfb_status on_pixels(struct rfb *r, const uint8_t *p)
{
    uint8_t *to = r->picture.rgb + ((size_t)(r->y + r->row) * r->picture.width + r->x) * 3;
    for (unsigned i = 0; i < r->w; i++) {
        *to++ = p[4 * i + 2];
        *to++ = p[4 * i + 1];
        *to++ = p[4 * i];
    }
    r->covered += r->w;
    return ++r->row < r->h ? RFB_MORE : next_rectangle(r);
}

static size_t wants(const struct rfb *r)
{
    static const uint8_t fixed[] = {
        [PHASE_VERSION] = 12, [PHASE_SECURITY_33] = 4,     [PHASE_SECURITY_COUNT] = 1,
        [PHASE_INIT] = 24,    [PHASE_SECURITY_RESULT] = 4, [PHASE_MESSAGE] = 1,
        [PHASE_UPDATE] = 3,   [PHASE_RECTANGLE] = 12,      [PHASE_COLOURS] = 5,
        [PHASE_CUT_TEXT] = 7,
    };
    if (r->phase == PHASE_PIXELS)
        return 4u * r->w;
    return r->phase == PHASE_SECURITY_LIST ? r->rectangles : fixed[r->phase];
}

static enum rfb_status step(struct rfb *r, const uint8_t *p)
{
    static enum rfb_status (*const steps[])(struct rfb *, const uint8_t *) = {
        [PHASE_VERSION] = on_version,
        [PHASE_SECURITY_33] = on_security_33,
        [PHASE_SECURITY_COUNT] = on_security_count,
        [PHASE_SECURITY_LIST] = on_security_list,
        [PHASE_SECURITY_RESULT] = on_security_result,
        [PHASE_INIT] = on_init,
        [PHASE_MESSAGE] = on_message,
        [PHASE_UPDATE] = on_update,
        [PHASE_RECTANGLE] = on_rectangle,
        [PHASE_PIXELS] = on_pixels,
        [PHASE_COLOURS] = on_colours,
        [PHASE_CUT_TEXT] = on_cut_text,
    };
    return steps[r->phase](r, p);
}

enum rfb_status rfb_feed(struct rfb *r, const void *data, size_t len)
{
    size_t used = 0;
    enum rfb_status status = RFB_MORE;
    buf_add(&r->in, data, len);
    while (status == RFB_MORE) {
        size_t left = r->in.len - used, drop = r->skip < left ? (size_t)r->skip : left;
        used += drop;
        r->skip -= drop;
        left -= drop;
        size_t need = wants(r);
        if (r->skip > 0 || left < need)
            break;
        status = step(r, (const uint8_t *)r->in.data + used);
        used += need;
    }
    buf_consume(&r->in, used);
    return status;
}
