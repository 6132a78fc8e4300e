/* The bundle for support, as one archive: for who downloads it and for who has it sent somewhere. */
#pragma once
#include "../server.h"

struct system_status_sink {
    /* The archive, piece by piece; -1: no more of it. */
    int (*put)(void *arg, const void *data, size_t len);
    void (*report)(void *arg, double fraction); /* of the entries that are done, 0 to 1 */
    void *arg;
};
/* NULL: no such output ("tar", "tar.bz2", "zip"; NULL is "tar"). */
struct system_status_output;
const struct system_status_output *system_status_output(const char *name);
/* Its type for HTTP and the end of its files' names, ".tar". */
const char *system_status_type(const struct system_status_output *output);
const char *system_status_suffix(const struct system_status_output *output);

/* Makes the bundle of the entries in `list` (words separated by commas; NULL or "": all) as the call sees the
 * pool. Asks the agents of all hosts, so for a worker. -1: the sink or the disk gave up. */
int system_status_write(struct call *call, const struct system_status_output *output, const char *list,
                        const struct system_status_sink *sink);
