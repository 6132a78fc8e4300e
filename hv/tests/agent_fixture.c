/* The fixture of agent_fixture.h. */
#include "agent_fixture.h"
#include "boot_sector.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>

#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char *in_state(const struct fixture *f, const char *name)
{
    return xasprintf("%s/%s", f->state, name);
}

static void put(const struct fixture *f, const char *name, const char *text)
{
    char *path AUTO_FREE = in_state(f, name);
    cr_assert_eq(file_write_atomic(path, text, strlen(text), 0600), 0, "%s", path);
}

static void copy_file(const char *from, const char *to)
{
    size_t len;
    char *text AUTO_FREE = file_read(from, 65536, &len);
    cr_assert(text && file_write_atomic(to, text, len, 0600) == 0, "%s", to);
}

/* The CA (the first host's, if there is one), the host's certificate in its state, the server's client
 * certificate beside it. */
static void make_identity(struct fixture *f, const struct fixture *first)
{
    struct pki_error error = {""};
    char *pki AUTO_FREE = in_state(f, "pki");
    cr_assert_eq(mkdir(pki, 0700), 0);
    char *ca AUTO_FREE = in_state(f, "pki/ca.pem"), *ca_key AUTO_FREE = xasprintf("%s/ca.key", f->dir);
    char *cert AUTO_FREE = in_state(f, "pki/host.pem"), *key AUTO_FREE = in_state(f, "pki/host.key");
    char *client AUTO_FREE = xasprintf("%s/client.pem", f->dir),
                 *client_key AUTO_FREE = xasprintf("%s/client.key", f->dir);
    if (first) {
        char *other AUTO_FREE = in_state(first, "pki/ca.pem"),
                    *other_key AUTO_FREE = xasprintf("%s/ca.key", first->dir);
        copy_file(other, ca);
        copy_file(other_key, ca_key);
    } else {
        cr_assert_eq(pki_create_ca("test CA", 10, ca, ca_key, &error), 0, "%s", error.text);
    }
    char *name AUTO_FREE = xasprintf("%s.host.corral.internal", f->uuid);
    const char *const host_names[] = {name, NULL};
    const char *const client_names[] = {"poold.corral.internal", NULL};
    struct pki_leaf host = {
        .common_name = f->uuid, .dns = host_names, .usage = PKI_SERVER | PKI_CLIENT, .days = 5};
    struct pki_leaf server = {.common_name = "poold", .dns = client_names, .usage = PKI_CLIENT, .days = 5};
    cr_assert_eq(pki_issue_files(ca, ca_key, &host, cert, key, &error), 0, "%s", error.text);
    cr_assert_eq(pki_issue_files(ca, ca_key, &server, client, client_key, &error), 0, "%s", error.text);
    char *line AUTO_FREE = xasprintf("%s\n", f->uuid);
    put(f, "pki/host-uuid", line);
}

/* Waits until hostd.port appears or hostd is gone. */
static int wait_port(struct fixture *f)
{
    char *path AUTO_FREE = in_state(f, "hostd.port");
    int watch AUTO_CLOSE = inotify_init1(IN_CLOEXEC);
    cr_assert_geq(inotify_add_watch(watch, f->state, IN_MOVED_TO | IN_CLOSE_WRITE), 0);
    int64_t end = clock_mono_ms() + 30000;
    for (;;) {
        char *text AUTO_FREE = file_read(path, 64, NULL);
        if (text && atoi(text) > 0)
            return atoi(text);
        struct pollfd p[2] = {{.fd = watch, .events = POLLIN}, {.fd = f->hostd.pidfd, .events = POLLIN}};
        cr_assert_gt(poll(p, 2, (int)(end - clock_mono_ms())), 0, "hostd does not answer");
        cr_assert_eq(p[1].revents, 0, "hostd ended");
        char events[4096];
        (void)!read(watch, events, sizeof(events));
    }
}

