/* Seeds: a few small texts as a read-only disk, a file system of ISO 9660 with Joliet names and the volume
 * name "cidata". cloud-init takes one for its NoCloud source. Any thread. */
#pragma once
#include <base/buf.h>
#include <base/rc.h>
#include <stdbool.h>

/* Names are of small letters, digits and inner dashes. All bytes of names and contents together are bounded.
 */
#define SEED_FILES 8
#define SEED_NAME 31
#define SEED_BYTES (128 * 1024)
bool seed_ok(const struct str_map *files);
/* Adds the image of files that are seed_ok: the same files, the same bytes. */
void seed_write(const struct str_map *files, struct buf *out);
/* The image in memory, open for reading. -1 with errno. */
int seed_open(const struct str_map *files);
