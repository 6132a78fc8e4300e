/* Images: the qcow2 header (docs/interop/qcow2.txt of QEMU), and qemu-img, run as the storage user, with
 * limits, its files as descriptors and every format explicit. */
#include "storage_internal.h"
#include <base/bytes.h>
#include <base/confine.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>

#define HEADER_SIZE 104 /* of version 3; version 2 has 72 */
/* Incompatible features that change nothing for a reader outside of the file: dirty, corrupt (qemu-img
 * tells), compression type, extended L2. Bit 2 is the external data file. */
#define FEATURE_DATA_FILE (UINT64_C(1) << 2)
#define FEATURES_KNOWN UINT64_C(0x1f)
#define BACKING_AT_MAX (2 << 20) /* it stands in the first cluster */

bool qcow2_header_read(int fd, struct qcow2_header *out)
{
    uint8_t h[HEADER_SIZE] = {0};
    ssize_t n = pread(fd, h, sizeof(h), 0);
    if (n < 72 || memcmp(h, "QFI\xfb", 4) != 0)
        return false;
    uint32_t version = be32_get(h + 4);
    if ((version != 2 && version != 3) || (version == 3 && n < HEADER_SIZE))
        return false;
    uint64_t features = version == 3 ? be64_get(h + 72) : 0, size = be64_get(h + 24);
    if (size > INT64_MAX)
        return false;
    *out = (struct qcow2_header){
        .virtual_size = (int64_t)size,
        .backing_file = be64_get(h + 8) != 0 || be32_get(h + 16) != 0,
        .encrypted = be32_get(h + 32) != 0,
        .data_file = (features & FEATURE_DATA_FILE) != 0,
        .unknown_features = (features & ~FEATURES_KNOWN) != 0,
    };
    uint64_t at = be64_get(h + 8);
    uint32_t len = be32_get(h + 16);
    if (out->backing_file && len < sizeof(out->backing) && at < BACKING_AT_MAX &&
        file_read_at(fd, out->backing, len, (int64_t)at) < 0)
        out->backing[0] = '\0';
    return true;
}

/* ---- qemu-img ---- */

struct progress {
    const struct storage_job *job;
    double from, to, last;
    char text[32]; /* the number that is arriving */
    size_t len;
};

/* "    (12.34/100%)\r", again and again. */
static void on_progress(void *arg, const char *data, size_t len)
{
    struct progress *p = arg;
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '(') {
            p->len = 0;
        } else if (data[i] == '/') {
            p->text[p->len] = '\0';
            double fraction = p->from + (p->to - p->from) * strtod(p->text, NULL) / 100;
            if (fraction > p->last) {
                p->last = fraction;
                job_progress(p->job, fraction);
            }
            p->len = 0;
        } else if (p->len < sizeof(p->text) - 1) {
            p->text[p->len++] = data[i];
        }
    }
}

/* One line for a person, without the paths that only the child knows. */
static void clean_message(const struct buf *err, char out[static 160])
{
    const char *p = err->len ? err->data : "no message";
    static const char prefix[] = "qemu-img: ";
    if (strncmp(p, prefix, strlen(prefix)) == 0)
        p += strlen(prefix);
    size_t n = 0;
    while (*p && *p != '\n' && n < 159) {
        if (strncmp(p, "/proc/self/fd/", 14) == 0) {
            static const char word[] = "the image";
            size_t add = sizeof(word) - 1 < 159 - n ? sizeof(word) - 1 : 159 - n;
            memcpy(out + n, word, add);
            n += add;
            p += 14 + strspn(p + 14, "0123456789");
            continue;
        }
        out[n++] = (unsigned char)*p < 0x20 ? ' ' : *p;
        p++;
    }
    out[n] = '\0';
}

/* qemu-img's exit code says only that it failed. A full file system can be seen; the system's own
 * words in the fixed C locale stand in for quotas and limits. */
