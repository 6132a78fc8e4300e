/* Boot from the guest's own kernel (what Xen's pygrub is for): kernel, ramdisk and arguments are read out of
 * the domain's first disk as its boot loader's menu names them. The disk is never mounted: GRUB's own file
 * system code reads it (grub-fstest of Debian's grub-common: partitions, LVM, ext4, xfs, btrfs), one file a
 * process, each confined by hv/boot/preload.c, as the domain's user, with bounded time, memory and output. */
#include "start.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <boot/menu.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define READER "/usr/bin/grub-fstest"
#define VIEW "corral-diskview.so"
#define TOTAL_MS 60000
#define CPU_SECONDS 30
#define MEMORY_MAX (1ULL << 30)
#define KERNEL_MAX (256ULL << 20)
#define LIST_MAX (256 * 1024)
#define DEVICES_MAX 64
#define PATH_LEN_MAX 1024
#define ARGUMENTS_MAX 2047

struct search {
    const struct qemu_domain *domain;
    const struct disk_chain *chain;
    char *words, *preload; /* of the environment */
    int64_t until_ms;
    char *devices[DEVICES_MAX];
    size_t count;
    struct buf tried; /* for the error */
};

static void search_done(struct search *s)
{
    free(s->words);
    free(s->preload);
    for (size_t i = 0; i < s->count; i++)
        free(s->devices[i]);
    buf_done(&s->tried);
}

static char *view_path(const struct hv_driver_state *state)
{
    const char *slash = strrchr(state->launcher, '/');
    return xasprintf("%.*s/" VIEW, slash ? (int)(slash - state->launcher) : 1, slash ? state->launcher : ".");
}

bool guest_kernel_possible(const struct hv_driver_state *state)
{
    char *view AUTO_FREE = view_path(state);
    return access(READER, X_OK) == 0 && access(view, R_OK) == 0;
}

static void search_init(struct search *s, const struct qemu_domain *d, const struct disk_chain *chain)
{
    struct buf words = BUF_INIT;
    *s = (struct search){.domain = d, .chain = chain, .until_ms = clock_mono_ms() + TOTAL_MS};
    buf_add_str(&words, "CORRAL_DISK=");
    for (size_t i = 0; i < chain->count; i++)
        buf_printf(&words, "%s%s:%zu", i ? "," : "", image_format_name(chain->nodes[i].format), 3 + i);
    s->words = buf_take(&words);
    char *view AUTO_FREE = view_path(d->driver);
    s->preload = xasprintf("LD_PRELOAD=%s", view);
}

/* Runs one command of the reader. Output into `out_fd`, or captured when that is -1. */
static int run(const struct search *s, const char *const *command, int out_fd, rlim_t file_max,
               struct proc_result *result)
{
    const struct proc_limit limits[] = {
        {RLIMIT_CPU, CPU_SECONDS}, {RLIMIT_AS, MEMORY_MAX}, {RLIMIT_FSIZE, file_max}, {RLIMIT_CORE, 0}};
    size_t images = s->chain->count, argc = 0;
    char **argv = NULL;
    struct buf keep AUTO_BUF = BUF_INIT;
    struct proc_fd *fds AUTO_FREE = xcalloc(images + 1, sizeof(*fds));
    int ruleset AUTO_CLOSE = -1;
    struct hv_err err;
    if (confined_ruleset(s->domain->driver, READER, NULL, 0, -1, &ruleset, &err) < 0) {
        log_error("qemu", "the reader of a guest's kernel is not started", "cause", err.text);
        return -1;
    }
    for (size_t i = 0; i < images; i++) {
        fds[i] = (struct proc_fd){.parent = s->chain->nodes[i].fd, .child = (int)(3 + i)};
        buf_printf(&keep, "%s%zu", i ? "," : "", 3 + i);
    }
    fds[images] = (struct proc_fd){.parent = ruleset, .child = (int)(3 + images)};
    launch_begin(s->domain, 0, &argv, &argc);
    const char *const settings[] = {"--keep", keep.data, "--env", s->words, "--env", s->preload};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        launch_add(&argv, &argc, xstrdup(settings[i]));
    launch_add_ruleset(&argv, &argc, ruleset >= 0 ? (int)(3 + images) : -1);
    const char *const program[] = {"--", READER, "/dev/null"};
    for (size_t i = 0; i < ARRAY_LEN(program); i++)
        launch_add(&argv, &argc, xstrdup(program[i]));
    for (size_t i = 0; command[i]; i++)
        launch_add(&argv, &argc, xstrdup(command[i]));
    struct proc_spec spec = {.argv = (const char *const *)argv,
                             .stdout_fd = out_fd,
                             .fds = fds,
                             .fd_count = images + (ruleset >= 0),
                             .new_session = true,
                             .limits = limits,
                             .limit_count = ARRAY_LEN(limits)};
    int64_t left = s->until_ms - clock_mono_ms();
    struct proc_run_options options = {.timeout_ms = left > 1 ? left : 1, .capture_max = MENU_FILE_MAX};
    int outcome = proc_run(&spec, &options, result);
    for (size_t i = 0; i < argc; i++)
        free(argv[i]);
    free(argv);
    return outcome == 0 && proc_ok(result) && !result->truncated ? 0 : -1;
}

