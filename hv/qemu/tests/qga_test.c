/* The guest's agent against a scripted guest: what it says becomes guest_info, and a guest with bad manners
 * costs no more than its channel. */
#include <base/buf.h>
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <qemu/qga.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

struct fixture {
    struct loop *loop;
    struct domain_config config;
    struct qga *qga;
    int peer, ours;
    struct buf seen;
    struct guest_info last;
    bool last_changed, sent;
    const char *mode;
    sem_t told, lost, refused, froze, thawed;
};

static void on_info(void *arg, const struct guest_info *info, bool changed)
{
    struct fixture *f = arg;
    guest_info_done(&f->last);
    guest_info_copy(&f->last, info);
    f->last_changed = changed;
    sem_post(&f->told);
}

static void on_lost(void *arg)
{
    sem_post(&((struct fixture *)arg)->lost);
}

static void on_refused(void *arg)
{
    sem_post(&((struct fixture *)arg)->refused);
}

static void on_frozen(void *arg, bool frozen)
{
    struct fixture *f = arg;
    sem_post(frozen ? &f->froze : &f->thawed);
}

static void do_freeze(void *arg)
{
    struct fixture *f = arg;
    f->sent = qga_freeze(f->qga);
}

static void do_thaw(void *arg)
{
    qga_thaw(((struct fixture *)arg)->qga);
}

static void do_open_port(void *arg)
{
    qga_port(((struct fixture *)arg)->qga, true);
}

static void do_start(void *arg)
{
    struct fixture *f = arg;
    struct qga_callbacks callbacks = {
        .info = on_info, .lost = on_lost, .refused = on_refused, .frozen = on_frozen, .arg = f};
    f->qga = qga_new(f->loop, &f->config, &callbacks);
    qga_connected(f->qga, f->ours);
    qga_port(f->qga, true);
}

static void do_free(void *arg)
{
    qga_free(((struct fixture *)arg)->qga);
}

static void do_refresh(void *arg)
{
    qga_refresh(((struct fixture *)arg)->qga);
}

static void do_close_port(void *arg)
{
    qga_port(((struct fixture *)arg)->qga, false);
}

static void do_shutdown(void *arg)
{
    struct fixture *f = arg;
    f->sent = qga_request_shutdown(f->qga, f->mode);
}

static void start(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    sem_init(&f->told, 0, 0);
    sem_init(&f->lost, 0, 0);
    sem_init(&f->refused, 0, 0);
    sem_init(&f->froze, 0, 0);
    sem_init(&f->thawed, 0, 0);
    domain_config_init(&f->config);
    struct domain_nic *nic = domain_config_add_nics(&f->config);
    nic->index = 4;
    str_assign(&nic->mac, "52:54:00:12:34:56");
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->ours = pair[0];
    f->peer = pair[1];
    f->loop = loop_new("test");
    loop_call(f->loop, do_start, f);
}

static void stop(struct fixture *f)
{
    loop_call(f->loop, do_free, f);
    loop_free(f->loop);
    close(f->peer);
    buf_done(&f->seen);
    guest_info_done(&f->last);
    domain_config_done(&f->config);
}

static void wait_for(sem_t *sem)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    cr_assert_eq(sem_timedwait(sem, &end), 0, "nothing happened");
}

static char *hear(struct fixture *f)
{
    for (;;) {
        char *end = f->seen.len ? memchr(f->seen.data, '\n', f->seen.len) : NULL;
        if (end) {
            char *line = xstrndup(f->seen.data, (size_t)(end - f->seen.data));
            buf_consume(&f->seen, (size_t)(end - f->seen.data) + 1);
            return line;
        }
        struct pollfd p = {.fd = f->peer, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, 20000), 1, "nothing was asked");
        ssize_t n = read(f->peer, buf_reserve(&f->seen, 4096), 4096);
        cr_assert_gt(n, 0);
        buf_advance(&f->seen, (size_t)n);
    }
}