static bool was_full(const struct storage_sr *sr, const struct buf *err)
{
    struct statvfs fs;
    if (fstatvfs(sr->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < 65536)
        return true;
    static const char *const words[] = {"No space left on device", "Disk quota exceeded", "File too large"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (err->len && strstr(err->data, words[i]))
            return true;
    return false;
}

static int explain(const struct storage_sr *sr, const struct proc_result *result, struct storage_error *error)
{
    char text[160];
    if (result->cancelled)
        return storage_fail(error, STORAGE_CANCELLED, "cancelled");
    if (result->timed_out)
        return storage_fail(error, STORAGE_IO, "qemu-img did not finish in time");
    clean_message(&result->err, text);
    if (was_full(sr, &result->err))
        return storage_fail(error, STORAGE_FULL, "no space is left in the SR: %s", text);
    if (!result->exited)
        return storage_fail(error, STORAGE_BAD_IMAGE, "qemu-img was ended by signal %d", result->code);
    return storage_fail(error, STORAGE_BAD_IMAGE, "qemu-img refuses: %s", text);
}

int tool_hand_over(const struct storage_sr *sr, const int *files, size_t count, struct proc_fd *out,
                   struct storage_error *error)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = (struct proc_fd){files[i], TOOL_FD + (int)i};
        /* The child opens the file anew through /proc, as the storage user: it must own it. */
        struct stat st;
        if (storage_uid() != 0 && !sr->kind->read_only && fstat(files[i], &st) == 0 && st.st_uid == 0 &&
            fchown(files[i], storage_uid(), storage_gid()) < 0)
            return storage_fail_errno(error, errno, "cannot hand the disk over");
    }
    return 0;
}

int tool_confine(const int *files, size_t count, int *ruleset, struct storage_error *error)
{
    *ruleset = -1;
    if (!storage_launcher() || confine_version() == 0)
        return 0;
    int made = confine_new(false);
    bool ok = made >= 0;
    for (size_t i = 0; ok && i < count; i++) {
        int flags = fcntl(files[i], F_GETFL);
        bool reads = flags >= 0 && (flags & O_ACCMODE) == O_RDONLY;
        ok = confine_allow_fd(made, files[i], reads ? CONFINE_READ : CONFINE_WRITE) == 0;
    }
    if (ok) {
        *ruleset = made;
        return 0;
    }
    storage_fail_errno(error, errno, "a program cannot be kept from other files");
    if (made >= 0)
        close(made);
    return -1;
}

