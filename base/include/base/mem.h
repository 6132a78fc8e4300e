/* Memory that cannot be had ends the process: see docs/design.md, "Memory and errors".
 * Also the cleanup attributes used instead of freeing by hand on every return. Any thread. */
#pragma once
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull, warn_unused_result));
/* Like realloc to count * size bytes; an overflow of the product ends the process. */
void *xreallocarray(void *p, size_t count, size_t size) __attribute__((returns_nonnull, warn_unused_result));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull, warn_unused_result));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull, warn_unused_result));
/* The caller frees the result with free(). */
char *xasprintf(const char *format, ...)
    __attribute__((format(printf, 1, 2), malloc, returns_nonnull, warn_unused_result));

#define CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void mem_free_cleanup(void *pp)
{
    void **p = pp;
    free(*p);
}
static inline void fd_close_cleanup(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

/* A heap pointer freed, or a descriptor closed, when the variable goes out of scope. */
#define AUTO_FREE CLEANUP(mem_free_cleanup)
#define AUTO_CLOSE CLEANUP(fd_close_cleanup)

/* Hands an AUTO_FREE pointer to the caller: yields it and clears the variable. */
#define TAKE_PTR(p)                                                                                          \
    ({                                                                                                       \
        __typeof__(p) taken_ = (p);                                                                          \
        (p) = NULL;                                                                                          \
        taken_;                                                                                              \
    })
#define TAKE_FD(fd)                                                                                          \
    ({                                                                                                       \
        int taken_ = (fd);                                                                                   \
        (fd) = -1;                                                                                           \
        taken_;                                                                                              \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static inline int streq(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}
