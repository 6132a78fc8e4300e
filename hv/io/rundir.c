/* Files of running and ended domains (rundir.h). Everything goes through the folder's descriptor; unix
 * sockets too (/proc/self/fd/<n>/name), since their paths may be only 107 bytes long. */
#include "rundir.h"
#include <base/buf.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define RECORD_MAX (256 * 1024)

void rundir_record_done(struct rundir_record *record)
{
    domain_config_done(&record->config);
    json_decref(record->layout);
    record->layout = NULL;
    str_unref(record->offer);
    record->offer = NULL;
}

int rundir_prepare(const char *state_dir, struct hv_err *err)
{
    static const char *const names[] = {"run", "ended", "nvram"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path AUTO_FREE = xasprintf("%s/%s", state_dir, names[i]);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return hv_fail(err, HV_ERR_KIND_IO, "The folder %s of the agent cannot be made: %s", names[i],
                           strerror(errno));
    }
    return 0;
}

int rundir_open(const char *state_dir, const char *uuid, struct rundir *dir)
{
    char *path AUTO_FREE = xasprintf("%s/run/%s", state_dir, uuid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    dir->fd = fd;
    return 0;
}

int rundir_create(const char *state_dir, const char *uuid, struct rundir *dir, struct hv_err *err)
{
    char *path AUTO_FREE = xasprintf("%s/run/%s", state_dir, uuid);
    if (mkdir(path, 0700) < 0 || rundir_open(state_dir, uuid, dir) < 0)
        return hv_fail(err, errno == ENOSPC ? HV_ERR_KIND_NO_SPACE : HV_ERR_KIND_IO,
                       "The domain's folder on the host cannot be made: %s", strerror(errno));
    return 0;
}

void rundir_close(struct rundir *dir)
{
    if (dir->fd >= 0)
        close(dir->fd);
    dir->fd = -1;
}

static void remove_all_but(const struct rundir *dir, const char *const *keep, size_t keep_count)
{
    DIR *list = dir->fd >= 0 ? fdopendir(openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) : NULL;
    for (struct dirent *e; list && (e = readdir(list));) {
        bool kept = streq(e->d_name, ".") || streq(e->d_name, "..");
        for (size_t i = 0; i < keep_count; i++)
            kept = kept || streq(e->d_name, keep[i]);
        if (!kept)
            unlinkat(dir->fd, e->d_name, 0);
    }
    if (list)
        closedir(list);
}

void rundir_clear(const struct rundir *dir)
{
    static const char *const keep[] = {"config.json", "serial.log"};
    remove_all_but(dir, keep, ARRAY_LEN(keep));
}

void rundir_remove(const char *state_dir, const char *uuid, struct rundir *dir)
{
    remove_all_but(dir, NULL, 0);
    rundir_close(dir);
    char *path AUTO_FREE = xasprintf("%s/run/%s", state_dir, uuid);
    if (rmdir(path) < 0 && errno != ENOENT)
        log_warn("rundir", "a domain's folder cannot be removed", "domain", uuid, "error", strerror(errno));
}

static int write_file(int dir, const char *name, const char *data, size_t len)
{
    int fd AUTO_CLOSE = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, data, len);
    if (n == (ssize_t)len)
        return 0;
    if (n >= 0)
        errno = ENOSPC;
    return -1;
}