int tool_run(const struct storage_sr *sr, const struct tool_run *run, struct storage_error *error)
{
    const char *argv[32];
    size_t n = 0;
    AUTO_CLOSE int ruleset = -1;
    AUTO_BUF struct buf keep = BUF_INIT;
    char ruleset_text[16];
    if (job_cancelled(run->job)) /* it could be done before anybody looks */
        return storage_fail(error, STORAGE_CANCELLED, "cancelled");
    if (tool_confine(run->fds, run->fd_count, &ruleset, error) < 0)
        return -1;
    struct proc_fd fds[LAYERS_MAX + 3];
    for (size_t i = 0; i < run->fd_count; i++)
        buf_printf(&keep, "%s%zu", i ? "," : "", TOOL_FD + i);
    if (ruleset >= 0) {
        snprintf(ruleset_text, sizeof(ruleset_text), "%zu", TOOL_FD + run->fd_count);
        const char *const before[] = {storage_launcher(), "--ruleset", ruleset_text,
                                      "--keep",           keep.data,   "--"};
        memcpy(argv, before, sizeof(before));
        n = ARRAY_LEN(before);
        fds[run->fd_count] = (struct proc_fd){ruleset, TOOL_FD + (int)run->fd_count};
    }
    argv[n++] = "/usr/bin/qemu-img";
    for (size_t i = 0; run->argv[i]; i++) {
        if (n + 1 >= ARRAY_LEN(argv))
            abort(); /* a longer command line would be a mistake in this folder */
        argv[n++] = run->argv[i];
    }
    argv[n] = NULL;
    if (tool_hand_over(sr, run->fds, run->fd_count, fds, error) < 0)
        return -1;
    struct proc_limit limits[] = {
        {RLIMIT_AS, (rlim_t)4 << 30},
        {RLIMIT_CORE, 0},
        {RLIMIT_FSIZE, run->file_size_max},
        {RLIMIT_CPU, run->cpu_seconds_max},
    };
    /* Without a bound an option would only say "unlimited". */
    size_t limit_count = 2;
    if (run->file_size_max != RLIM_INFINITY)
        limit_count = 3;
    if (run->cpu_seconds_max != 0)
        limits[limit_count++] = limits[3];
    struct progress progress = {run->job, run->progress_from, run->progress_to, -1, "", 0};
    struct proc_spec spec = {.argv = argv,
                             .fds = fds,
                             .fd_count = run->fd_count + (ruleset >= 0),
                             .ends_with_caller = run->ends_with_caller,
                             .uid = storage_uid(),
                             .gid = storage_gid(),
                             .limits = limits,
                             .limit_count = limit_count};
    struct proc_run_options options = {.timeout_ms = run->timeout_ms,
                                       .capture_max = 1 << 20,
                                       .cancel = run->job ? run->job->cancel : NULL,
                                       .on_out = run->job ? on_progress : NULL,
                                       .arg = &progress};
    AUTO_PROC_RESULT struct proc_result result = PROC_RESULT_INIT;
    if (proc_run(&spec, &options, &result) < 0)
        return storage_fail(error, STORAGE_IO, "qemu-img cannot be started: %s", strerror(errno));
    if (!proc_ok(&result) && !(result.exited && result.code == run->fine_code)) {
        char message[160];
        clean_message(&result.err, message);
        log_info("storage", "qemu-img failed", "command", run->argv[0], "code", LOG_INT(result.code),
                 "message", message);
        return explain(sr, &result, error);
    }
    if (run->output) {
        buf_done(run->output);
        *run->output = result.out;
        result.out = BUF_INIT;
    }
    return 0;
}

/* qemu-img convert from `source` into descriptor TOOL_FD, of which `fds` is the first. */
static int convert(const struct storage_sr *sr, const struct conversion *how, const char *const *source,
                   const int *fds, size_t fd_count, struct storage_error *error)
{
    const char *argv[16] = {"convert",          "-p", "-n",
                            "--target-is-zero", "-O", disk_format_name(how->to_format)};
    size_t n = 6;
    while (*source)
        argv[n++] = *source++;
    argv[n] = TOOL_PATH_SOURCE;
    static const struct storage_job nobody = {0};
    struct tool_run run = {
        .argv = argv,
        .fds = fds,
        .fd_count = fd_count,
        .timeout_ms = -1,
        /* The data, and for qcow2 its tables. */
        .file_size_max = (rlim_t)how->target_size + (rlim_t)how->target_size / 64 + ((rlim_t)64 << 20),
        .job = how->job ? how->job : &nobody,
        .progress_from = how->progress_from,
        .progress_to = how->progress_to,
    };
    return tool_run(sr, &run, error);
}

int image_convert(const struct storage_sr *sr, int from, enum disk_format from_format,
                  const struct conversion *how, struct storage_error *error)
{
    /* Of a VHD image the size is what the footer says, not what the geometry beside it would give. */
    static const char *const vhd[] = {"--image-opts",
                                      "driver=vpc,force_size_calc=current_size,file.driver=file,"
                                      "file.filename=" TOOL_PATH_TARGET,
                                      NULL};
    const char *const plain[] = {"-f", disk_format_name(from_format), TOOL_PATH_TARGET, NULL};
    const int fds[] = {how->to, from};
    return convert(sr, how, from_format == DISK_VHD ? vhd : plain, fds, 2, error);
}

