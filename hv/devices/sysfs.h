/* Small files below a folder of /sys. */
#pragma once
#include "devices.h"

/* Its first line, at most 255 bytes, without control characters; "" when it cannot be read. The caller frees.
 */
char *sys_read(const char *folder, const char *name);
/* A hexadecimal number with or without 0x; -1: none. */
int sys_number(const char *folder, const char *name);
/* Last part of where the link leads; "": none. The caller frees. */
char *sys_link(const char *folder, const char *name);
/* Names in a folder in order; the caller frees each and the array. */
char **sys_names(const char *folder, size_t *count);
/* 0, or -1 with errno. */
int sys_write(const char *folder, const char *name, const char *text);
/* pci.ids or usb.ids of the host, or NULL. The caller frees. */
char *sys_ids(const char *root, const char *name);
