/* Every name that the documentation of xl and of libvirt knows (tests/data): a value that nothing has is
 * given to it in the smallest file that can hold it, and has to show up in the description, in a note that
 * names it, or in the problem that refuses the file. */
#include <base/file.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <guests.h>

#define MARK "q7x"

typedef json_t *reader_fn(const char *text, size_t len, char **problem);

/* Calls `check` with each line of a list, but for its comments. */
static void each_line(const char *list, size_t least, void (*check)(char *line))
{
    AUTO_FREE char *path = xasprintf("%s/%s", TEST_DATA, list);
    size_t len, count = 0;
    AUTO_FREE char *text = file_read(path, 1 << 20, &len);
    char *rest = text, *line;
    cr_assert(text, "%s", path);
    while ((line = strsep(&rest, "\n")))
        if (*line && *line != '#') {
            check(line);
            count++;
        }
    cr_expect_geq(count, least, "%zu names of %s", count, list);
}

/* True if a note of `name`, or of a part of the path that `name` is, says what is wanted: "=value" of the
 * thing itself, "/@name=value" of an attribute. A note that calls it undocumented does not count. */
static bool told(const json_t *guest, const char *name, const char *wanted)
{
    size_t i;
    json_t *n;
    json_array_foreach(json_object_get(guest, "notes"), i, n)
    {
        const char *key = json_string_value(json_object_get(n, "key"));
        const char *value = json_string_value(json_object_get(n, "value"));
        size_t len = strlen(key);
        if (strstr(json_string_value(json_object_get(n, "why")), "no documented"))
            continue;
        if (streq(key, name) && strstr(value, wanted + 1))
            return true;
        AUTO_FREE char *below = strncmp(name, key, len) == 0 && name[len] == '/'
                                    ? xasprintf("%s%s", name + len + 1, wanted)
                                    : NULL;
        if (below && strstr(value, below))
            return true;
    }
    return false;
}

/* Fails unless the name is taken over, told or refused. */
static void check(reader_fn *reader, const char *text, const char *name, const char *wanted)
{
    AUTO_FREE char *problem = NULL;
    AUTO_JSON json_t *guest = reader(text, strlen(text), &problem);
    if (!guest) {
        const char *line = strncmp(problem, "line ", 5) == 0 ? strstr(problem, ": ") : NULL;
        const char *of = line ? line + 2 : problem;
        cr_expect_eq(strncmp(of, name, strlen(name)), 0, "%s: %s", text, problem);
        return;
    }
    bool good = told(guest, name, wanted);
    json_object_del(guest, "notes");
    AUTO_FREE char *rest = json_dumps(guest, 0);
    cr_expect(good || strstr(rest, MARK), "%s: dropped", text);
}

/* ---- xl ---- */

static void xl_name(char *line)
{
    char *name = strchr(line, ' '), *flag = strstr(line, "-flag");
    cr_assert(name, "%s", line);
    *name++ = '\0';
    if (flag)
        *flag = '\0';
    const char *shown = strstr(name, "passwd") ? "..." : MARK;
    bool option = streq(line, "option");
    AUTO_FREE char *word = flag ? xstrdup(name) : xasprintf("%s=%s", name, MARK);
    AUTO_FREE char *wanted = option ? xasprintf("=%s", shown)
                             : flag ? xasprintf("/%s", name)
                                    : xasprintf("/%s=%s", name, shown);
    AUTO_FREE char *text =
        option ? xasprintf("%s%s = '%s'", streq(name, "name") ? "" : "name = 'g'\n", name, MARK)
        : streq(line, "disk")
            ? xasprintf("name = 'g'\ndisk = ['%s%s']", streq(name, "vdev") ? "" : "vdev=xvda,", word)
            : xasprintf("name = 'g'\n%s = ['%s']", line, word);
    if (!flag || !streq(name, "cdrom")) {
        check(guest_from_xl, text, option ? name : line, wanted);
        return;
    }
    AUTO_FREE char *problem = NULL;
    AUTO_JSON json_t *guest = guest_from_xl(text, strlen(text), &problem);
    const json_t *disk = json_array_get(json_object_get(guest, "disks"), 0);
    cr_expect(json_is_true(json_object_get(disk, "cdrom")), "%s", text);
}

Test(guest_names, xl)
{
    each_line("xl.names", 300, xl_name);
}

/* ---- libvirt ---- */

/* What an element needs so that another thing in it can be judged. */
static const char *text_of(const char *path)
{
    static const char *const numbers[] = {"memory", "currentMemory", "vcpu"};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (streq(numbers[i], path))
            return "1";
    return "";
}

/* The smallest domain with an element by its path ("" for the domain), and in it `attribute` with the mark,
 * or the mark as text if `marked`. The caller's. */
static char *domain_with(const char *path, const char *attribute, bool marked)
{
    AUTO_FREE char *rest = xstrdup(path),
                   *more = attribute ? xasprintf(" %s='%s'", attribute, MARK) : xstrdup("");
    char *inner = xstrdup(marked ? MARK : text_of(path));
    bool in_target = strncmp(path, "devices/disk/target", 19) == 0;
    while (*rest) {
        char *slash = strrchr(rest, '/');
        const char *name = slash ? slash + 1 : rest;
        bool named = streq(rest, "devices/disk/target") && !(attribute && streq(attribute, "dev"));
        char *outer =
            xasprintf("<%s%s%s>%s%s</%s>", name, more, named ? " dev='vda'" : "",
                      streq(rest, "devices/disk") && !in_target ? "<target dev='vda'/>" : "", inner, name);
        free(inner);
        inner = outer;
        *more = '\0';
        *(slash ? slash : rest) = '\0';
    }
    char *all =
        xasprintf("<domain%s>%s%s</domain>", more, streq(path, "name") ? "" : "<name>g</name>", inner);
    free(inner);
    return all;
}

static void libvirt_name(char *line)
{
    char *at = strchr(line, '@');
    const char *attribute = at ? at + 1 : NULL, *path = at == line ? "" : line;
    if (at)
        at[at == line ? 0 : -1] = '\0';
    AUTO_FREE char *text = domain_with(path, attribute, !attribute);
    AUTO_FREE char *wanted = !attribute
                                 ? xstrdup("=" MARK)
                                 : xasprintf("/%s=%s", attribute, strstr(attribute, "passwd") ? "..." : MARK);
    if (attribute) { /* nothing else is to blame */
        AUTO_FREE char *without = domain_with(path, NULL, false), *problem = NULL;
        AUTO_JSON json_t *guest = guest_from_libvirt(without, strlen(without), &problem);
        cr_expect(guest || strstr(text, "<target dev='" MARK), "%s: %s", without, problem);
    }
    check(guest_from_libvirt, text, *path ? path : "domain", wanted);
}

Test(guest_names, libvirt)
{
    each_line("libvirt.paths", 2700, libvirt_name);
}
