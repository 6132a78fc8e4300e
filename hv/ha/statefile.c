/* Layout of a sector, numbers with the lowest byte first: 8 bytes magic, 4 version, 4 index, 4 state, 4 zero,
 * 8 sequence, 16 generation, 16 host, 8 checksum of all before, zeros. */
#include "statefile.h"

#include <base/bytes.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAGIC "CORRALHA"
#define VERSION 1
#define CHECKSUM_AT 64

size_t statefile_slot(size_t host)
{
    return 1 + 2 * host;
}

size_t statefile_verdict(size_t host)
{
    return 2 + 2 * host;
}

static uint64_t checksum(const uint8_t *data, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a: against torn writes, not against an enemy */
    for (size_t i = 0; i < len; i++)
        h = (h ^ data[i]) * UINT64_C(0x100000001b3);
    return h;
}

static void put_uuid(uint8_t *at, const char *text)
{
    struct ref uuid = REF_NULL;
    if (*text && !uuid_parse(text, &uuid))
        uuid = REF_NULL;
    _Static_assert(sizeof(uuid) == 16, "a uuid has 16 bytes");
    memcpy(at, &uuid, sizeof(uuid));
}

static void get_uuid(const uint8_t *at, char text[static UUID_TEXT_SIZE])
{
    struct ref uuid;
    memcpy(&uuid, at, sizeof(uuid));
    text[0] = '\0';
    if (!ref_is_null(uuid))
        uuid_format(uuid, text);
}

void statefile_encode(const struct statefile_entry *entry, uint8_t sector[static STATEFILE_SECTOR])
{
    memset(sector, 0, STATEFILE_SECTOR);
    memcpy(sector, MAGIC, 8);
    le32_put(sector + 8, VERSION);
    le32_put(sector + 12, entry->index);
    le32_put(sector + 16, entry->state);
    le64_put(sector + 24, entry->sequence);
    put_uuid(sector + 32, entry->generation);
    put_uuid(sector + 48, entry->host);
    le64_put(sector + CHECKSUM_AT, checksum(sector, CHECKSUM_AT));
}

bool statefile_decode(const uint8_t sector[static STATEFILE_SECTOR], struct statefile_entry *entry)
{
    if (memcmp(sector, MAGIC, 8) != 0 || le32_get(sector + 8) != VERSION ||
        le64_get(sector + CHECKSUM_AT) != checksum(sector, CHECKSUM_AT))
        return false;
    uint32_t index = le32_get(sector + 12), state = le32_get(sector + 16);
    if (index >= STATEFILE_SECTORS || state == STATEFILE_NOTHING || state > STATEFILE_OUT)
        return false;
    *entry = (struct statefile_entry){.index = index, .state = state, .sequence = le64_get(sector + 24)};
    get_uuid(sector + 32, entry->generation);
    get_uuid(sector + 48, entry->host);
    return true;
}

/* ---- access ---- */

static int fail(struct statefile_error *error, const char *what)
{
    snprintf(error->text, sizeof(error->text), "The heartbeat disk cannot be %s: %s", what,
             errno ? strerror(errno) : "it is too short");
    return -1;
}

static int open_file(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_DIRECT);
    if (fd < 0 && errno == EINVAL) /* a file system that has no such way */
        fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
    return fd;
}

/* As direct access needs it. */
static uint8_t *buffer(size_t sectors)
{
    void *data = NULL;
    if (posix_memalign(&data, STATEFILE_SECTOR, sectors * STATEFILE_SECTOR) != 0)
        abort();
    return data;
}

int statefile_write(const char *path, const struct statefile_entry *entry, struct statefile_error *error)
{
    AUTO_FREE uint8_t *data = buffer(1);
    statefile_encode(entry, data);
    struct iovec part = {data, STATEFILE_SECTOR};
    off_t at = (off_t)entry->index * STATEFILE_SECTOR;
    int fd AUTO_CLOSE = open_file(path, O_RDWR);
    if (fd < 0)
        return fail(error, "opened");
    errno = 0;
    ssize_t n = pwritev2(fd, &part, 1, at, RWF_DSYNC);
    if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL)) {
        n = pwrite(fd, data, STATEFILE_SECTOR, at);
        if (n == STATEFILE_SECTOR && fdatasync(fd) < 0)
            n = -1;
    }
    return n == STATEFILE_SECTOR ? 0 : fail(error, "written");
}

static int read_sectors(const char *path, size_t from, size_t count, uint8_t *data,
                        struct statefile_error *error)
{
    int fd AUTO_CLOSE = open_file(path, O_RDONLY);
    if (fd < 0)
        return fail(error, "opened");
    /* Where reading past the cache is not possible. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return file_read_at(fd, data, count * STATEFILE_SECTOR, (int64_t)(from * STATEFILE_SECTOR)) < 0
               ? fail(error, "read")
               : 0;
}

static void take(const uint8_t *sector, size_t index, const char *generation, struct statefile_entry *entry)
{
    if (!statefile_decode(sector, entry) || entry->index != index ||
        strcmp(entry->generation, generation) != 0)
        *entry = (struct statefile_entry){.index = (uint32_t)index, .state = STATEFILE_NOTHING};
}

int statefile_read(const char *path, size_t sector, const char *generation, struct statefile_entry *entry,
                   struct statefile_error *error)
{
    AUTO_FREE uint8_t *data = buffer(1);
    if (read_sectors(path, sector, 1, data, error) < 0)
        return -1;
    take(data, sector, generation, entry);
    return 0;
}

int statefile_read_all(const char *path, size_t hosts, const char *generation,
                       struct statefile_entry *entries, struct statefile_error *error)
{
    size_t count = 1 + 2 * hosts;
    AUTO_FREE uint8_t *data = buffer(count);
    if (read_sectors(path, 0, count, data, error) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        take(data + i * STATEFILE_SECTOR, i, generation, &entries[i]);
    return 0;
}
