/* The memory of a guest that panicked, as an ELF core in STATE/crashdumps: for gdb and crash. It belongs to
 * the host: nothing of it goes to clients. The newest few are kept. */
#include "internal.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DUMP_MS (10 * 60 * 1000)
#define KEPT 5

struct dump {
    struct qemu_domain *d;
    void (*then)(struct qemu_domain *d, const char *text);
    char *text;
};

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_dump(const struct dirent *entry)
{
    return strstr(entry->d_name, ".core") != NULL;
}

/* Names begin with the time: the oldest come first. What an agent before this one did not finish goes too. */
static void make_room(const char *folder, const char *uuid)
{
    struct dirent **list = NULL;
    int count = scandir(folder, &list, is_dump, by_name);
    for (int i = 0; i < count; i++) {
        char *path AUTO_FREE = xasprintf("%s/%s", folder, list[i]->d_name);
        bool unfinished = strstr(list[i]->d_name, ".part") && strstr(list[i]->d_name, uuid);
        if ((unfinished || i < count - (KEPT - 1)) && unlink(path) < 0)
            log_warn("qemu", "an old crash dump cannot be removed", "file", list[i]->d_name, "error",
                     strerror(errno));
        free(list[i]);
    }
    free(list);
}

static int open_file(struct qemu_domain *d, const char *folder, const char *name, struct hv_err *err)
{
    struct statvfs space;
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return hv_fail(err, HV_ERR_KIND_IO, "The folder cannot be made: %s", strerror(errno));
    make_room(folder, d->uuid);
    pthread_mutex_lock(&d->lock);
    int64_t need = d->record.config.memory_bytes / 100 * 105;
    pthread_mutex_unlock(&d->lock);
    if (statvfs(folder, &space) == 0 && (int64_t)(space.f_bavail * space.f_frsize) < need)
        return hv_fail(err, HV_ERR_KIND_NO_SPACE, "The host has no room for %lld MiB.",
                       (long long)(need >> 20));
    char *path AUTO_FREE = xasprintf("%s/%s.part", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd >= 0 ? fd : hv_fail(err, HV_ERR_KIND_IO, "The file cannot be made: %s", strerror(errno));
}

static int write_dump(struct qemu_domain *d, int fd, struct hv_err *err)
{
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + DUMP_MS};
    json_t *name AUTO_JSON = json_pack("{s:s}", "fdname", "dump");
    json_t *what AUTO_JSON = json_pack("{s:b, s:s}", "paging", 0, "protocol", "fd:dump");
    if (domain_execute(d, "getfd", name, fd, &deadline, NULL, err) < 0)
        return -1;
    return domain_execute(d, "dump-guest-memory", what, -1, &deadline, NULL, err);
}

static void over(void *arg)
{
    struct dump *dump = arg;
    dump->then(dump->d, dump->text);
}

static void *run(void *arg)
{
    struct dump *dump = arg;
    struct qemu_domain *d = dump->d;
    struct hv_err err;
    char *folder AUTO_FREE = xasprintf("%s/crashdumps", d->driver->state_dir);
    char *name AUTO_FREE = xasprintf("%lld-%s.core", (long long)clock_unix_seconds(), d->uuid);
    char *path AUTO_FREE = xasprintf("%s/%s", folder, name), *part AUTO_FREE = xasprintf("%s.part", path);
    int fd AUTO_CLOSE = open_file(d, folder, name, &err);
    int outcome = fd >= 0 ? write_dump(d, fd, &err) : -1;
    if (outcome == 0 && rename(part, path) < 0)
        outcome = hv_fail(&err, HV_ERR_KIND_IO, "The file cannot be named: %s", strerror(errno));
    if (outcome == 0) {
        dump->text = xasprintf("Its memory was written to crashdumps/%s of its host's agent.", name);
    } else {
        if (fd >= 0)
            unlink(part);
        log_warn("qemu", "a guest's memory could not be written", "domain", d->uuid, "error", err.text);
        dump->text = xasprintf("Its memory could not be written: %s", err.text);
    }
    loop_call(d->driver->loop, over, dump);
    free(dump->text);
    free(dump);
    domain_unref(d);
    return NULL;
}

void domain_dump(struct qemu_domain *d, void (*then)(struct qemu_domain *d, const char *text))
{
    struct dump *dump = xcalloc(1, sizeof(*dump));
    pthread_t thread;
    pthread_attr_t attr;
    *dump = (struct dump){.d = domain_ref(d), .then = then};
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, run, dump) != 0) {
        free(dump);
        domain_unref(d);
        then(d, "Its memory could not be written: no thread could be started.");
    }
    pthread_attr_destroy(&attr);
}