/* Not synced: it has to outlive the agent, not the host, with which the domain ends too. */
int rundir_write_record(const struct rundir *dir, const struct rundir_record *record, struct hv_err *err)
{
    struct buf text AUTO_BUF = BUF_INIT;
    buf_printf(&text, "{\"domid\":%lld,\"uid\":%lld,\"start_time\":%lld,\"boot_time\":%lld,\"reboots\":%lld",
               (long long)record->domid, (long long)record->uid, (long long)record->start_time,
               (long long)record->boot_time, (long long)record->reboots);
    buf_add_str(&text, ",\"boot_id\":");
    json_write_string(&text, record->boot_id);
    buf_printf(&text, ",\"memory_target\":%lld,\"held\":%s,\"incoming\":%s",
               (long long)record->memory_target_bytes, record->held ? "true" : "false",
               record->incoming ? "true" : "false");
    buf_printf(&text, ",\"frozen\":%s,\"data_version\":%lld", record->frozen ? "true" : "false",
               (long long)record->data_version);
    buf_printf(&text, ",\"anew\":%lld,\"tells_off\":%s", (long long)record->anew,
               record->tells_off ? "true" : "false");
    if (record->layout) {
        buf_add_str(&text, ",\"layout\":");
        json_write(&text, record->layout);
    }
    if (record->offer) {
        buf_add_str(&text, ",\"offer\":");
        json_write_string(&text, record->offer);
    }
    buf_add_str(&text, ",\"config\":");
    wire_encode(&domain_config_desc, &record->config, &text);
    buf_add_str(&text, "}\n");
    if (write_file(dir->fd, "config.new", text.data, text.len) < 0 ||
        renameat(dir->fd, "config.new", dir->fd, "config.json") < 0)
        return hv_fail(err, errno == ENOSPC ? HV_ERR_KIND_NO_SPACE : HV_ERR_KIND_IO,
                       "The domain's record on the host cannot be written: %s", strerror(errno));
    return 0;
}

static char *read_at(int dir, const char *name, size_t max, size_t *len)
{
    int fd AUTO_CLOSE = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    struct buf text = BUF_INIT;
    ssize_t n;
    while (text.len <= max && (n = read(fd, buf_reserve(&text, 16384), 16384)) > 0)
        buf_advance(&text, (size_t)n);
    if (text.len > max)
        text.len = max;
    *len = text.len;
    return buf_take(&text);
}

int rundir_read_record(const struct rundir *dir, struct rundir_record *record)
{
    size_t len;
    char *text AUTO_FREE = read_at(dir->fd, "config.json", RECORD_MAX, &len);
    struct json_error error;
    json_t *json AUTO_JSON = text ? json_parse(text, len, &error) : NULL;
    const char *boot_id;
    char complaint[WIRE_COMPLAINT_SIZE];
    struct rundir_record read = {0};
    if (!json || !json_get_int(json, "domid", &read.domid) ||
        !json_get_int(json, "start_time", &read.start_time) ||
        !json_get_int(json, "boot_time", &read.boot_time) || !json_get_int(json, "reboots", &read.reboots) ||
        !json_get_string(json, "boot_id", &boot_id) ||
        wire_decode(&domain_config_desc, json_object_get(json, "config"), &read.config, complaint) < 0)
        return -1;
    snprintf(read.boot_id, sizeof(read.boot_id), "%s", boot_id);
    /* Absent in what an older agent wrote. */
    json_get_int(json, "uid", &read.uid);
    json_get_int(json, "memory_target", &read.memory_target_bytes);
    json_get_bool(json, "held", &read.held);
    json_get_bool(json, "incoming", &read.incoming);
    json_get_bool(json, "frozen", &read.frozen);
    json_get_int(json, "data_version", &read.data_version);
    json_get_int(json, "anew", &read.anew);
    json_get_bool(json, "tells_off", &read.tells_off);
    const char *offer;
    if (json_get_string(json, "offer", &offer))
        read.offer = str_new(offer);
    read.layout = json_incref(json_object_get(json, "layout"));
    *record = read;
    return 0;
}

int rundir_read_pid(const struct rundir *dir, struct rundir_pid *pid)
{
    return rundir_read_pid_file(dir, "pid", pid);
}

int rundir_read_pid_file(const struct rundir *dir, const char *name, struct rundir_pid *pid)
{
    size_t len;
    char *text AUTO_FREE = read_at(dir->fd, name, 100, &len);
    int number;
    unsigned long long ticks;
    if (!text || sscanf(text, "%d %llu", &number, &ticks) != 2 || number <= 0)
        return -1;
    *pid = (struct rundir_pid){number, ticks};
    return 0;
}

