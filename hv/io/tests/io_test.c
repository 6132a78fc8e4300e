/* The event loop and the fan-out of consoles. */
#include <base/buf.h>
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <io/fanout.h>
#include <io/loop.h>
#include <io/savefile.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

static void wait_for(sem_t *sem)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    cr_assert_eq(sem_timedwait(sem, &end), 0, "nothing happened");
}

struct chain {
    struct loop *loop;
    struct loop_timer timers[3];
    int order[3], fired;
    sem_t done;
};

struct named {
    struct chain *chain;
    int name;
};

static void fire_named(void *arg)
{
    struct named *n = arg;
    n->chain->order[n->chain->fired++] = n->name;
    sem_post(&n->chain->done);
}

static struct named named[3];

static void arm(void *arg)
{
    struct chain *chain = arg;
    static const int after[3] = {30, 10, 20};
    for (int i = 0; i < 3; i++) {
        named[i] = (struct named){chain, i};
        chain->timers[i] = (struct loop_timer){.fire = fire_named, .arg = &named[i]};
        loop_timer_set(chain->loop, &chain->timers[i], clock_mono_ms() + after[i]);
    }
    loop_timer_cancel(chain->loop, &chain->timers[2]);
}

Test(loop, timers_fire_in_order_and_cancelled_ones_do_not)
{
    struct chain chain = {.loop = loop_new("test")};
    sem_init(&chain.done, 0, 0);
    loop_call(chain.loop, arm, &chain);
    wait_for(&chain.done);
    wait_for(&chain.done);
    loop_free(chain.loop);
    cr_assert_eq(chain.fired, 2);
    cr_assert_eq(chain.order[0], 1);
    cr_assert_eq(chain.order[1], 0);
}

struct reader {
    struct loop_source *source, *other;
    int fd, calls;
    sem_t done;
};

static void on_ready(void *arg, uint32_t events)
{
    struct reader *r = arg;
    (void)events;
    r->calls++;
    /* Both are ready in one batch: removing the other must keep its callback from running. */
    loop_remove(r->other);
    loop_remove(r->source);
    r->other = r->source = NULL;
    sem_post(&r->done);
}

static struct reader pair_readers[2];

static void add_both(void *arg)
{
    struct loop *loop = arg;
    for (int i = 0; i < 2; i++)
        pair_readers[i].source = loop_add(loop, pair_readers[i].fd, EPOLLIN, on_ready, &pair_readers[i]);
    pair_readers[0].other = pair_readers[1].source;
    pair_readers[1].other = pair_readers[0].source;
}

static void nothing(void *arg)
{
    (void)arg;
}