void fixture_launch(struct fixture *f)
{
    char *port_file AUTO_FREE = in_state(f, "hostd.port"),
                    *listen AUTO_FREE = xasprintf("127.0.0.1:%d", f->port);
    unlink(port_file);
    /* Another build of the program may be tried with the same tests. */
    const char *other = getenv("CORRAL_TEST_HOSTD");
    const char *const argv[] = {other ? other : HOSTD,
                                "--state",
                                f->state,
                                "--driver",
                                f->driver,
                                "--listen",
                                listen,
                                "--launcher",
                                LAUNCHER,
                                "--log-level",
                                "warn",
                                "--sim-boot-ms",
                                "100",
                                "--cgroup",
                                f->cgroup ? f->cgroup : "/nonexistent",
                                "--min-uptime",
                                f->min_uptime ? f->min_uptime : "0",
                                f->images ? "--images" : NULL,
                                f->images,
                                NULL};
    char *failpoint AUTO_FREE = f->failpoint ? xasprintf("CORRAL_FAILPOINT=%s", f->failpoint) : NULL;
    char *failpoints AUTO_FREE = f->failpoints ? xasprintf("CORRAL_FAILPOINTS=%s", f->failpoints) : NULL;
    const char *const env[] = {"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8",
                               failpoint ? failpoint : failpoints, failpoint ? failpoints : NULL, NULL};
    struct proc_spec spec = {.argv = argv, .env = env, .stderr_fd = 2};
    cr_assert_eq(proc_start(&spec, &f->hostd), 0, "hostd cannot be started: %s", strerror(errno));
    f->running = true;
    f->port = wait_port(f);
    char *ca AUTO_FREE = in_state(f, "pki/ca.pem");
    char *client AUTO_FREE = xasprintf("%s/client.pem", f->dir),
                 *key AUTO_FREE = xasprintf("%s/client.key", f->dir);
    struct hv_host_address address = {.host_uuid = f->uuid,
                                      .address = "127.0.0.1",
                                      .port = f->port,
                                      .ca_file = ca,
                                      .cert_file = client,
                                      .key_file = key};
    struct hv_err err = {0};
    cr_assert_eq(hv_host_open(&address, &f->host, &err), 0, "%s", err.text);
}

static void start(struct fixture *f, const char *driver, const char *uuid, const struct fixture *first)
{
    *f = (struct fixture){.driver = driver, .uuid = uuid};
    if (streq(driver, "qemu") && access(QEMU_BINARY, X_OK) < 0)
        cr_skip_test("QEMU is not installed");
    log_init("test", LOG_ERROR_LEVEL);
    snprintf(f->dir, sizeof(f->dir), "/tmp/corral-agent-XXXXXX");
    cr_assert(mkdtemp(f->dir));
    f->tag = f->dir + strlen("/tmp/");
    snprintf(f->state, sizeof(f->state), "%s/state", f->dir);
    snprintf(f->storage, sizeof(f->storage), "%s/storage", f->dir);
    snprintf(f->isos, sizeof(f->isos), "%s/isos", f->dir);
    cr_assert_eq(chmod(f->dir, 0755), 0);
    cr_assert_eq(mkdir(f->state, 0700) + mkdir(f->isos, 0755), 0);
    make_identity(f, first);
    fixture_launch(f);
}

void fixture_start(struct fixture *f, const char *driver)
{
    start(f, driver, HOST, NULL);
}

void fixture_start_second(struct fixture *f, const struct fixture *first)
{
    start(f, first->driver, HOST_2, first);
}

static void let_go(struct fixture *f)
{
    hv_host_close(f->host);
    f->host = NULL;
    f->running = false;
}

void fixture_kill(struct fixture *f)
{
    proc_kill(&f->hostd);
    let_go(f);
}

void fixture_await_death(struct fixture *f)
{
    int status;
    cr_assert_eq(proc_wait(&f->hostd, 90000, &status), 1, "hostd lives on");
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "hostd ended with %x", (unsigned)status);
    let_go(f);
}

int fixture_count(const struct fixture *f, const char *folder)
{
    char *path AUTO_FREE = in_state(f, folder);
    int n = 0;
    DIR *list = opendir(path);
    for (struct dirent *e; list && (e = readdir(list));)
        n += e->d_name[0] != '.';
    if (list)
        closedir(list);
    return n;
}

void fixture_stop(struct fixture *f)
{
    int status = -1;
    if (!f->running)
        return;
    must_call(f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    cr_expect_eq(fixture_count(f, "run"), 0, "something of a domain is left");
    proc_signal(&f->hostd, SIGTERM);
    cr_assert_eq(proc_wait(&f->hostd, 20000, &status), 1, "hostd does not end");
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "hostd ended with %x", (unsigned)status);
    let_go(f);
    const char *const argv[] = {"rm", "-rf", f->dir, NULL};
    struct proc_spec spec = {.argv = argv};
    struct proc rm;
    cr_assert_eq(proc_start(&spec, &rm), 0);
    proc_wait(&rm, -1, NULL);
}

struct hv_op fresh_op(void)
{
    static char ids[16][UUID_TEXT_SIZE];
    static unsigned next;
    char *id = ids[next++ % ARRAY_LEN(ids)];
    return (struct hv_op){.id = uuid_format(ref_new(), id), .timeout_ms = 60000};
}

void small_domain(struct domain_config *config)
{
    domain_config_init(config);
    str_assign(&config->uuid, VM);
    str_assign(&config->name, "test guest");
    config->memory_bytes = 32 << 20;
    config->vcpus = 1;
    struct domain_disk *disk = domain_config_add_disks(config);
    str_assign(&disk->device, "xvda");
    disk->source = DISK_SOURCE_DISK;
    str_assign(&disk->sr, SR);
    str_assign(&disk->disk, DISK);
    disk = domain_config_add_disks(config);
    str_assign(&disk->device, "hdc");
    disk->index = 3;
    disk->cdrom = true;
    struct domain_nic *nic = domain_config_add_nics(config);
    str_assign(&nic->mac, "52:54:00:12:34:56");
}

