/* Which files a program may open: Landlock, where the kernel has it. A ruleset is a descriptor that is put
 * together here and taken on by corral-launch, right before it becomes the program. What the program was
 * given open stays usable; what no rule names cannot be opened, made, removed or run. It binds no TCP port
 * and signals no process outside (newer kernels). Any thread. */
#pragma once

enum confine_access {
    CONFINE_READ,   /* to read and to run, with all that is below */
    CONFINE_WRITE,  /* files: to read and to write */
    CONFINE_FOLDER, /* files below: to make, write and remove, too */
    CONFINE_DEVICE, /* to read, write and control, with all that is below */
};

/* The kernel's version of Landlock; 0: it has none, or it is switched off. */
int confine_version(void);

/* A ruleset that allows what every program needs: libraries, configuration, /proc, harmless devices.
 * Close-on-exec, the caller's. -1 with errno; EOPNOTSUPP: the kernel has no Landlock. */
int confine_new(void);
/* More rules. 0, also when there is no such file; -1 with errno. */
int confine_allow(int ruleset, const char *path, enum confine_access access);
/* What is open there, opened anew; 0 also when that needs no permission (pipes, sockets, memory). */
int confine_allow_fd(int ruleset, int fd, enum confine_access access);