static void socket_address(const struct rundir *dir, const char *name, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", dir->fd, name);
}

int rundir_listen(const struct rundir *dir, const char *name, struct hv_err *err)
{
    struct sockaddr_un address;
    socket_address(dir, name, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 4) == 0)
        return fd;
    hv_fail(err, HV_ERR_KIND_IO, "A socket of the domain cannot be made: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

int rundir_connect(const struct rundir *dir, const char *name)
{
    struct sockaddr_un address;
    socket_address(dir, name, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    int failure = errno;
    close(fd);
    errno = failure;
    return -1;
}

int rundir_log(const struct rundir *dir, const char *name)
{
    return openat(dir->fd, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

char *rundir_tail(const struct rundir *dir, const char *name, size_t max, size_t *len)
{
    struct buf text = BUF_INIT;
    int fd AUTO_CLOSE = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    off_t from = size > (off_t)max ? size - (off_t)max : 0;
    while (fd >= 0 && text.len < max) {
        ssize_t n = pread(fd, buf_reserve(&text, max - text.len), max - text.len, from + (off_t)text.len);
        if (n <= 0)
            break;
        buf_advance(&text, (size_t)n);
    }
    *len = text.len;
    return buf_take(&text);
}

void rundir_trim(const struct rundir *dir, const char *name, size_t max, size_t keep)
{
    struct stat st;
    size_t len;
    int fd AUTO_CLOSE = rundir_log(dir, name);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= (off_t)max)
        return;
    char *tail AUTO_FREE = rundir_tail(dir, name, keep, &len);
    if (ftruncate(fd, 0) < 0 || write(fd, tail, len) < 0)
        log_warn("rundir", "a log cannot be shortened", "file", name, "error", strerror(errno));
}

int ended_write(const char *state_dir, const struct domain_info *info)
{
    struct buf text AUTO_BUF = BUF_INIT;
    wire_encode(&domain_info_desc, info, &text);
    buf_add_char(&text, '\n');
    char *path AUTO_FREE = xasprintf("%s/ended/%s.json", state_dir, info->uuid);
    return file_write_atomic(path, text.data, text.len, 0600);
}

int ended_read(const char *state_dir, const char *file_name, struct domain_info *info)
{
    char *path AUTO_FREE = xasprintf("%s/ended/%s", state_dir, file_name);
    size_t len;
    char *text AUTO_FREE = file_read(path, RECORD_MAX, &len);
    struct json_error error;
    json_t *json AUTO_JSON = text ? json_parse(text, len, &error) : NULL;
    char complaint[WIRE_COMPLAINT_SIZE];
    if (!json || wire_decode(&domain_info_desc, json, info, complaint) < 0)
        return -1;
    return 0;
}

void ended_remove(const char *state_dir, const char *uuid)
{
    char *path AUTO_FREE = xasprintf("%s/ended/%s.json", state_dir, uuid);
    if (unlink(path) < 0 && errno != ENOENT)
        log_warn("rundir", "the record of an ended domain cannot be removed", "domain", uuid, "error",
                 strerror(errno));
}

unsigned long long process_start_ticks(pid_t pid)
{
    char *path AUTO_FREE = xasprintf("/proc/%d/stat", (int)pid);
    size_t len;
    char *text AUTO_FREE = file_read(path, 4096, &len);
    char *p = text ? strrchr(text, ')') : NULL;
    /* A zombie is no live process. */
    if (!p || p[1] != ' ' || p[2] == 'Z' || p[2] == 'X')
        return 0;
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p ? strtoull(p + 1, NULL, 10) : 0;
}

void host_boot_id(char out[static 40])
{
    size_t len;
    char *text AUTO_FREE = file_read("/proc/sys/kernel/random/boot_id", 64, &len);
    snprintf(out, 40, "%.36s", text ? text : "");
}