/* ---- file systems ---- */

/* What GRUB calls a device of ours: the disk, its partitions, logical volumes on them. */
static bool device_ok(const char *name)
{
    return (strncmp(name, "loop0", 5) == 0 || strncmp(name, "lvm/", 4) == 0) && strlen(name) < 200 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,/._-") ==
               strlen(name);
}

/* Lines "Device NAME: Filesystem type ext* ..." and, indented, "Partition NAME: ...". */
static void take_device(struct search *s, const char *line, size_t len)
{
    char name[256], kind[64];
    char *text AUTO_FREE = xstrndup(line, len);
    if (sscanf(text, " Device %255[^:]: Filesystem type %63s", name, kind) != 2 &&
        sscanf(text, " Partition %255[^:]: Filesystem type %63s", name, kind) != 2)
        return;
    if (!device_ok(name) || s->count == DEVICES_MAX)
        return;
    s->devices[s->count++] = xstrdup(name);
    buf_printf(&s->tried, "%s%s", s->tried.len ? ", " : "", name);
}

static int find_devices(struct search *s, struct hv_err *err)
{
    static const char *const command[] = {"ls", "--", "-l", NULL};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    if (run(s, command, -1, LIST_MAX, &result) < 0)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The disk cannot be read: %.200s",
                       result.timed_out  ? "it took too long"
                       : result.err.data ? result.err.data
                                         : "it failed");
    for (const char *line = result.out.data; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        take_device(s, line, strcspn(line, "\n"));
    }
    return s->count
               ? 0
               : hv_fail(err, HV_ERR_KIND_FORMAT,
                         "The domain's first disk has no partition with a file system that can be read.");
}

static char *file_name(const char *device, const char *path)
{
    return strlen(path) <= PATH_LEN_MAX ? xasprintf("(%s)%s", device, path) : NULL;
}

/* A text file; NULL: there is none, or it is too long. */
static char *read_text(const struct search *s, const char *device, const char *path)
{
    char *name AUTO_FREE = file_name(device, path);
    const char *const command[] = {"cat", name, NULL};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    if (!name || clock_mono_ms() >= s->until_ms || run(s, command, -1, LIST_MAX, &result) < 0 ||
        !result.out.data)
        return NULL;
    return buf_take(&result.out);
}

/* ---- menus ---- */

static int newest_first(const void *a, const void *b)
{
    return strverscmp(*(char *const *)b, *(char *const *)a);
}

/* All entries of a folder, the newest version first. */
static void read_bls(const struct search *s, const char *device, const char *folder, struct menu *menu)
{
    char *name AUTO_FREE = file_name(device, folder);
    const char *const command[] = {"ls", name, NULL};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    char *names[MENU_ENTRIES_MAX];
    size_t count = 0;
    if (run(s, command, -1, LIST_MAX, &result) < 0 || !result.out.data)
        return;
    for (char *save = NULL, *one = strtok_r(result.out.data, " \n", &save); one && count < MENU_ENTRIES_MAX;
         one = strtok_r(NULL, " \n", &save)) {
        size_t len = strlen(one);
        if (len > 5 && strcmp(one + len - 5, ".conf") == 0)
            names[count++] = one;
    }
    qsort(names, count, sizeof(*names), newest_first);
    for (size_t i = 0; i < count; i++) {
        char *path AUTO_FREE = xasprintf("%s%s", folder, names[i]);
        char *text AUTO_FREE = read_text(s, device, path);
        char *id AUTO_FREE = xstrndup(names[i], strlen(names[i]) - 5);
        if (text)
            menu_read_bls(text, id, menu);
    }
}

static void read_all_bls(const struct search *s, const char *device, struct menu *menu)
{
    static const char *const folders[] = {"/loader/entries/", "/boot/loader/entries/"};
    for (size_t i = 0; i < ARRAY_LEN(folders) && menu->count == 0; i++)
        read_bls(s, device, folders[i], menu);
}

static bool read_grub(const struct search *s, const char *device, struct menu *menu)
{
    static const char *const folders[] = {"/boot/grub",         "/boot/grub2",  "/grub",           "/grub2",
                                          "/@rootfs/boot/grub", "/@/boot/grub", "/root/boot/grub2"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        char *path AUTO_FREE = xasprintf("%s/grub.cfg", folders[i]);
        char *text AUTO_FREE = read_text(s, device, path);
        if (!text)
            continue;
        menu_read_grub(text, menu);
        if (menu->bls)
            read_all_bls(s, device, menu);
        if (menu->from_saved) {
            char *env_path AUTO_FREE = xasprintf("%s/grubenv", folders[i]);
            char *env AUTO_FREE = read_text(s, device, env_path);
            char *saved = env ? menu_grubenv(env, "saved_entry") : NULL;
            if (saved) {
                free(menu->chosen);
                menu->chosen = saved;
            }
        }
        return menu->count > 0;
    }
    return false;
}