/* ---- disks of several images ---- */

json_t *layers_node(const struct disk_layers *layers, int first)
{
    json_t *below = json_null();
    for (size_t i = layers->count; i-- > 0;) {
        char path[40];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", TOOL_FD + first + (int)i);
        json_t *node = json_pack("{s:s, s:{s:s, s:s}}", "driver", disk_format_name(layers->files[i].format),
                                 "file", "driver", "file", "filename", path);
        if (layers->files[i].format == DISK_QCOW2)
            json_object_set(node, "backing", below);
        json_decref(below);
        below = node;
    }
    return below;
}

/* `count` 0: all of it. */
static char *layers_spec(const struct disk_layers *layers, int first, int64_t at, int64_t count)
{
    AUTO_JSON json_t *node = layers_node(layers, first);
    if (count > 0)
        node = json_pack("{s:s, s:I, s:I, s:o}", "driver", "raw", "offset", (json_int_t)at, "size",
                         (json_int_t)count, "file", node);
    struct buf text = BUF_INIT;
    buf_add_str(&text, "json:");
    json_write(&text, node);
    return buf_take(&text);
}

size_t layers_fds(const struct disk_layers *layers, int *fds)
{
    for (size_t i = 0; i < layers->count; i++)
        fds[i] = layers->files[i].fd;
    return layers->count;
}

int image_convert_layers(const struct storage_sr *sr, const struct disk_layers *from,
                         const struct conversion *how, struct storage_error *error)
{
    AUTO_FREE char *spec = layers_spec(from, 1, how->at, how->count);
    const char *const source[] = {spec, NULL};
    int fds[LAYERS_MAX + 1] = {how->to};
    return convert(sr, how, source, fds, 1 + layers_fds(from, fds + 1), error);
}

int image_commit(const struct storage_sr *sr, const struct disk_layers *layers, const struct storage_job *job,
                 struct storage_error *error)
{
    int fds[LAYERS_MAX];
    AUTO_FREE char *source = layers_spec(layers, 0, 0, 0);
    const char *const argv[] = {"commit", "-p", "-d", source, NULL};
    static const struct storage_job nobody = {0};
    struct tool_run run = {.argv = argv,
                           .fds = fds,
                           .fd_count = layers_fds(layers, fds),
                           .timeout_ms = -1,
                           .file_size_max = RLIM_INFINITY,
                           .job = job ? job : &nobody,
                           .progress_to = 1,
                           .ends_with_caller = true};
    return tool_run(sr, &run, error);
}

int image_make_overlay(struct temp_file *t, const char *base, enum disk_format base_format, int64_t size,
                       struct storage_error *error)
{
    char size_text[24];
    snprintf(size_text, sizeof(size_text), "%lld", (long long)size);
    /* -u: the base is not looked for; it may not have its name yet. */
    const char *const argv[] = {"create",
                                "-q",
                                "-f",
                                "qcow2",
                                "-o",
                                "lazy_refcounts=off",
                                "-u",
                                "-b",
                                base,
                                "-F",
                                disk_format_name(base_format),
                                TOOL_PATH_SOURCE,
                                size_text,
                                NULL};
    return tool_run(t->sr,
                    &(struct tool_run){.argv = argv,
                                       .fds = &t->fd,
                                       .fd_count = 1,
                                       .timeout_ms = 60000,
                                       .file_size_max = (rlim_t)size / 64 + (64 << 20)},
                    error);
}

int image_resize(const struct storage_sr *sr, const struct disk_layers *layers, int64_t size,
                 struct storage_error *error)
{
    char size_text[24];
    int fds[LAYERS_MAX];
    AUTO_FREE char *source = layers_spec(layers, 0, 0, 0);
    snprintf(size_text, sizeof(size_text), "%lld", (long long)size);
    const char *const argv[] = {"resize", "-q", source, size_text, NULL};
    struct tool_run run = {.argv = argv,
                           .fds = fds,
                           .fd_count = layers_fds(layers, fds),
                           .timeout_ms = 120000,
                           .file_size_max = RLIM_INFINITY};
    return tool_run(sr, &run, error);
}

