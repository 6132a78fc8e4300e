/* A picture as JPEG. */
#pragma once
#include "rfb.h"

/* A heap buffer that the caller frees; NULL: the library could not, `complaint` says why. */
char *jpeg_of(const struct rfb_picture *picture, size_t *len, char complaint[static 200]);
