/* The simulator's domains. A domain's life is a few timers on the driver's loop; all of it is guarded by one
 * lock. */
#pragma once
#include <base/mem.h>
#include <base/ref.h>
#include <hv/driver.h>
#include <io/fanout.h>
#include <io/loop.h>
#include <pthread.h>

enum sim_wish { SIM_WISH_NONE, SIM_WISH_SHUTDOWN, SIM_WISH_REBOOT };

struct sim_domain {
    struct hv_driver_state *state;
    unsigned refs; /* guarded by lock, as is all that follows */
    struct domain_config config;
    struct domain_info info;
    enum sim_wish wish;      /* what the guest was asked to do and will do once it has booted */
    int64_t boots_at_ms;     /* clock_mono_ms() at which its agent answers; INT64_MAX: it has */
    int64_t booted_at_ms;    /* clock_mono_ms() at which it had */
    bool deaf;               /* never follows a request (kernel argument sim.hang) */
    bool dropped;            /* no longer in the table */
    struct loop_timer timer; /* loop thread */
    struct fanout *serial;   /* loop thread; NULL: none */
    struct sim_domain *next;
};

struct hv_driver_state {
    struct hv_driver_env env;
    char *dir; /* STATE/run */
    struct loop *loop;
    int64_t boot_ms;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct sim_domain *domains;
    int64_t domid_next;
};

/* ---- domain.c ---- */
struct sim_domain *sim_find(struct hv_driver_state *state, const char *uuid); /* lock held */
struct sim_domain *sim_add(struct hv_driver_state *state, const struct domain_config *config);
void sim_drop(struct sim_domain *d);    /* lock held: out of the table, its file removed */
void sim_release(struct sim_domain *d); /* lock held: one count less */
/* Lock held. Writes the domain's file; a failure is logged: the simulator's memory goes on. */
void sim_save(const struct sim_domain *d);
void sim_load_all(struct hv_driver_state *state);
/* Lock held. The domain ended by itself or by request. */
void sim_end(struct sim_domain *d, enum end_reason reason, const char *text);
/* Lock held. Begins to boot from now. */
void sim_boot(struct sim_domain *d);
/* Looks again at what is due; any thread, lock not held. */
void sim_poke(struct sim_domain *d);
/* Tells the agent; lock not held. */
void sim_tell(struct hv_driver_state *state, const char *uuid, bool guest_only);

/* ---- rfb.c ---- */
/* A viewer of a small still screen; *fd is the caller's end. Any thread but the loop's. -1 with errno. */
int sim_rfb_open(struct loop *loop, int *fd);
