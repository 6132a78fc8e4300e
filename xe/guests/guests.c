/* What the readers of both kinds of files share. */
#include "guests.h"
#include <base/mem.h>
#include <stdarg.h>
#include <stdio.h>

void *guest_problem(char **problem, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (vasprintf(problem, format, args) < 0)
        abort();
    va_end(args);
    return NULL;
}

void guest_note(json_t *guest, const char *key, const char *value, const char *why)
{
    json_t *said = json_string(value ? value : "");
    json_array_append_new(
        json_object_get(guest, "notes"),
        json_pack("{s:s, s:o, s:s}", "key", key, "value", said ? said : json_string("..."), "why", why));
}

int guest_device_number(const char *device)
{
    static const char *const prefixes[] = {"xvd", "hd", "sd", "vd", "fd", "ubd"};
    if (device[0] == 'd' && device[1]) { /* d0, d1: as xl calls them */
        char *end;
        long n = strtol(device + 1, &end, 10);
        /* With a partition, as in d0p1, it is no whole disk. */
        return *end || n < 0 || n > 255 ? -1 : (int)n;
    }
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t len = strlen(prefixes[i]);
        const char *letters = device + len;
        int n = 0;
        if (strncmp(device, prefixes[i], len) != 0 || !*letters)
            continue;
        for (; *letters; letters++) {
            if (*letters < 'a' || *letters > 'z' || n > 25)
                return -1;
            n = n * 26 + (*letters - 'a') + 1;
        }
        return n - 1;
    }
    return -1;
}
