/* VMDK images of the kind streamOptimized: what OVA archives hold. Any thread. */
#pragma once
#include <stdint.h>

/* Reads the image of `length` bytes at `start` of a file and writes what it holds into another one (`to`,
 * empty: gets its size, and holes where nothing is written). `capacity`: the size that it must have, at most
 * 64 TiB. `watch` (may be NULL) is told how many of the bytes were read; another answer than 0 stops. 0; -1:
 * *problem is a sentence (the caller's). */
typedef int vmdk_watch_fn(void *arg, uint64_t done, uint64_t total);
int vmdk_read(int from, int64_t start, int64_t length, int64_t capacity, int to, vmdk_watch_fn *watch,
              void *arg, char **problem);

/* Appends such an image of a raw disk of `capacity` bytes to a file, at its position, which is behind the
 * image then. */
int vmdk_write(int from, int64_t capacity, int to, vmdk_watch_fn *watch, void *arg, char **problem);
