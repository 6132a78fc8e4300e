/* The forms in which disks come and go. */
#pragma once
#include <hv/client.h>
#include <stdbool.h>

/* "raw", "qcow2" or "vhd"; of what comes also "vmdk". */
bool raw_format_parse(const char *word, bool upload, enum image_format *out);
/* These words in a sentence. */
const char *raw_formats(bool upload);
/* Its Content-Type. */
const char *raw_format_type(enum image_format format);
