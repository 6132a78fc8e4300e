/* See jpeg.h. The library reports errors by a function that must not return: it jumps back. */
#include "jpeg.h"

#include <base/mem.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
/* clang-format off: jpeglib.h needs stdio.h before it */
#include <jpeglib.h>
/* clang-format on */

#define QUALITY 85
#define FIRST_BYTES 65536

struct failure {
    struct jpeg_error_mgr manager;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
};

static void on_error(j_common_ptr info)
{
    struct failure *failure = (struct failure *)info->err;
    failure->manager.format_message(info, failure->text);
    longjmp(failure->back, 1);
}

static void on_message(j_common_ptr info)
{
    (void)info; /* warnings of a compressor mean nothing to the client */
}

static void compress(struct jpeg_compress_struct *jpeg, const struct rfb_picture *picture)
{
    jpeg->image_width = picture->width;
    jpeg->image_height = picture->height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, QUALITY, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = picture->rgb + (size_t)jpeg->next_scanline * picture->width * 3;
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
}

/* The library writes into `first`, and takes memory of its own when that is full. */
char *jpeg_of(const struct rfb_picture *picture, size_t *len, char complaint[static 200])
{
    struct jpeg_compress_struct jpeg = {0};
    struct failure failure;
    unsigned char *const first = xmalloc(FIRST_BYTES);
    unsigned char *data = first;
    unsigned long size = FIRST_BYTES;
    jpeg.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = on_error;
    failure.manager.output_message = on_message;
    if (setjmp(failure.back) != 0) {
        jpeg_destroy_compress(&jpeg);
        free(first);
        snprintf(complaint, 200, "%.199s", failure.text);
        return NULL;
    }
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &size);
    compress(&jpeg, picture);
    jpeg_destroy_compress(&jpeg);
    if (data != first)
        free(first);
    *len = size;
    return (char *)data;
}
