/* The forms in which disks come and go. */
#pragma once
#include <hv/client.h>
#include <stdbool.h>

/* "raw", "qcow2" or "vhd". */
bool raw_format_parse(const char *word, enum image_format *out);
/* Its Content-Type. */
const char *raw_format_type(enum image_format format);
