/* The image of a seed (hv/seed.h), by ECMA-119 and the Joliet specification: two trees of names, each a root
 * folder in one sector, over the same files. */
#include <base/bytes.h>
#include <base/file.h>
#include <base/mem.h>
#include <ctype.h>
#include <fcntl.h>
#include <hv/seed.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR 2048
#define RECORD 33 /* a folder's record without its name */
#define VOLUME "cidata"

/* What is in which sector. */
enum place {
    AT_VOLUME = 16,
    AT_JOLIET,
    AT_END,
    AT_PATHS, /* four tables: two trees, in both orders of bytes */
    AT_FOLDER = AT_PATHS + 4,
    AT_JOLIET_FOLDER,
    AT_FILES,
};

bool seed_ok(const struct str_map *files)
{
    size_t bytes = 0;
    if (!files || files->count == 0 || files->count > SEED_FILES)
        return false;
    for (size_t i = 0; i < files->count; i++) {
        const char *name = files->pairs[i].key;
        size_t len = str_len(name);
        if (len < 1 || len > SEED_NAME || name[0] == '-' || name[len - 1] == '-')
            return false;
        for (const char *p = name; *p; p++)
            if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '-')
                return false;
        bytes += len + str_len(files->pairs[i].value);
    }
    return bytes <= SEED_BYTES;
}

/* Numbers stand there twice, in both orders of bytes. */
static void put_both16(uint8_t *to, uint16_t value)
{
    le16_put(to, value);
    be16_put(to + 2, value);
}

static void put_both32(uint8_t *to, uint32_t value)
{
    le32_put(to, value);
    be32_put(to + 4, value);
}

/* Text of a fixed length, filled up with blanks; Joliet's has two bytes a character. */
static void put_text(uint8_t *to, size_t len, const char *text, bool joliet)
{
    for (size_t i = 0; i < len; i += joliet ? 2 : 1) {
        char c = *text ? *text++ : ' ';
        to[i] = joliet ? 0 : (uint8_t)c;
        if (joliet && i + 1 < len)
            to[i + 1] = (uint8_t)c;
    }
}

static uint32_t sectors(size_t bytes)
{
    return (uint32_t)((bytes + SECTOR - 1) / SECTOR);
}

/* One record of a folder; how long it is. `name` and its length are as they stand there. */
static size_t put_record(uint8_t *to, const uint8_t *name, size_t name_len, uint32_t at, size_t size,
                         bool folder)
{
    size_t len = (RECORD + name_len + 1) / 2 * 2;
    to[0] = (uint8_t)len;
    put_both32(to + 2, at);
    put_both32(to + 10, (uint32_t)size);
    memcpy(to + 18, (const uint8_t[]){70, 1, 1, 0, 0, 0, 0}, 7); /* 1970-01-01 */
    to[25] = folder ? 2 : 0;
    put_both16(to + 28, 1);
    to[32] = (uint8_t)name_len;
    memcpy(to + RECORD, name, name_len);
    return len;
}

static size_t put_root(uint8_t *to, uint8_t self_or_parent, bool joliet)
{
    return put_record(to, &self_or_parent, 1, joliet ? AT_JOLIET_FOLDER : AT_FOLDER, SECTOR, true);
}

static void put_volume(uint8_t *to, uint32_t total, bool joliet)
{
    static const struct {
        size_t at, len;
    } blank[] = {{8, 32}, {190, 128}, {318, 128}, {446, 128}, {574, 128}, {702, 37}, {739, 37}, {776, 37}};
    static const size_t dates[] = {813, 830, 847, 864};
    memcpy(to + 1, "CD001\1", 6);
    to[0] = joliet ? 2 : 1;
    for (size_t i = 0; i < ARRAY_LEN(blank); i++)
        put_text(to + blank[i].at, blank[i].len, "", joliet);
    put_text(to + 40, 32, VOLUME, joliet);
    put_both32(to + 80, total);
    if (joliet)
        memcpy(to + 88, "%/E", 3); /* two bytes a character */
    put_both16(to + 120, 1);
    put_both16(to + 124, 1);
    put_both16(to + 128, SECTOR);
    put_both32(to + 132, 10); /* bytes of a table of paths */
    le32_put(to + 140, AT_PATHS + (joliet ? 2 : 0));
    be32_put(to + 148, AT_PATHS + (joliet ? 3 : 1));
    put_root(to + 156, 0, joliet);
    for (size_t i = 0; i < ARRAY_LEN(dates); i++)
        memset(to + dates[i], '0', 16); /* not said */
    to[881] = 1;
}

/* The root is the only path. */
static void put_paths(uint8_t *to, bool joliet)
{
    uint32_t at = joliet ? AT_JOLIET_FOLDER : AT_FOLDER;
    to[0] = to[SECTOR] = 1;
    le32_put(to + 2, at);
    le16_put(to + 6, 1);
    be32_put(to + SECTOR + 2, at);
    be16_put(to + SECTOR + 6, 1);
}

/* "user-data" is USER-DATA.;1, and by Joliet itself. */
static size_t file_name(const char *name, bool joliet, uint8_t out[static 2 * SEED_NAME + 3])
{
    size_t len = strlen(name);
    if (joliet) {
        put_text(out, 2 * len, name, true);
        return 2 * len;
    }
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)toupper((unsigned char)name[i]);
    memcpy(out + len, ".;1", 3);
    return len + 3;
}

static void put_folder(uint8_t *to, const struct str_map *files, bool joliet)
{
    uint32_t at = AT_FILES;
    size_t n = put_root(to, 0, joliet);
    n += put_root(to + n, 1, joliet);
    for (size_t i = 0; i < files->count; i++) {
        uint8_t name[2 * SEED_NAME + 3];
        size_t len = file_name(files->pairs[i].key, joliet, name), size = str_len(files->pairs[i].value);
        n += put_record(to + n, name, len, at, size, false);
        at += sectors(size);
    }
}

void seed_write(const struct str_map *files, struct buf *out)
{
    uint32_t total = AT_FILES, at = AT_FILES;
    for (size_t i = 0; i < files->count; i++)
        total += sectors(str_len(files->pairs[i].value));
    size_t bytes = (size_t)total * SECTOR;
    uint8_t *image = (uint8_t *)buf_reserve(out, bytes);
    memset(image, 0, bytes);
    for (int joliet = 0; joliet < 2; joliet++) {
        put_volume(image + (AT_VOLUME + joliet) * SECTOR, total, joliet);
        put_paths(image + (AT_PATHS + 2 * joliet) * SECTOR, joliet);
        put_folder(image + (AT_FOLDER + joliet) * SECTOR, files, joliet);
    }
    memcpy(image + AT_END * SECTOR, "\377CD001\1", 7);
    for (size_t i = 0; i < files->count; i++) {
        size_t size = str_len(files->pairs[i].value);
        memcpy(image + (size_t)at * SECTOR, files->pairs[i].value, size);
        at += sectors(size);
    }
    buf_advance(out, bytes);
}

int seed_open(const struct str_map *files)
{
    AUTO_BUF struct buf image = BUF_INIT;
    char path[40];
    seed_write(files, &image);
    int fd AUTO_CLOSE = memfd_create("seed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || file_write_all(fd, image.data, image.len) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -1;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}