struct bytes {
    const unsigned char *data;
    size_t len, at;
};

static ssize_t read_bytes(void *ctx, void *to, size_t max)
{
    struct bytes *b = ctx;
    size_t n = b->len - b->at < max ? b->len - b->at : max;
    memcpy(to, b->data + b->at, n);
    b->at += n;
    return (ssize_t)n;
}

static void attach_sr(struct fixture *f, enum hv_call_id call, const char *sr, const char *type,
                      const char *location)
{
    struct str_pair pair = {"location", str_new(location)};
    const struct str_map *config AUTO_STR_MAP = str_map_new(&pair, 1);
    str_unref(pair.value);
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    /* Both calls have these arguments. */
    struct hv_sr_attach_args args = {.sr = sr, .type = type, .config = config};
    union {
        struct hv_sr_create_result create;
        struct hv_sr_attach_result attach;
    } result;
    cr_assert_eq(hv_call(f->host, call, &op, &args, &result, &err), 0, "%s", err.text);
}

void fixture_attach(struct fixture *f, const char *sr, const char *location, bool make)
{
    if (make)
        attach_sr(f, HV_CALL_SR_CREATE, sr, "file", location);
    attach_sr(f, HV_CALL_SR_ATTACH, sr, "file", location);
}

void fixture_storage(struct fixture *f)
{
    struct hv_err err = {0};
    attach_sr(f, HV_CALL_SR_CREATE, SR, "file", f->storage);
    attach_sr(f, HV_CALL_SR_ATTACH, SR, "file", f->storage);
    attach_sr(f, HV_CALL_SR_ATTACH, ISO_SR, "iso", f->isos);
    struct hv_op op = fresh_op();
    struct hv_disk_create_args args = {
        .sr = SR, .disk = DISK, .format = IMAGE_FORMAT_RAW, .virtual_size_bytes = BOOT_DISK_SIZE};
    struct hv_disk_create_result made;
    cr_assert_eq(hv_disk_create(f->host, &op, &args, &made, &err), 0, "%s", err.text);
    cr_assert_eq(made.info.virtual_size_bytes, BOOT_DISK_SIZE);
    hv_disk_create_result_done(&made);
    unsigned char *disk AUTO_FREE = xmalloc(BOOT_DISK_SIZE);
    boot_disk_fill(disk);
    struct bytes bytes = {.data = disk, .len = BOOT_DISK_SIZE};
    struct hv_disk_import_args import = {
        .sr = SR, .disk = DISK, .format = IMAGE_FORMAT_RAW, .size_bytes = BOOT_DISK_SIZE};
    struct hv_disk_import_result imported;
    op = fresh_op();
    cr_assert_eq(hv_disk_import(f->host, &op, &import, read_bytes, &bytes, &imported, &err), 0, "%s",
                 err.text);
    hv_disk_import_result_done(&imported);
}

struct domain_info must_start(struct fixture *f, const struct domain_config *config)
{
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    struct hv_domain_start_args args = {.config = *config};
    struct hv_domain_start_result result;
    cr_assert_eq(hv_domain_start(f->host, &op, &args, &result, &err), 0, "%s", err.text);
    return result.info;
}

/* All calls that name only a domain have one argument and an empty result. */
static int simple_call(struct fixture *f, enum hv_call_id call, const char *domain, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_domain_pause_args args = {.domain = domain};
    void *result AUTO_FREE = xcalloc(1, hv_calls[call].result->size);
    return hv_call(f->host, call, &op, &args, result, err);
}

void must_call(struct fixture *f, enum hv_call_id call, const char *domain)
{
    struct hv_err err = {0};
    cr_assert_eq(simple_call(f, call, domain, &err), 0, "%s: %s", hv_calls[call].name, err.text);
}

void must_fail(struct fixture *f, enum hv_call_id call, const char *domain, enum hv_err_kind kind)
{
    struct hv_err err = {0};
    cr_assert_eq(simple_call(f, call, domain, &err), -1, "%s did not fail", hv_calls[call].name);
    cr_assert_eq(err.kind, kind, "%s: %s: %s", hv_calls[call].name, hv_err_kind_name(err.kind), err.text);
}

struct domain_info must_info(struct fixture *f)
{
    struct hv_domain_info_args args = {.domain = VM};
    struct hv_domain_info_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_domain_info(f->host, NULL, &args, &result, &err), 0, "%s", err.text);
    return result.info;
}

