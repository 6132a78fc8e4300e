/* One write a name, so that processes can share a file. */
#include "call_log.h"

#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

struct call_log {
    int fd;
    _Atomic bool *noted; /* by index of the method */
};

struct call_log *call_log_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return NULL;
    struct call_log *log = xcalloc(1, sizeof(*log));
    log->fd = fd;
    log->noted = xcalloc(model_method_count, sizeof(*log->noted));
    return log;
}

void call_log_close(struct call_log *log)
{
    if (!log)
        return;
    close(log->fd);
    free((void *)log->noted);
    free(log);
}

void call_log_note(struct call_log *log, const struct method_desc *method)
{
    if (atomic_load_explicit(&log->noted[method->index], memory_order_relaxed) ||
        atomic_exchange(&log->noted[method->index], true))
        return;
    char line[128];
    int len = snprintf(line, sizeof(line), "%s\n", method->name);
    if (write(log->fd, line, (size_t)len) != len)
        log_warn("gate", "a call could not be noted", "message", method->name, "cause", strerror(errno));
}
