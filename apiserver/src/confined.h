/* What poold may do of all that its user might: its own folder, what its options name, and what the system's
 * libraries read. */
#pragma once
#include <stdbool.h>

/* Files and folders that options name; NULL: none. */
struct confined_paths {
    const char *state_dir; /* is there */
    const char *web_dir, *pam_dir;
    const char *call_log, *socket; /* the folders that they are in */
};

/* Before the first thread is started; for good. What the kernel lacks is logged, and left out. False: it
 * could not be done, which is logged: the server must not start. */
bool confined_begin(const struct confined_paths *paths);