char *cursor_now(struct fixture *f)
{
    struct hv_events_wait_args args = {.cursor = "", .wait_ms = 0};
    struct hv_events_wait_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_events_wait(f->host, NULL, &args, &result, &err), 0, "%s", err.text);
    char *cursor = xstrdup(result.cursor);
    hv_events_wait_result_done(&result);
    return cursor;
}

static bool says(const struct hv_event *event, enum domain_state state, enum end_reason reason)
{
    return event->kind == EVENT_KIND_DOMAIN_CHANGED && streq(event->subject, VM) &&
           event->domain_count == 1 && event->domain[0].state == state &&
           event->domain[0].end_reason == reason;
}

void must_become(struct fixture *f, const char *cursor, enum domain_state state, enum end_reason reason,
                 int64_t within_ms)
{
    int64_t end = clock_mono_ms() + within_ms;
    char *at AUTO_FREE = xstrdup(cursor);
    for (bool found = false; !found;) {
        int64_t left = end - clock_mono_ms();
        cr_assert_gt(left, 0, "no event says %s (%s)", domain_state_name(state), end_reason_name(reason));
        struct hv_events_wait_args args = {.cursor = at, .wait_ms = left};
        struct hv_events_wait_result result;
        struct hv_op op = {.timeout_ms = left + 5000};
        struct hv_err err = {0};
        cr_assert_eq(hv_events_wait(f->host, &op, &args, &result, &err), 0, "%s", err.text);
        cr_assert(!result.lost);
        for (size_t i = 0; i < result.events_count; i++)
            found = found || says(&result.events[i], state, reason);
        free(at);
        at = xstrdup(result.cursor);
        hv_events_wait_result_done(&result);
    }
}

void must_create(struct fixture *f, const char *disk, int64_t size_bytes)
{
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    struct hv_disk_create_args args = {
        .sr = SR, .disk = disk, .format = IMAGE_FORMAT_RAW, .virtual_size_bytes = size_bytes};
    struct hv_disk_create_result made;
    cr_assert_eq(hv_disk_create(f->host, &op, &args, &made, &err), 0, "%s", err.text);
    hv_disk_create_result_done(&made);
}

void must_create_state(struct fixture *f, const char *disk)
{
    struct hv_domain_suspend_size_args args = {.domain = VM};
    struct hv_domain_suspend_size_result size;
    struct hv_err err = {0};
    cr_assert_eq(hv_domain_suspend_size(f->host, NULL, &args, &size, &err), 0, "%s", err.text);
    cr_assert_gt(size.virtual_size_bytes, 32 << 20);
    must_create(f, disk, size.virtual_size_bytes);
}

char must_tell(struct stream *console, char digit)
{
    char seen[1];
    bool mark = false;
    int64_t end = clock_mono_ms() + 20000;
    /* What was said before is shown first: the answer is what comes after a mark of its own. */
    static unsigned marks;
    char own_mark[16] = "#";
    for (unsigned n = ++marks, i = 1; n > 0; n /= 8)
        own_mark[i++] = "abdefghi"[n % 8];
    strcat(own_mark, "#");
    cr_assert_eq(stream_write_all(console, own_mark, strlen(own_mark), 5000), 0);
    must_see(console, own_mark);
    cr_assert_eq(stream_write_all(console, &digit, 1, 5000), 0);
    for (;;) {
        ssize_t got = stream_read(console, seen, 1);
        if (got == 1 && mark)
            return seen[0];
        if (got == 1) {
            mark = seen[0] == '=';
            continue;
        }
        cr_assert(got < 0 && errno == EAGAIN, "the console ended");
        cr_assert_eq(stream_wait_readable(console, end - clock_mono_ms()), 1, "the guest does not answer %c",
                     digit);
    }
}

struct stream *must_console(struct fixture *f, const char *kind)
{
    struct stream *console = NULL;
    struct hv_err err = {0};
    cr_assert_eq(hv_console_open(f->host, VM, kind, 10000, &console, &err), 0, "%s", err.text);
    return console;
}

void must_see(struct stream *console, const char *text)
{
    char seen[16384] = "";
    size_t n = 0;
    int64_t end = clock_mono_ms() + 20000;
    while (!strstr(seen, text)) {
        ssize_t got = stream_read(console, seen + n, sizeof(seen) - 1 - n);
        cr_assert(got != 0, "the console ended; seen \"%s\"", seen);
        if (got > 0) {
            n += (size_t)got;
            seen[n] = '\0';
            continue;
        }
        cr_assert_eq(errno, EAGAIN, "%s", strerror(errno));
        cr_assert_eq(stream_wait_readable(console, end - clock_mono_ms()), 1, "no \"%s\" in \"%s\"", text,
                     seen);
    }
}

/* Criterion's own runner loses 48 bytes when a program has two suites. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libcriterion\n";
}
