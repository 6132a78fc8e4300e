/* Sums that chain the lines of the audit log. On disk a line is "TEXT #SUM\n", SUM the sha256 (64 hex digits)
 * of the sum before it followed by TEXT; the first line of all follows CHAIN_BEGIN. Who changes, drops or
 * adds a line in the middle has to write all sums behind it anew, so one sum that was noted elsewhere shows
 * it. */
#pragma once
#include <base/secret.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CHAIN_BEGIN "0000000000000000000000000000000000000000000000000000000000000000"
#define CHAIN_SUFFIX_BYTES (sizeof(" #") - 1 + SHA256_TEXT_SIZE - 1)
/* DIR/audit.log is part 0, audit.log.1 and so on older ones. */
#define TRAIL_PARTS_KEPT 8

/* The sum of a line that follows `before`, which `out` may be. */
void chain_next(const char *before, const char *text, size_t len, char out[static SHA256_TEXT_SIZE]);
/* Length of TEXT in a line of `len` bytes with or without its newline; *sum (borrowed, not ended by NUL) is
 * NULL when the line has none, and is all text then. */
size_t chain_split(const char *line, size_t len, const char **sum);
/* The last sum among a file's whole lines; false: it has none (or cannot be read). *cut: its last line has no
 * end. */
bool chain_last(const char *path, char out[static SHA256_TEXT_SIZE], bool *cut);

/* Reads all parts of the log at `path` ("DIR/audit.log"), oldest first, and tells on `out` what it found, a
 * line each: how many lines, from when to when, the last sum, and what is wrong. `noted` (NULL: none) is a
 * sum that has to be among them. 0: unbroken, 1: not, -1: it cannot be read. The server may be writing
 * meanwhile. */
int chain_verify(const char *path, const char *noted, FILE *out);
