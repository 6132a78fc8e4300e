/* Small files below a folder of /sys. */
#include "sysfs.h"
#include <base/file.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NAMES_MAX 4096

char *sys_read(const char *folder, const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", folder, name);
    char *text = file_read(path, 4096, NULL);
    if (!text)
        return xstrdup("");
    text[strcspn(text, "\n")] = '\0';
    if (strlen(text) > 255)
        text[255] = '\0';
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || (unsigned char)*c > 126)
            *c = '?';
    return text;
}

int sys_number(const char *folder, const char *name)
{
    AUTO_FREE char *text = sys_read(folder, name);
    char *end;
    long n = strtol(text, &end, 16);
    return end == text || n < 0 || n > 0xffffff ? -1 : (int)n;
}

char *sys_link(const char *folder, const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", folder, name);
    char target[4096];
    ssize_t len = readlink(path, target, sizeof(target) - 1);
    target[len > 0 ? len : 0] = '\0';
    const char *slash = strrchr(target, '/');
    return xstrdup(slash ? slash + 1 : target);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **sys_names(const char *folder, size_t *count)
{
    char **names = NULL;
    DIR *dir = opendir(folder);
    *count = 0;
    for (struct dirent *e; dir && *count < NAMES_MAX && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        names = xreallocarray(names, *count + 1, sizeof(*names));
        names[(*count)++] = xstrdup(e->d_name);
    }
    if (dir)
        closedir(dir);
    if (*count > 1)
        qsort(names, *count, sizeof(*names), compare);
    return names;
}

int sys_write(const char *folder, const char *name, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/%s", folder, name);
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
    if (fd < 0)
        return -1;
    ssize_t len = (ssize_t)strlen(text);
    return write(fd, text, (size_t)len) == len ? 0 : -1;
}

char *sys_ids(const char *root, const char *name)
{
    static const char *const folders[] = {"usr/share/misc", "usr/share/hwdata", "var/lib/usbutils"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        AUTO_FREE char *path = xasprintf("%s/%s/%s", root, folders[i], name);
        char *text = file_read(path, 8 << 20, NULL);
        if (text)
            return text;
    }
    return NULL;
}
