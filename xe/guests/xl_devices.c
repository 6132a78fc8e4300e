/* Disks and network cards of xl and xm configuration files, in all the ways to write them. */
#include "xl_map.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

/* ---- disks ---- */

static const struct {
    const char *word, *format;
} formats[] = {{"raw", "raw"},     {"aio", "raw"}, {"phy", "raw"},   {"file", "raw"}, {"qcow", "qcow"},
               {"qcow2", "qcow2"}, {"vhd", "vhd"}, {"vmdk", "vmdk"}, {"qed", "qed"},  {"empty", "raw"}};

static const char *format_named(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (strcasecmp(formats[i].word, word) == 0)
            return formats[i].format;
    return NULL;
}

struct disk {
    char *path, *device, *format;
    bool cdrom, readonly;
};

static void disk_done(struct disk *d)
{
    free(d->path);
    free(d->device);
    free(d->format);
}

static void assign(char **slot, const char *text)
{
    free(*slot);
    *slot = xstrdup(text);
}

/* "phy:/dev/x", "file:/y", "tap:aio:/z", "tap2:qcow2:/w": old prefixes say the format. True if there was one.
 */
static bool take_prefixes(struct disk *d, char **target)
{
    bool any = false;
    for (;;) {
        size_t len = strcspn(*target, ":/");
        if ((*target)[len] != ':')
            return any;
        AUTO_FREE char *word = xstrndup(*target, len);
        const char *format = format_named(word);
        if (!format && !streq(word, "tap") && !streq(word, "tap2") && !streq(word, "blktap2"))
            return any;
        if (format)
            assign(&d->format, format);
        *target += len + 1;
        any = true;
    }
}

static void note_part(struct mapping *m, const char *list, const char *key, const char *value,
                      const char *why)
{
    AUTO_FREE char *said = xasprintf("%s=%s", key, value);
    guest_note(m->guest, list, said, why);
}

static void named_part(struct mapping *m, struct disk *d, const char *key, char *value)
{
    if (streq(key, "target")) {
        assign(&d->path, value);
    } else if (streq(key, "vdev")) {
        assign(&d->device, value);
    } else if (streq(key, "format")) {
        assign(&d->format, format_named(value) ? format_named(value) : value);
    } else if (streq(key, "access")) {
        d->readonly = streq(value, "r") || streq(value, "ro");
        if (!d->readonly && !streq(value, "w") && !streq(value, "rw"))
            note_part(m, "disk", key, value, "a disk is read only (r) or not (w)");
    } else if (streq(key, "devtype")) {
        d->cdrom = streq(value, "cdrom");
        if (!d->cdrom && !streq(value, "disk"))
            note_part(m, "disk", key, value, "only disks and CD drives are taken over");
    } else {
        note_part(m, "disk", key, value,
                  streq(key, "script") ? "script: no program of the old host is run"
                                       : "this part of a disk has no place here");
    }
}

/* Words of xl that stand for themselves, at any place; noted. */
static bool take_flag(struct mapping *m, const char *word)
{
    static const char *const flags[] = {"discard", "no-discard", "direct-io-safe",
                                        "trusted", "untrusted",  "colo"};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (streq(flags[i], word)) {
            guest_note(m->guest, "disk", word, "this part of a disk has no place here");
            return true;
        }
    return false;
}

static bool finish_disk(struct mapping *m, struct disk *d, const char *text)
{
    char *colon = d->device ? strchr(d->device, ':') : NULL;
    if (colon) { /* "hdc:cdrom" */
        *colon++ = '\0';
        d->cdrom |= streq(colon, "cdrom");
        if (!streq(colon, "cdrom") && !streq(colon, "disk"))
            guest_note(m->guest, "disk", text, "only disks and CD drives are taken over");
    }
    int number = d->device ? guest_device_number(d->device) : -1;
    if (number < 0)
        return xl_fail(m, "disk",
                       d->device && *d->device
                           ? "a device is called like xvda, hdb, sdc or vdd; partitions cannot be taken over"
                           : "the device (vdev) is missing");
    const char *path = d->path ? d->path : "",
               *base = strncmp(path, "/dev/", 5) != 0 && path[0] != '/' ? "" : path;
    if (*path && !*base)
        return xl_fail(m, "disk", "the file needs its whole path, from /");
    json_array_append_new(json_object_get(m->guest, "disks"),
                          json_pack("{s:s, s:i, s:s, s:s, s:b, s:b}", "device", d->device, "number", number,
                                    "path", path, "format", d->format ? d->format : "raw", "cdrom", d->cdrom,
                                    "readonly", d->readonly || d->cdrom));
    return true;
}

/* xl: target, format, vdev, access by place, or by name; "target=" takes the rest. xm: target with a prefix,
 * device, access. */
