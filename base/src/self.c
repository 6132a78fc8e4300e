/* Where the program's file is, and execv. */
#include <base/self.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <unistd.h>

static char path[PATH_MAX];
static char **arguments;

void self_note(char **argv)
{
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    arguments = argv;
}

int self_again(void)
{
    if (!path[0] || !arguments) {
        errno = ENOENT;
        return -1;
    }
    return execv(path, arguments);
}
