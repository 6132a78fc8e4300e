/* The file of known servers: lines "server port sha256", written whole by rename. */
#include "trust.h"
#include <base/buf.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FILE_MAX = 1 << 20 };

char *xe_trust_path(void)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && *config == '/')
        return xasprintf("%s/corral/known_hosts", config);
    if (home && *home)
        return xasprintf("%s/.config/corral/known_hosts", home);
    return NULL;
}

static bool line_is(const char *line, const char *server, int port, char out[static SHA256_TEXT_SIZE])
{
    char name[256], fingerprint[SHA256_TEXT_SIZE];
    int number;
    if (sscanf(line, "%255s %d %64s", name, &number, fingerprint) != 3 || !streq(name, server) ||
        number != port)
        return false;
    memcpy(out, fingerprint, sizeof fingerprint);
    return strlen(fingerprint) == SHA256_TEXT_SIZE - 1;
}

int xe_trust_find(const char *path, const char *server, int port, char out[static SHA256_TEXT_SIZE],
                  char **problem)
{
    AUTO_FREE char *text = file_read(path, FILE_MAX, NULL);
    if (!text) {
        if (errno == ENOENT)
            return 0;
        *problem = xasprintf("cannot read %s: %s", path, strerror(errno));
        return -1;
    }
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")))
        if (line_is(line, server, port, out))
            return 1;
    return 0;
}

/* Makes the folders that lead to `path`, each for the user alone. */
static int make_folders(const char *path)
{
    AUTO_FREE char *copy = xstrdup(path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0700) < 0 && errno != EEXIST)
            return -1;
        *slash = '/';
    }
    return 0;
}

int xe_trust_add(const char *path, const char *server, int port, const char *fingerprint, char **problem)
{
    AUTO_BUF struct buf b = BUF_INIT;
    AUTO_FREE char *text = file_read(path, FILE_MAX, NULL);
    if (text)
        buf_add_str(&b, text);
    else if (errno != ENOENT)
        goto fail;
    if (b.len && b.data[b.len - 1] != '\n')
        buf_add_char(&b, '\n');
    buf_printf(&b, "%s %d %s\n", server, port, fingerprint);
    if (make_folders(path) == 0 && file_write_atomic(path, b.data, b.len, 0600) == 0)
        return 0;
fail:
    *problem = xasprintf("cannot write %s: %s", path, strerror(errno));
    return -1;
}

char *xe_trust_format(const char *fingerprint)
{
    AUTO_BUF struct buf b = BUF_INIT;
    for (size_t i = 0; fingerprint[i] && fingerprint[i + 1]; i += 2)
        buf_printf(&b, "%s%.2s", i ? ":" : "", fingerprint + i);
    return b.data ? buf_take(&b) : xstrdup("");
}