/* ---- uploaded images ---- */

static int check_info(const json_t *info, enum disk_format is, int64_t virtual_size,
                      struct storage_error *error)
{
    const char *format = "";
    int64_t size = -1;
    bool corrupt = false, encrypted = false;
    json_get_string(info, "format", &format);
    json_get_int(info, "virtual-size", &size);
    json_get_bool(info, "encrypted", &encrypted);
    const json_t *data = json_object_get(json_object_get(info, "format-specific"), "data");
    json_get_bool(data, "corrupt", &corrupt);
    if (!streq(format, disk_format_name(is)) || size != virtual_size)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image is not what its header says");
    if (json_object_get(info, "backing-filename") || json_object_get(info, "full-backing-filename"))
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image has a backing file");
    if (json_object_get(data, "data-file") || json_object_get(data, "encrypt") || encrypted)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image has a data file or is encrypted");
    if (corrupt)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image is marked as corrupt");
    return 0;
}

/* Follows all tables: finds an image that is cut short, where reading would give zeros. */
static int check_tables(const struct storage_sr *sr, int fd, enum disk_format format,
                        struct storage_error *error)
{
    const char *const argv[] = {"check", "-q", "-f", disk_format_name(format), TOOL_PATH_SOURCE, NULL};
    struct tool_run run = {.argv = argv,
                           .fds = &fd,
                           .fd_count = 1,
                           .timeout_ms = 1200000,
                           .file_size_max = 0,
                           .cpu_seconds_max = 600,
                           .fine_code = 3}; /* clusters that nobody uses: harmless */
    if (tool_run(sr, &run, error) == 0)
        return 0;
    if (error->kind == STORAGE_BAD_IMAGE)
        storage_fail(error, STORAGE_BAD_IMAGE, "the image is damaged or cut short");
    return -1;
}

int image_examine(const struct storage_sr *sr, int fd, enum disk_format format, int64_t virtual_size,
                  struct storage_error *error)
{
    AUTO_BUF struct buf text = BUF_INIT;
    const char *const argv[] = {"info", "--output=json", "-f", disk_format_name(format), TOOL_PATH_SOURCE,
                                NULL};
    struct tool_run run = {.argv = argv,
                           .fds = &fd,
                           .fd_count = 1,
                           .timeout_ms = 60000,
                           .file_size_max = 0,
                           .cpu_seconds_max = 30,
                           .output = &text};
    if (tool_run(sr, &run, error) < 0)
        return -1;
    struct json_error json_error;
    AUTO_JSON json_t *info = json_parse(text.data ? text.data : "", text.len, &json_error);
    if (!info)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image cannot be examined");
    return check_info(info, format, virtual_size, error) < 0 ? -1 : check_tables(sr, fd, format, error);
}

int image_check_qcow2(const struct storage_sr *sr, int fd, int64_t size_max, int64_t *virtual_size,
                      struct storage_error *error)
{
    struct qcow2_header header;
    if (!qcow2_header_read(fd, &header))
        return storage_fail(error, STORAGE_BAD_IMAGE, "the data is not a qcow2 image");
    /* Before QEMU sees it: it would open the files that the image names. */
    if (header.backing_file)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image has a backing file");
    if (header.data_file)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image has an external data file");
    if (header.encrypted)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image is encrypted");
    if (header.unknown_features)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the image uses features that are not known here");
    if (header.virtual_size > size_max)
        return storage_fail(error, STORAGE_DATA_LONG, "the image has %lld bytes, more than the disk's %lld",
                            (long long)header.virtual_size, (long long)size_max);
    if (image_examine(sr, fd, DISK_QCOW2, header.virtual_size, error) < 0)
        return -1;
    *virtual_size = header.virtual_size;
    return 0;
}