static bool map_disk(struct mapping *m, const char *text)
{
    static const char *const places[] = {"target", "format", "vdev", "access"};
    static const char *const old_places[] = {"target", "vdev", "access", "backend"};
    CLEANUP(disk_done) struct disk d = {0};
    AUTO_FREE char *copy = xstrdup(text);
    const char *const *order = places;
    char *rest = copy, *part;
    size_t place = 0;
    while (rest && *(rest += strspn(rest, " \t\n"))) {
        if (strncmp(rest, "target=", 7) == 0) {
            named_part(m, &d, "target", rest + 7);
            break;
        }
        part = strsep(&rest, ",");
        for (size_t n = strlen(part); n && isspace((unsigned char)part[n - 1]); n--)
            part[n - 1] = '\0';
        char *eq = strchr(part, '=');
        if (eq && strspn(part, "abcdefghijklmnopqrstuvwxyz-") == (size_t)(eq - part)) {
            *eq = '\0';
            named_part(m, &d, part, eq + 1);
        } else if (streq(part, "cdrom")) {
            d.cdrom = true;
        } else if (place > 0 && take_flag(m, part)) {
            continue;
        } else if (place > 0 && (streq(part, "rw") || streq(part, "ro"))) {
            d.readonly |= streq(part, "ro");
            place++;
        } else if (place < ARRAY_LEN(places)) {
            char *target = part;
            if (place == 0 && take_prefixes(&d, &target))
                order = old_places;
            if (*target)
                named_part(m, &d, order[place], target);
            place++;
        } else {
            return xl_fail(m, "disk", "there are too many parts between commas");
        }
        if (!rest)
            break;
    }
    if (!d.path || order == places) {
        /* A prefix may also stand in target=. */
        char *target = d.path;
        if (target && take_prefixes(&d, &target))
            memmove(d.path, target, strlen(target) + 1);
    }
    return finish_disk(m, &d, text);
}

bool xl_disks(struct mapping *m, const char *key, const json_t *v)
{
    size_t i;
    const json_t *item;
    if (json_is_string(v))
        return map_disk(m, json_string_value(v));
    if (!json_is_array(v))
        return xl_fail(m, key, "a list of texts belongs there");
    json_array_foreach(v, i, item)
    {
        if (!json_is_string(item))
            return xl_fail(m, key, "a disk is computed; write it out");
        if (!map_disk(m, json_string_value(item)))
            return false;
    }
    return true;
}

/* ---- network cards ---- */

/* "10Mb/s", "1MB/s@20ms": KiB in a second; 0: cannot be read. */
static int64_t kbps_of(const char *text)
{
    char *end;
    double n = strtod(text, &end);
    double unit = *end == 'G' ? 1e9 : *end == 'M' ? 1e6 : *end == 'K' ? 1e3 : 1;
    if (strchr("GMK", *end) && *end)
        end++;
    if (n <= 0 || (*end != 'b' && *end != 'B') || n * unit > 1e15)
        return 0;
    return (int64_t)(n * unit / (*end == 'b' ? 8 : 1) / 1024);
}

static void vif_part(struct mapping *m, json_t *nic, const char *key, const char *value)
{
    int64_t kbps = streq(key, "rate") ? kbps_of(value) : 0;
    char *end;
    long mtu;
    if (streq(key, "mac") || streq(key, "bridge")) {
        json_object_set_new(nic, key, json_string(value));
    } else if (streq(key, "mtu")) {
        mtu = strtol(value, &end, 10);
        if (!*end && mtu >= 68 && mtu <= 65535)
            json_object_set_new(nic, key, json_integer(mtu));
        else
            note_part(m, "vif", key, value, "it is no size of packets");
    } else if (kbps) {
        json_object_set_new(nic, "kbps", json_integer(kbps));
        if (strchr(value, '@'))
            note_part(m, "vif", key, value, "the rate holds at any time, not over a while");
    } else if (streq(key, "model")) {
        if (streq(value, "e1000") || streq(value, "rtl8139"))
            json_object_set_new(json_object_get(m->guest, "platform"), "nic_type", json_string(value));
        else if (!streq(value, "virtio") && !streq(value, "virtio-net"))
            note_part(m, "vif", key, value, "the models are virtio, e1000 and rtl8139");
    } else {
        note_part(m, "vif", key, value,
                  streq(key, "script") ? "no program of the old host is run"
                  : streq(key, "ip")   ? "set the VIF's locking mode and addresses instead"
                  : streq(key, "type") ? "the model alone says what the guest sees"
                                       : "this part of a network card has no place here");
    }
}

static void map_vif(struct mapping *m, size_t number, const char *text)
{
    AUTO_JSON json_t *nic = json_pack("{s:i, s:s, s:s, s:s, s:i, s:i}", "number", (int)number, "mac", "",
                                      "bridge", "", "network", "", "mtu", 0, "kbps", 0);
    AUTO_FREE char *copy = xstrdup(text);
    char *rest = copy, *part;
    while (*copy && (part = strsep(&rest, ","))) {
        part += strspn(part, " \t");
        for (size_t n = strlen(part); n && isspace((unsigned char)part[n - 1]); n--)
            part[n - 1] = '\0';
        char *eq = strchr(part, '=');
        if (!*part)
            continue;
        if (eq)
            *eq = '\0';
        vif_part(m, nic, part, eq ? eq + 1 : "");
    }
    json_array_append(json_object_get(m->guest, "nics"), nic);
}

bool xl_vifs(struct mapping *m, const char *key, const json_t *v)
{
    size_t i;
    const json_t *item;
    if (!json_is_array(v))
        return xl_fail(m, key, "a list of texts belongs there");
    json_array_foreach(v, i, item)
    {
        if (!json_is_string(item))
            return xl_fail(m, key, "a network card is computed; write it out");
        map_vif(m, i, json_string_value(item));
    }
    return true;
}

/* nics=2: so many cards, when vif does not say them. */
bool xl_nics(struct mapping *m, const char *key, const json_t *v)
{
    int64_t n;
    if (!xl_int(v, &n) || n < 0 || n > 16)
        return xl_fail(m, key, "a number of cards belongs there");
    for (size_t have = json_array_size(json_object_get(m->guest, "nics")); have < (size_t)n; have++)
        map_vif(m, have, "");
    return true;
}
