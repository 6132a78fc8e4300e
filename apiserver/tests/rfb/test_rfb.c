/* The RFB client against servers written out as bytes, and its pictures as JPEG. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <rfb/jpeg.h>
#include <rfb/rfb.h>
#include <stdio.h>
/* clang-format off: jpeglib.h needs stdio.h before it */
#include <jpeglib.h>
/* clang-format on */

#define V38 "RFB 003.008\n"
/* 2 x 1 pixels, some pixel format, a name of 2 bytes. */
#define INIT                                                                                                 \
    "\0\2\0\1"                                                                                               \
    "0123456789abcdef"                                                                                       \
    "\0\0\0\2"                                                                                               \
    "ab"
#define TO_INIT                                                                                              \
    "\1\1"                                                                                                   \
    "\0\0\0\0"
#define UPDATE(n) "\0\0\0" n
#define RECT(x, y, w, h) "\0" x "\0" y "\0" w "\0" h "\0\0\0\0"
#define RED "\0\0\xff\0"
#define BLUE "\xff\0\0\0"
#define BYTES(text) text, sizeof(text) - 1

struct talk {
    const char *name;
    const char *data;
    size_t len;
    enum rfb_status end;
    const char *complaint; /* part of it */
};

static const struct talk talks[] = {
    {"a whole screen", BYTES(V38 TO_INIT INIT UPDATE("\1") RECT("\0", "\0", "\2", "\1") RED BLUE), RFB_DONE,
     NULL},
    {"in two rectangles",
     BYTES(V38 TO_INIT INIT UPDATE("\2") RECT("\1", "\0", "\1", "\1") BLUE RECT("\0", "\0", "\1", "\1") RED),
     RFB_DONE, NULL},
    {"in two updates",
     BYTES(V38 TO_INIT INIT UPDATE("\1") RECT("\1", "\0", "\1", "\1") BLUE UPDATE("\1")
               RECT("\0", "\0", "\1", "\1") RED),
     RFB_DONE, NULL},
    {"with a bell, colours and a clipboard",
     BYTES(V38 TO_INIT INIT "\2"
                            "\1\0\0\0\0\1"
                            "012345"
                            "\3\0\0\0\0\0\0\5"
                            "paste" UPDATE("\1") RECT("\0", "\0", "\2", "\1") RED BLUE),
     RFB_DONE, NULL},
    {"3.3",
     BYTES("RFB 003.003\n"
           "\0\0\0\1" INIT UPDATE("\1") RECT("\0", "\0", "\2", "\1") RED BLUE),
     RFB_DONE, NULL},
    {"3.7",
     BYTES("RFB 003.007\n"
           "\2\2\1" INIT UPDATE("\1") RECT("\0", "\0", "\2", "\1") RED BLUE),
     RFB_DONE, NULL},
    {"newer than we know",
     BYTES("RFB 003.889\n"
           "\1\1"
           "\0\0\0\0" INIT UPDATE("\1") RECT("\0", "\0", "\2", "\1") RED BLUE),
     RFB_DONE, NULL},
    {"another size on the way",
     BYTES(V38 TO_INIT "\0\7\0\7"
                       "0123456789abcdef"
                       "\0\0\0\0" UPDATE("\1") "\0\0\0\0\0\2\0\1\xff\xff\xff\x21" UPDATE("\1")
                           RECT("\0", "\0", "\2", "\1") RED BLUE),
     RFB_DONE, NULL},
    {"cut off", BYTES(V38 TO_INIT INIT UPDATE("\1") RECT("\0", "\0", "\2", "\1") RED), RFB_MORE, NULL},
    {"not RFB", BYTES("HTTP/1.1 400\n"), RFB_FAILED, "RFB 3"},
    {"RFB 4", BYTES("RFB 004.001\n"), RFB_FAILED, "RFB 3"},
    {"a password", BYTES(V38 "\1\2"), RFB_FAILED, "password"},
    {"a password in 3.3",
     BYTES("RFB 003.003\n"
           "\0\0\0\2"),
     RFB_FAILED, "password"},
    {"no security at all", BYTES(V38 "\0"), RFB_FAILED, "refuses"},
    {"a refusal",
     BYTES(V38 "\1\1"
               "\0\0\0\1"),
     RFB_FAILED, "nobody"},
    {"no size",
     BYTES(V38 TO_INIT "\0\0\0\1"
                       "0123456789abcdef"
                       "\0\0\0\0"),
     RFB_FAILED, "size"},
    {"too wide",
     BYTES(V38 TO_INIT "\x20\1\0\1"
                       "0123456789abcdef"
                       "\0\0\0\0"),
     RFB_FAILED, "size"},
    {"too large",
     BYTES(V38 TO_INIT "\x20\0\x20\0"
                       "0123456789abcdef"
                       "\0\0\0\0"),
     RFB_FAILED, "size"},
    {"a long name",
     BYTES(V38 TO_INIT "\0\2\0\1"
                       "0123456789abcdef"
                       "\xff\xff\xff\xff"),
     RFB_FAILED, "more than"},
    {"a rectangle outside", BYTES(V38 TO_INIT INIT UPDATE("\1") RECT("\1", "\0", "\2", "\1")), RFB_FAILED,
     "outside"},
    {"another encoding", BYTES(V38 TO_INIT INIT UPDATE("\1") "\0\0\0\0\0\2\0\1\0\0\0\5"), RFB_FAILED,
     "encoding"},
    {"a message that nobody knows", BYTES(V38 TO_INIT INIT "\xc8"), RFB_FAILED, "nobody asked"},
};