static bool read_extlinux(const struct search *s, const char *device, struct menu *menu)
{
    static const char *const files[] = {
        "/boot/extlinux/extlinux.conf", "/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg",
        "/syslinux/syslinux.cfg",       "/extlinux.conf",          "/syslinux.cfg"};
    for (size_t i = 0; i < ARRAY_LEN(files) && menu->count == 0; i++) {
        char *text AUTO_FREE = read_text(s, device, files[i]);
        char *folder AUTO_FREE = xstrndup(files[i], (size_t)(strrchr(files[i], '/') - files[i]));
        if (text)
            menu_read_extlinux(text, folder, menu);
    }
    return menu->count > 0;
}

static bool read_menu(const struct search *s, const char *device, struct menu *menu)
{
    if (read_grub(s, device, menu) || read_extlinux(s, device, menu))
        return true;
    read_all_bls(s, device, menu);
    return menu->count > 0;
}

/* ---- the kernel ---- */

/* Adds a file to a descriptor of memory. -1: it cannot be read, or is too long. */
static int add_file(const struct search *s, const char *device, const char *path, int to)
{
    char *name AUTO_FREE = file_name(device, path);
    const char *const command[] = {"cat", name, NULL};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    return name ? run(s, command, to, KERNEL_MAX, &result) : -1;
}

/* All files of a list separated by blanks, one behind the other. A descriptor, or -1. */
static int read_files(const struct search *s, const char *device, const char *list, struct hv_err *err)
{
    int fd = memfd_create("boot", MFD_CLOEXEC);
    char *copy AUTO_FREE = xstrdup(list);
    if (fd < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "There is no memory for the kernel: %s", strerror(errno));
    for (char *save = NULL, *path = strtok_r(copy, " ", &save); path; path = strtok_r(NULL, " ", &save))
        if (add_file(s, device, path, fd) < 0) {
            close(fd);
            return hv_fail(err, HV_ERR_KIND_FORMAT, "%.300s on %s cannot be read%s.", path, device,
                           clock_mono_ms() >= s->until_ms ? " in time" : "");
        }
    return fd;
}

static int read_entry(const struct search *s, const char *device, const struct menu_entry *entry,
                      const char *more, struct guest_kernel *out, struct hv_err *err)
{
    char *arguments AUTO_FREE =
        xasprintf("%s%s%s", entry->arguments, *entry->arguments && *more ? " " : "", more);
    if (strlen(arguments) > ARGUMENTS_MAX)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The kernel's arguments are too long.");
    int kernel = read_files(s, device, entry->kernel, err);
    if (kernel < 0)
        return -1;
    int ramdisk = *entry->ramdisks ? read_files(s, device, entry->ramdisks, err) : -1;
    if (*entry->ramdisks && ramdisk < 0) {
        close(kernel);
        return -1;
    }
    log_info("qemu", "a guest's own kernel was found", "device", device, "kernel", entry->kernel, "title",
             entry->title);
    *out = (struct guest_kernel){kernel, ramdisk, TAKE_PTR(arguments)};
    return 0;
}

static const struct disk_chain *first_disk(const struct domain_config *config,
                                           const struct disk_chain *chains)
{
    const struct disk_chain *first = NULL;
    int64_t index = 0;
    for (size_t i = 0; i < config->disks_count; i++) {
        const struct domain_disk *disk = &config->disks[i];
        if (!disk->cdrom && chains[i].count > 0 && (!first || disk->index < index)) {
            first = &chains[i];
            index = disk->index;
        }
    }
    return first;
}

int guest_kernel_read(const struct qemu_domain *d, const struct domain_config *config,
                      const struct disk_chain *chains, struct guest_kernel *out, struct hv_err *err)
{
    const struct disk_chain *chain = first_disk(config, chains);
    struct search s CLEANUP(search_done) = {.until_ms = 0};
    const char *title = config->kernel_title ? config->kernel_title : "";
    if (!chain)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The domain has no disk to find a kernel on.");
    search_init(&s, d, chain);
    if (find_devices(&s, err) < 0)
        return -1;
    for (size_t i = 0; i < s.count; i++) {
        struct menu menu AUTO_MENU = MENU_INIT;
        if (!read_menu(&s, s.devices[i], &menu))
            continue;
        const struct menu_entry *entry = menu_find(&menu, title);
        /* A default that names nothing any more is the first entry, as boot loaders have it. */
        if (!entry && !*title)
            entry = &menu.items[0];
        if (!entry)
            return hv_fail(err, HV_ERR_KIND_FORMAT,
                           "The boot menu on %s has no entry \"%.100s\" among its %zu.", s.devices[i], title,
                           menu.count);
        return read_entry(&s, s.devices[i], entry, config->cmdline ? config->cmdline : "", out, err);
    }
    return hv_fail(err, HV_ERR_KIND_FORMAT,
                   "No boot menu (grub.cfg, extlinux.conf, loader/entries) was found%s; looked on %.300s.",
                   clock_mono_ms() >= s.until_ms ? " in time" : "", s.tried.data);
}
