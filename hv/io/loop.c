/* The event loop of hv/io/loop.h, on epoll. A removed source is freed only after the batch of events in
 * which it was removed, since a later event of that batch may still point to it. */
#include "loop.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct loop_source {
    struct loop *loop;
    int fd;
    bool dead;
    void (*ready)(void *arg, uint32_t events);
    void *arg;
    struct loop_source *next;  /* in loop.all, or in loop.graveyard */
    struct loop_source **link; /* what points here, in loop.all */
};

struct post {
    void (*fn)(void *arg);
    void *arg;
    struct post *next;
};

struct loop {
    int epoll_fd, wake_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* guards posts, all, stopping */
    struct post *posts, **posts_end;
    struct loop_source *all;
    bool stopping;
    struct loop_source *graveyard; /* loop thread only, as are the timers */
    struct loop_timer *timers;
};

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* Runs what was posted. False: the loop is to end. */
static bool run_posts(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    struct post *list = loop->posts;
    bool stopping = loop->stopping;
    loop->posts = NULL;
    loop->posts_end = &loop->posts;
    pthread_mutex_unlock(&loop->lock);
    while (list) {
        struct post *post = list;
        list = post->next;
        post->fn(post->arg);
        free(post);
    }
    return !stopping;
}

static int next_timeout(const struct loop *loop)
{
    if (!loop->timers)
        return -1;
    int64_t wait = loop->timers->due_ms - clock_mono_ms();
    return wait < 0 ? 0 : wait > 3600000 ? 3600000 : (int)wait;
}

static void run_timers(struct loop *loop)
{
    int64_t now = clock_mono_ms();
    while (loop->timers && loop->timers->due_ms <= now) {
        struct loop_timer *timer = loop->timers;
        loop->timers = timer->next;
        timer->armed = false;
        timer->fire(timer->arg);
    }
}

static void bury(struct loop *loop)
{
    while (loop->graveyard) {
        struct loop_source *source = loop->graveyard;
        loop->graveyard = source->next;
        free(source);
    }
}

static void *run(void *arg)
{
    struct loop *loop = arg;
    struct epoll_event events[64];
    for (bool going = true; going;) {
        int n = epoll_wait(loop->epoll_fd, events, ARRAY_LEN(events), next_timeout(loop));
        if (n < 0 && errno != EINTR) {
            log_error("loop", "epoll_wait failed", "error", strerror(errno));
            break;
        }
        for (int i = 0; i < n; i++) {
            struct loop_source *source = events[i].data.ptr;
            uint64_t count;
            if (!source)
                (void)!read(loop->wake_fd, &count, sizeof(count));
            else if (!source->dead)
                source->ready(source->arg, events[i].events);
        }
        run_timers(loop);
        going = run_posts(loop);
        bury(loop);
    }
    return NULL;
}

struct loop *loop_new(const char *name)
{
    struct loop *loop = xcalloc(1, sizeof(*loop));
    loop->posts_end = &loop->posts;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    pthread_mutex_init(&loop->lock, NULL);
    int failure = errno;
    if (loop->epoll_fd >= 0 && loop->wake_fd >= 0 &&
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) == 0 &&
        (failure = pthread_create(&loop->thread, NULL, run, loop)) == 0) {
        pthread_setname_np(loop->thread, name);
        return loop;
    }
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
    errno = failure;
    return NULL;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    pthread_mutex_lock(&loop->lock);
    loop->stopping = true;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
    pthread_join(loop->thread, NULL);
    run_posts(loop);
    bury(loop);
    while (loop->all) {
        struct loop_source *source = loop->all;
        loop->all = source->next;
        free(source);
    }
    close(loop->epoll_fd);
    close(loop->wake_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

struct loop_source *loop_add(struct loop *loop, int fd, uint32_t events,
                             void (*ready)(void *arg, uint32_t events), void *arg)
{
    struct loop_source *source = xcalloc(1, sizeof(*source));
    *source = (struct loop_source){.loop = loop, .fd = fd, .ready = ready, .arg = arg};
    pthread_mutex_lock(&loop->lock);
    source->next = loop->all;
    source->link = &loop->all;
    if (source->next)
        source->next->link = &source->next;
    loop->all = source;
    pthread_mutex_unlock(&loop->lock);
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return source;
    int failure = errno;
    pthread_mutex_lock(&loop->lock);
    *source->link = source->next;
    if (source->next)
        source->next->link = source->link;
    pthread_mutex_unlock(&loop->lock);
    free(source);
    errno = failure;
    return NULL;
}

void loop_want(struct loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event);
}

void loop_remove(struct loop_source *source)
{
    if (!source)
        return;
    struct loop *loop = source->loop;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    pthread_mutex_lock(&loop->lock);
    *source->link = source->next;
    if (source->next)
        source->next->link = source->link;
    pthread_mutex_unlock(&loop->lock);
    source->dead = true;
    source->next = loop->graveyard;
    loop->graveyard = source;
}

void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct post *post = xcalloc(1, sizeof(*post));
    *post = (struct post){.fn = fn, .arg = arg};
    pthread_mutex_lock(&loop->lock);
    *loop->posts_end = post;
    loop->posts_end = &post->next;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
}

struct waited_call {
    void (*fn)(void *arg);
    void *arg;
    sem_t done;
};

static void run_waited(void *arg)
{
    struct waited_call *call = arg;
    call->fn(call->arg);
    sem_post(&call->done);
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct waited_call call = {.fn = fn, .arg = arg};
    sem_init(&call.done, 0, 0);
    loop_post(loop, run_waited, &call);
    while (sem_wait(&call.done) < 0 && errno == EINTR)
        ;
    sem_destroy(&call.done);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t due_ms)
{
    loop_timer_cancel(loop, timer);
    timer->due_ms = due_ms;
    timer->armed = true;
    struct loop_timer **at = &loop->timers;
    while (*at && (*at)->due_ms <= due_ms)
        at = &(*at)->next;
    timer->next = *at;
    *at = timer;
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
    if (!timer->armed)
        return;
    for (struct loop_timer **at = &loop->timers; *at; at = &(*at)->next)
        if (*at == timer) {
            *at = timer->next;
            break;
        }
    timer->armed = false;
}