static enum rfb_status talk(struct rfb *rfb, const struct talk *t, size_t piece)
{
    enum rfb_status status = RFB_MORE;
    rfb_init(rfb);
    for (size_t at = 0; at < t->len && status == RFB_MORE; at += piece)
        status = rfb_feed(rfb, t->data + at, piece < t->len - at ? piece : t->len - at);
    return status;
}

Test(rfb, talks)
{
    static const uint8_t red_blue[] = {0xff, 0, 0, 0, 0, 0xff};
    static const size_t pieces[] = {1, 7, 10000};
    for (size_t i = 0; i < ARRAY_LEN(talks); i++)
        for (size_t k = 0; k < ARRAY_LEN(pieces); k++) {
            struct rfb rfb;
            cr_assert_eq(talk(&rfb, &talks[i], pieces[k]), talks[i].end, "%s: %s", talks[i].name,
                         rfb.complaint ? rfb.complaint : "");
            if (talks[i].complaint)
                cr_assert(strstr(rfb.complaint, talks[i].complaint), "%s: %s", talks[i].name, rfb.complaint);
            if (talks[i].end == RFB_DONE) {
                cr_assert_eq(rfb.picture.width, 2);
                cr_assert_eq(rfb.picture.height, 1);
                cr_assert_arr_eq(rfb.picture.rgb, red_blue, sizeof(red_blue), "%s", talks[i].name);
            }
            rfb_done(&rfb);
        }
}

/* Version, security type, shared, pixel format, encodings, request. */
Test(rfb, what_the_client_says)
{
    static const char said[] = V38 "\1"
                                   "\1"
                                   "\0\0\0\0\x20\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0\0\0\0"
                                   "\2\0\0\2\0\0\0\0\xff\xff\xff\x21"
                                   "\3\0\0\0\0\0\0\2\0\1";
    struct rfb rfb;
    talk(&rfb, &talks[0], 10000);
    cr_assert_eq(rfb.out.len, sizeof(said) - 1);
    cr_assert_arr_eq(rfb.out.data, said, sizeof(said) - 1);
    rfb_done(&rfb);
}

/* Read back by the library that wrote it. */
Test(rfb, a_picture_as_jpeg)
{
    struct rfb_picture picture = {64, 48, xmalloc(64 * 48 * 3)};
    char complaint[200];
    size_t len;
    for (size_t i = 0; i < 64 * 48; i++)
        memcpy(picture.rgb + 3 * i, (uint8_t[]){0x20, 0x40, 0x60}, 3);
    AUTO_FREE char *jpeg = jpeg_of(&picture, &len, complaint);
    free(picture.rgb);
    cr_assert_not_null(jpeg);
    struct jpeg_decompress_struct in;
    struct jpeg_error_mgr errors;
    in.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&in);
    jpeg_mem_src(&in, (unsigned char *)jpeg, len);
    cr_assert_eq(jpeg_read_header(&in, TRUE), JPEG_HEADER_OK);
    jpeg_start_decompress(&in);
    cr_assert_eq(in.output_width, 64);
    cr_assert_eq(in.output_height, 48);
    uint8_t row[64 * 3];
    JSAMPROW rows = row;
    while (in.output_scanline < in.output_height) {
        jpeg_read_scanlines(&in, &rows, 1);
        for (size_t i = 0; i < 3; i++)
            cr_assert_lt(abs(row[30 * 3 + i] - (int)(0x20 * (i + 1))), 8);
    }
    jpeg_finish_decompress(&in);
    jpeg_destroy_decompress(&in);
}

Test(rfb, what_cannot_be_a_jpeg)
{
    struct rfb_picture picture = {70000, 1, NULL};
    char complaint[200] = "";
    size_t len;
    cr_assert_null(jpeg_of(&picture, &len, complaint));
    cr_assert_gt(strlen(complaint), 5);
}
