/* A directory SR in a temporary folder, and streams of test data. */
#pragma once
#include <base/file.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hv/storage.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define UUID_1 "11111111-2222-4333-8444-555555555555"
#define UUID_2 "99999999-2222-4333-8444-555555555555"
#define MIB (INT64_C(1) << 20)

struct fixture {
    char *dir;
    const struct str_map *config;
    struct storage_sr *sr;
    struct storage_error error;
};

static inline const struct str_map *config_for(const char *location)
{
    return str_map_new(&(struct str_pair){"location", location}, 1);
}

static inline void fixture_attach(struct fixture *f, const char *type)
{
    cr_assert_eq(storage_sr_attach(type, f->config, &f->sr, &f->error), 0, "%s", f->error.text);
}

/* qemu-img runs as nobody when the tests run as root. */
static inline struct fixture fixture_open(const char *type)
{
    char pattern[] = "/tmp/corral-storage-XXXXXX";
    struct fixture f = {.dir = xstrdup(mkdtemp(pattern))};
    storage_set_user(65534, 65534);
    storage_set_launcher(LAUNCHER);
    f.config = config_for(f.dir);
    fixture_attach(&f, type);
    return f;
}

static inline int count_files(const struct fixture *f)
{
    int count = 0;
    DIR *dir = opendir(f->dir);
    for (const struct dirent *e; (e = readdir(dir));)
        count += !streq(e->d_name, ".") && !streq(e->d_name, "..");
    closedir(dir);
    return count;
}

static inline char *path_in(const struct fixture *f, const char *name)
{
    return xasprintf("%s/%s", f->dir, name);
}

static inline void fixture_close(struct fixture *f)
{
    storage_sr_detach(f->sr);
    str_map_unref(f->config);
    DIR *dir = opendir(f->dir);
    for (const struct dirent *e; (e = readdir(dir));)
        unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    rmdir(f->dir);
    free(f->dir);
}

/* A program that must succeed. */
static inline void run_tool(const char *const *argv)
{
    AUTO_PROC_RESULT struct proc_result result = PROC_RESULT_INIT;
    struct proc_run_options options = {.timeout_ms = 240000, .capture_max = 65536};
    cr_assert_eq(proc_run(&(struct proc_spec){.argv = argv}, &options, &result), 0);
    cr_assert(proc_ok(&result), "%s: %s with %d: %s", argv[0], result.timed_out ? "late, ended" : "ended",
              result.code, result.err.len ? result.err.data : "");
}
#define RUN(...) run_tool((const char *const[]){__VA_ARGS__, NULL})

static inline void put_file(const char *path, const void *data, size_t len)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, data, len), (ssize_t)len);
}

/* A whole file; the caller frees. */
static inline char *slurp(const char *path, int64_t *len)
{
    size_t size;
    char *data = file_read(path, 64 << 20, &size);
    cr_assert(data, "%s: %s", path, strerror(errno));
    *len = (int64_t)size;
    return data;
}

/* An image of `data`, as qemu-img makes it; the caller frees. */
static inline char *convert_data(struct fixture *f, const char *data, int64_t size, enum disk_format format,
                                 const char *options, int64_t *len)
{
    AUTO_FREE char *raw = xasprintf("%s-raw", f->dir);
    AUTO_FREE char *image = xasprintf("%s-image", f->dir);
    put_file(raw, data, (size_t)size);
    RUN("qemu-img", "convert", "-f", "raw", "-O", disk_format_name(format), "-o", options, raw, image);
    char *bytes = slurp(image, len);
    unlink(raw);
    unlink(image);
    return bytes;
}

/* A source over bytes in memory, given in odd pieces; breaks at `break_at` if that is not negative. */
struct memory_source {
    const char *data;
    int64_t len, at, break_at;
    size_t piece;
};
static inline ssize_t memory_read(void *arg, void *to, size_t max)
{
    struct memory_source *m = arg;
    size_t n = max < m->piece ? max : m->piece;
    if ((int64_t)n > m->len - m->at)
        n = (size_t)(m->len - m->at);
    if (m->break_at >= 0 && m->at + (int64_t)n > m->break_at)
        return -1;
    memcpy(to, m->data + m->at, n);
    m->at += (int64_t)n;
    return (ssize_t)n;
}

struct memory_sink {
    char *data;
    int64_t announced, len;
    int64_t give_up_at;
};
static inline int memory_begin(void *arg, int64_t length)
{
    struct memory_sink *m = arg;
    m->announced = length;
    m->data = xmalloc((size_t)length + 1);
    return 0;
}
static inline int memory_write(void *arg, const void *data, size_t len)
{
    struct memory_sink *m = arg;
    if (m->give_up_at && m->len + (int64_t)len > m->give_up_at)
        return -1;
    cr_assert(m->len + (int64_t)len <= m->announced);
    memcpy(m->data + m->len, data, len);
    m->len += (int64_t)len;
    return 0;
}

/* Half zeros in runs, half bytes that do not repeat. */
static inline char *test_data(int64_t len, unsigned seed)
{
    char *data = xcalloc(1, (size_t)len + 1);
    for (int64_t i = 0; i < len; i++) {
        seed = seed * 1103515245 + 12345;
        if (i / 100000 % 2)
            data[i] = (char)(seed >> 16);
    }
    return data;
}