static void say(struct fixture *f, const char *text)
{
    cr_assert_eq(send(f->peer, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Hears that command and answers. */
static void answer(struct fixture *f, const char *command, const char *reply)
{
    char *line AUTO_FREE = hear(f);
    cr_assert(strstr(line, command), "asked \"%s\", not %s", line, command);
    say(f, reply);
}

static void answer_sync(struct fixture *f)
{
    char *line AUTO_FREE = hear(f);
    cr_assert_eq((unsigned char)line[0], 0xff);
    const char *id = strstr(line, "\"id\":");
    cr_assert(strstr(line, "guest-sync-delimited") && id, "%s", line);
    char *reply AUTO_FREE =
        xasprintf("left over from before\n\xff{\"return\": %lld}\n", strtoll(id + 5, NULL, 10));
    say(f, reply);
}

#define OSINFO                                                                                               \
    "{\"return\":{\"id\":\"debian\",\"pretty-name\":\"Debian GNU/Linux 12\",\"version-id\":\"12\","          \
    "\"kernel-release\":\"6.1.0\"}}\n"
#define INTERFACES                                                                                           \
    "{\"return\":[{\"name\":\"lo\",\"ip-addresses\":[{\"ip-address\":\"127.0.0.1\"}]},{\"name\":\"eth0\","   \
    "\"hardware-address\":\"52:54:00:12:34:56\",\"ip-addresses\":[{\"ip-address\":\"10.0.2.15\",\"prefix\":" \
    "24},"                                                                                                   \
    "{\"ip-address\":\"fe80::1\"},{\"ip-address\":\"rubbish\"},{\"ip-address\":7}]}]}\n"

#define FILESYSTEMS                                                                                          \
    "{\"return\":[{\"mountpoint\":\"/"                                                                       \
    "\",\"type\":\"ext4\",\"name\":\"vda3\",\"total-bytes\":1000,\"used-bytes\":259,"                        \
    "\"disk\":[]},{\"type\":\"swap\"},{\"mountpoint\":\"/odd\",\"total-bytes\":-5,\"used-bytes\":\"x\"}]}\n"

static void answer_round(struct fixture *f, const char *osinfo, const char *interfaces)
{
    answer_sync(f);
    answer(f, "guest-info", "{\"return\":{\"version\":\"7.2.0\",\"supported_commands\":[]}}\n");
    answer(f, "guest-get-osinfo", osinfo);
    answer(f, "guest-get-host-name", "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\"}}\n");
    answer(f, "guest-get-fsinfo", FILESYSTEMS);
    answer(f, "guest-network-get-interfaces", interfaces);
    wait_for(&f->told);
}

Test(qga, a_round_fills_the_guest_info)
{
    struct fixture f;
    start(&f);
    answer_round(&f, OSINFO, INTERFACES);
    cr_assert(f.last.live && f.last_changed);
    cr_assert_str_eq(f.last.os_name, "Debian GNU/Linux 12");
    cr_assert_str_eq(f.last.agent_version, "7.2.0");
    cr_assert_str_eq(f.last.hostname, "");
    cr_assert_eq(f.last.addresses_count, 2);
    cr_assert_str_eq(f.last.addresses[0].address, "10.0.2.15");
    cr_assert_eq(f.last.addresses[0].nic, 4);
    cr_assert_eq(f.last.filesystems_count, 2);
    cr_assert_str_eq(f.last.filesystems[0].device, "vda3");
    cr_assert_eq(f.last.filesystems[0].used_percent, 25);
    cr_assert_eq(f.last.filesystems[1].total_bytes, -1);
    /* The same again is no news. */
    loop_call(f.loop, do_refresh, &f);
    answer_round(&f, OSINFO, INTERFACES);
    cr_assert(f.last.live && !f.last_changed);
    loop_call(f.loop, do_close_port, &f);
    wait_for(&f.told);
    cr_assert(!f.last.live && f.last_changed);
    stop(&f);
}

Test(qga, texts_of_a_guest_are_cleaned_and_cut)
{
    struct buf text AUTO_BUF = BUF_INIT;
    buf_add_str(&text, "{\"pretty-name\":\"a\\u0000b\\n<img>\\u001b[31m\",\"id\":\"");
    for (int i = 0; i < 300; i++)
        buf_add_str(&text, "\xc3\xa4");
    buf_add_str(&text, "\"}");
    struct json_error error;
    struct guest_info info;
    guest_info_init(&info);
    json_t *bad AUTO_JSON = json_parse(text.data, text.len, &error);
    cr_assert_null(bad, "a NUL inside a string is refused by the parser");
    memmove(strstr(text.data, "\\u0000"), strstr(text.data, "\\u0000") + 6,
            strlen(strstr(text.data, "\\u0000") + 6) + 1);
    json_t *json AUTO_JSON = json_parse(text.data, strlen(text.data), &error);
    cr_assert(json, "%s", error.text);
    qga_read_osinfo(json, &info);
    cr_assert_str_eq(info.os_name, "ab <img> [31m");
    cr_assert_eq(strlen(info.os_id), 128);
    cr_assert(utf8_valid(info.os_id, strlen(info.os_id)));
    guest_info_done(&info);
}

Test(qga, more_addresses_than_anybody_has_are_cut)
{
    struct buf text AUTO_BUF = BUF_INIT;
    buf_add_str(&text, "[{\"name\":\"e\",\"ip-addresses\":[");
    for (int i = 0; i < 1000; i++)
        buf_printf(&text, "%s{\"ip-address\":\"10.0.%d.%d\"}", i ? "," : "", i / 250, i % 250);
    buf_add_str(&text, "]}]");
    struct json_error error;
    json_t *json AUTO_JSON = json_parse(text.data, text.len, &error);
    struct domain_config config = {0};
    struct guest_info info;
    guest_info_init(&info);
    qga_read_interfaces(json, &config, &info);
    cr_assert_eq(info.addresses_count, 64);
    cr_assert_eq(info.addresses[0].nic, -1);
    guest_info_done(&info);
}

Test(qga, a_line_without_end_closes_the_channel)
{
    struct fixture f;
    start(&f);
    char block[8192];
    memset(block, 'x', sizeof(block));
    size_t sent = 0;
    while (sem_trywait(&f.lost) < 0) {
        if (send(f.peer, block, sizeof(block), MSG_NOSIGNAL) < 0) {
            wait_for(&f.lost);
            break;
        }
        sent += sizeof(block);
        cr_assert_lt(sent, 64u << 20);
    }
    stop(&f);
}

Test(qga, a_flood_of_lines_closes_the_channel)
{
    struct fixture f;
    start(&f);
    answer_round(&f, OSINFO, INTERFACES);
    while (sem_trywait(&f.lost) < 0)
        if (send(f.peer, "{\"return\":{}}\n{\"return\":{}}\n", 28, MSG_NOSIGNAL) < 0) {
            wait_for(&f.lost);
            break;
        }
    stop(&f);
}

Test(qga, odd_answers_leave_gaps_not_harm)
{
    static const char *const odd[] = {"{\"return\":[]}\n", "{\"return\":null}\n", "[]\n{\"return\":7}\n",
                                      "nonsense\n{}\n"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        struct fixture f;
        start(&f);
        answer_round(&f, odd[i], "{\"return\":{\"name\":[]}}\n");
        cr_assert(f.last.live);
        cr_assert_str_eq(f.last.os_name, "");
        cr_assert_eq(f.last.addresses_count, 0);
        stop(&f);
    }
}

Test(qga, a_shutdown_request_is_sent_when_the_agent_answers)
{
    struct fixture f;
    start(&f);
    f.mode = "powerdown";
    answer_round(&f, OSINFO, INTERFACES);
    loop_call(f.loop, do_shutdown, &f);
    cr_assert(f.sent);
    char *line AUTO_FREE = hear(&f);
    cr_assert_str_eq(line, "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}");
    say(&f, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}\n");
    wait_for(&f.refused);
    stop(&f);
}

Test(qga, a_shutdown_request_waits_for_the_first_answer)
{
    struct fixture f;
    start(&f);
    f.mode = "reboot";
    loop_call(f.loop, do_shutdown, &f);
    cr_assert(f.sent, "the port is open: who is behind it is asked");
    answer_sync(&f);
    char *line AUTO_FREE = hear(&f);
    cr_assert_str_eq(line, "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"reboot\"}}");
    stop(&f);
}

Test(qga, a_shutdown_request_that_nobody_answers_is_refused)
{
    struct fixture f;
    start(&f);
    f.mode = "powerdown";
    loop_call(f.loop, do_shutdown, &f);
    cr_assert(f.sent);
    wait_for(&f.refused);
    loop_call(f.loop, do_close_port, &f);
    loop_call(f.loop, do_shutdown, &f);
    cr_assert(!f.sent, "the guest has closed the port");
    stop(&f);
}

/* ---- file systems that stand still ---- */

static void freeze(struct fixture *f)
{
    start(f);
    answer_round(f, OSINFO, INTERFACES);
    loop_call(f->loop, do_freeze, f);
    cr_assert(f->sent);
    answer_sync(f);
}

Test(qga, file_systems_freeze_and_thaw)
{
    struct fixture f;
    freeze(&f);
    answer(&f, "guest-fsfreeze-freeze", "{\"return\": 2}\n");
    wait_for(&f.froze);
    loop_call(f.loop, do_thaw, &f);
    answer_sync(&f);
    answer(&f, "guest-fsfreeze-thaw", "{\"return\": 2}\n");
    wait_for(&f.thawed);
    answer_round(&f, OSINFO, INTERFACES); /* and goes on as before */
    stop(&f);
}

Test(qga, a_freeze_that_fails_is_thawed)
{
    struct fixture f;
    freeze(&f);
    answer(&f, "guest-fsfreeze-freeze", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"busy\"}}\n");
    answer_sync(&f);
    answer(&f, "guest-fsfreeze-thaw", "{\"return\": 0}\n");
    wait_for(&f.thawed);
    cr_assert_eq(sem_trywait(&f.froze), -1);
    stop(&f);
}

/* Also when nobody calls qga_thaw, and when its answers are lost. */
Test(qga, a_thaw_is_repeated_until_it_is_confirmed)
{
    struct fixture f;
    freeze(&f);
    answer(&f, "guest-fsfreeze-freeze", "{\"return\": 2}\n");
    wait_for(&f.froze);
    loop_call(f.loop, do_thaw, &f);
    answer_sync(&f);
    answer(&f, "guest-fsfreeze-thaw", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}\n");
    answer_sync(&f);
    answer(&f, "guest-fsfreeze-thaw", "{\"return\": 2}\n");
    wait_for(&f.thawed);
    stop(&f);
}

Test(qga, what_stays_frozen_is_thawed_by_itself)
{
    struct fixture f;
    freeze(&f);
    answer(&f, "guest-fsfreeze-freeze", "{\"return\": 1}\n");
    wait_for(&f.froze);
    answer_sync(&f); /* QGA_FROZEN_MS later */
    answer(&f, "guest-fsfreeze-thaw", "{\"return\": 1}\n");
    wait_for(&f.thawed);
    stop(&f);
}

/* The agent in the guest died and left it frozen. */
Test(qga, an_agent_that_comes_back_is_told_to_thaw_first)
{
    struct fixture f;
    freeze(&f);
    answer(&f, "guest-fsfreeze-freeze", "{\"return\": 1}\n");
    wait_for(&f.froze);
    loop_call(f.loop, do_close_port, &f);
    loop_call(f.loop, do_open_port, &f);
    answer_sync(&f);
    answer(&f, "guest-fsfreeze-thaw", "{\"return\": 1}\n");
    wait_for(&f.thawed);
    stop(&f);
}

Test(qga, who_does_not_answer_is_not_frozen)
{
    struct fixture f;
    start(&f);
    loop_call(f.loop, do_freeze, &f);
    cr_assert_not(f.sent);
    stop(&f);
}