Test(loop, a_removed_source_is_never_called_again)
{
    struct loop *loop = loop_new("test");
    int a[2], b[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    cr_assert_eq(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
    for (int i = 0; i < 2; i++)
        sem_init(&pair_readers[i].done, 0, 0);
    pair_readers[0].fd = a[0];
    pair_readers[1].fd = b[0];
    loop_call(loop, add_both, loop);
    loop_call(loop, nothing, NULL);
    loop_call(loop, nothing, NULL);
    loop_free(loop);
    cr_assert_eq(pair_readers[0].calls + pair_readers[1].calls, 1);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}

struct console {
    struct loop *loop;
    struct fanout *fanout;
    struct buf typed;
    const char *text;
    size_t len;
    int fd;
    sem_t got;
};

static void typed(void *arg, const char *data, size_t len)
{
    struct console *c = arg;
    buf_add(&c->typed, data, len);
    sem_post(&c->got);
}
static void do_new(void *arg)
{
    struct console *c = arg;
    c->fanout = fanout_new(c->loop, typed, c);
}
static void do_write(void *arg)
{
    struct console *c = arg;
    fanout_write(c->fanout, c->text, c->len);
}
static void do_attach(void *arg)
{
    struct console *c = arg;
    cr_assert_eq(fanout_attach(c->fanout, &c->fd), 0);
}
static void do_free(void *arg)
{
    struct console *c = arg;
    fanout_free(c->fanout);
}

static void put(struct console *c, const char *text, size_t len)
{
    c->text = text;
    c->len = len;
    loop_call(c->loop, do_write, c);
}

/* Reads until `want` bytes came or the end. */
static size_t drain(int fd, char *to, size_t want)
{
    size_t n = 0;
    while (n < want) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, 20000), 1, "nothing came");
        ssize_t got = read(fd, to + n, want - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    return n;
}

Test(fanout, viewers_get_scrollback_then_live_output_and_can_type)
{
    struct console c = {.loop = loop_new("test")};
    sem_init(&c.got, 0, 0);
    loop_call(c.loop, do_new, &c);
    put(&c, "hello ", 6);
    loop_call(c.loop, do_attach, &c);
    int first = c.fd;
    put(&c, "world", 5);
    loop_call(c.loop, do_attach, &c);
    int second = c.fd;
    char text[32] = "";
    cr_assert_eq(drain(first, text, 11), 11);
    cr_assert_str_eq(text, "hello world");
    memset(text, 0, sizeof(text));
    cr_assert_eq(drain(second, text, 11), 11);
    cr_assert_str_eq(text, "hello world");
    cr_assert_eq(write(second, "ls\n", 3), 3);
    wait_for(&c.got);
    cr_assert_eq(c.typed.len, 3);
    loop_call(c.loop, do_free, &c);
    cr_assert_eq(drain(first, text, 1), 0);
    loop_free(c.loop);
    close(first);
    close(second);
    buf_done(&c.typed);
}

Test(fanout, a_viewer_that_does_not_read_is_dropped_and_others_go_on)
{
    struct console c = {.loop = loop_new("test")};
    sem_init(&c.got, 0, 0);
    loop_call(c.loop, do_new, &c);
    loop_call(c.loop, do_attach, &c);
    int slow = c.fd;
    char block[65536];
    memset(block, 'x', sizeof(block));
    for (int i = 0; i < 64; i++)
        put(&c, block, sizeof(block));
    loop_call(c.loop, do_attach, &c);
    int fresh = c.fd;
    put(&c, "END", 3);
    /* The fresh one sees the bounded scroll-back and what follows. */
    char *all AUTO_FREE = xcalloc(1, FANOUT_SCROLLBACK + 4);
    cr_assert_eq(drain(fresh, all, FANOUT_SCROLLBACK + 3), FANOUT_SCROLLBACK + 3);
    cr_assert_str_eq(all + FANOUT_SCROLLBACK, "END");
    /* The slow one finds the end after what had reached its socket, long before all 4 MiB. */
    size_t seen = 0, n;
    while ((n = drain(slow, block, sizeof(block))) > 0)
        seen += n;
    cr_assert_lt(seen, 4u << 20);
    loop_call(c.loop, do_free, &c);
    loop_free(c.loop);
    close(slow);
    close(fresh);
}

/* Where a nic leads and what is behind a disk come from what is asked; the machine from what was saved. */
Test(savefile, a_resumed_domain_gets_the_sources_of_now)
{
    struct domain_config saved AUTO_DOMAIN_CONFIG, asked AUTO_DOMAIN_CONFIG, merged AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    domain_config_init(&saved);
    saved.memory_bytes = 1 << 20;
    saved.vcpus = 2;
    saved.vcpus_max = 4;
    struct domain_nic *nic = domain_config_add_nics(&saved);
    nic->kind = NIC_KIND_BRIDGE;
    str_assign(&nic->mac, "52:54:00:12:34:56");
    str_assign(&nic->bridge, "xenbr0");
    struct domain_disk *disk = domain_config_add_disks(&saved);
    str_assign(&disk->device, "xvda");
    str_assign(&disk->disk, "old");
    domain_config_copy(&asked, &saved);
    asked.vcpus = 4;
    str_assign(&asked.nics[0].bridge, "xenbr1");
    str_assign(&asked.disks[0].disk, "new");
    cr_assert_eq(save_merge(&saved, &asked, true, &merged, &err), 0, "%s", err.text);
    cr_assert_str_eq(merged.nics[0].bridge, "xenbr1");
    cr_assert_str_eq(merged.disks[0].disk, "new");
    cr_assert_eq(merged.vcpus, 2);
    cr_assert(merged.start_paused);
}
