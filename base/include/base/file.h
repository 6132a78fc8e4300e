/* Whole files. Any thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Writes a file of mode 0600 (or `mode`) whole or not at all: temporary name in the same folder, fsync,
 * rename, fsync of the folder. 0, or -1 with errno. */
int file_write_atomic(const char *path, const void *data, size_t len, unsigned mode);
/* All of it, where the descriptor stands; write(2) may take less at a time. 0, or -1 with errno. */
int file_write_all(int fd, const void *data, size_t len);
/* All of it at an offset, wherever the descriptor stands. 0, or -1 with errno (reading: ENODATA where the
 * file ends before). */
int file_read_at(int fd, void *to, size_t len, int64_t at);
int file_write_at(int fd, const void *data, size_t len, int64_t at);
/* Reads a whole file of at most `max` bytes; a heap string with a NUL behind its *len bytes. NULL with errno
 * (EFBIG: longer). `len` may be NULL. */
char *file_read(const char *path, size_t max, size_t *len);
/* The same from where the descriptor stands. */
char *file_read_fd(int fd, size_t max, size_t *len);
