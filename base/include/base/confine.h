/* What a process may do. Which files it may open: Landlock, where the kernel has it. A ruleset is a
 * descriptor that is put together here and taken on by corral-launch, right before it becomes the program, or
 * by the process itself. What the program was given open stays usable; what no rule names cannot be opened,
 * made, removed or run. It signals no process outside and binds no TCP port unless it serves (newer kernels).
 * Which system calls it may make: a seccomp filter. Any thread. */
#pragma once
#include <stdbool.h>

enum confine_access {
    CONFINE_READ,   /* to read and to run, with all that is below */
    CONFINE_WRITE,  /* files: to read and to write */
    CONFINE_FOLDER, /* files below: to make, write and remove, too */
    CONFINE_TREE,   /* folders, sockets and links below, too */
    CONFINE_SOCKET, /* sockets below: to make and to remove them */
    CONFINE_DEVICE, /* to read, write and control, with all that is below */
};

/* The kernel's version of Landlock; 0: it has none, or it is switched off. */
int confine_version(void);

/* A ruleset that allows what every program needs: libraries, configuration, /proc, harmless devices.
 * `serves`: it may listen. Close-on-exec, the caller's. -1 with errno; EOPNOTSUPP: the kernel has no
 * Landlock.
 */
int confine_new(bool serves);
/* More rules. 0, also when there is no such file; -1 with errno. */
int confine_allow(int ruleset, const char *path, enum confine_access access);
/* What is open there, opened anew; 0 also when that needs no permission (pipes, sockets, memory). */
int confine_allow_fd(int ruleset, int fd, enum confine_access access);

/* The calling thread, and all that it starts from now on, has no other rights than these, and gets no new
 * privileges. 0, or -1 with errno. */
int confine_self(int ruleset);

enum confine_calls {
    CONFINE_HOST, /* refused: loading modules and kernels, looking into processes, raw hardware, swap, keys */
    CONFINE_SERVER, /* also: mounts, other namespaces and roots, clocks, restarts of the machine */
};
/* The calling thread, and all that it starts from now on, gets EPERM for such system calls, and no new
 * privileges. 0, or -1 with errno; EOPNOTSUPP: not known for this processor. */
int confine_calls(enum confine_calls level);
