/* pci.ids and usb.ids: "10de  NVIDIA", below it "\t1eb8  TU104", and classes as "C 03  Display controller".
 */
#include "devices.h"
#include <base/mem.h>
#include <stdio.h>

/* Behind "<id>  " at the start of a line, up to its end. */
static char *words(const char *line)
{
    const char *end = strchrnul(line, '\n');
    while (line < end && (*line == ' ' || *line == '\t'))
        line++;
    while (end > line && (end[-1] == '\r' || end[-1] == ' '))
        end--;
    return xstrndup(line, (size_t)(end - line) < 255 ? (size_t)(end - line) : 255);
}

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');
    return end ? end + 1 : NULL;
}

/* The line of this depth that begins with `id`, from `line` on, before one that is less deep. */
static const char *find(const char *line, int depth, const char *id)
{
    for (; line; line = next_line(line)) {
        int tabs = (int)strspn(line, "\t");
        if (*line == '#' || *line == '\n' || !*line)
            continue;
        if (tabs < depth)
            return NULL;
        if (tabs == depth && strncasecmp(line + tabs, id, strlen(id)) == 0 && line[tabs + strlen(id)] == ' ')
            return line;
    }
    return NULL;
}

char *ids_name(const char *text, const char *vendor, const char *device, bool cls)
{
    char first[16];
    snprintf(first, sizeof(first), "%s%s", cls ? "C " : "", vendor);
    const char *line = text ? find(text, 0, first) : NULL;
    if (!line || !*device)
        return line ? words(line + strlen(first)) : xstrdup("");
    const char *below = next_line(line);
    const char *found = below ? find(below, 1, device) : NULL;
    if (!found && cls)
        return words(line + strlen(first));
    return found ? words(found + 1 + strlen(device)) : xstrdup("");
}
