/* What the files of the simulator share. One lock guards everything; timers fire on the loop. A domain
 * boots for a while of the simulator's clock, then its guest "is up": it has an address, answers on the
 * serial port and powers off when asked. Running domains outlive the agent, as with QEMU: they are written
 * down.
 *
 * Words in the kernel's arguments (firmware = kernel) make a guest misbehave, for tests:
 * sim.ignore_shutdown, sim.no_agent, sim.start_fails, sim.crash_ms=N, sim.poweroff_ms=N, sim.reboot_ms=N
 * (milliseconds after it is up; with sim.when_asked after it was asked to reboot, which it does not);
 * sim.suspend_ms=N, sim.snapshot_ms=N, sim.resume_ms=N (how long that takes, one after another steps of
 * progress), sim.suspend_fails, sim.snapshot_fails, sim.resume_fails, sim.refuse_plug, sim.refuse_unplug,
 * sim.no_vcpu_plug (unsupported), sim.refuse_vcpus (the guest keeps them), sim.no_balloon (it keeps its
 * memory); sim.migrate_ms=N, sim.migrate_fails, sim.receive_fails (as it goes to another host).
 * sim.disk_full_ms=N (it is paused, as by QEMU when the storage of its first disk has no room).
 * sim.cpu_percent=N says how busy its processors are. sim.again_ms=N: how long it boots after a reset.
 * sim.no_freeze: its agent cannot freeze file systems; sim.thaws: it does not keep them frozen. sim.data:
 * once up, the guest writes vm-data/sim/booted, and answers what the pool writes to vm-data/sim/ask in
 * vm-data/sim/answer. */
#pragma once
#include <hv/driver.h>
#include <io/fanout.h>
#include <io/rundir.h>
#include <io/savefile.h>
#include <pthread.h>

struct sim_screen;

struct sim_domain {
    struct hv_driver_state *sim;
    struct rundir_record record;
    struct domain_info info;
    bool starting, leaving, up;
    bool held; /* stopped for a snapshot or a suspend; nobody is told */
    bool fs_frozen;
    bool asked_off; /* somebody waits for it to power off */
    bool asked_reboot;
    int64_t up_at; /* mono ms at which it will be up; while paused: what is left */
    int64_t resets;
    int64_t paused_at_us, paused_us; /* unix time of the last pause; how long all earlier ones took */
    struct loop_timer timer, mishap;
    struct fanout *serial;
    struct sim_screen *screens; /* viewers; loop thread */
    struct disk_chain *coming;  /* while it comes from another host: its disks, as in its configuration */
    struct sim_domain *next;
};

struct hv_driver_state {
    struct hv_driver_env env;
    char *state_dir;
    int64_t boot_ms;
    struct loop *loop;
    char boot_id[40];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sim_domain *domains;
    int64_t domid_next, domid_kept; /* those below `kept` may be taken */
};

/* ---- guest.c: the simulated guest; with the lock held ---- */
/* Begins to boot. */
void sim_boot(struct sim_domain *d);
/* (Re)arms the timers after a change of state. Loop thread. */
void sim_arm(struct sim_domain *d);
/* Value of "word" or "word=N" in the kernel's arguments; -1: not there, 0: without a number. */
int64_t sim_word(const struct sim_domain *d, const char *word);
void sim_say(struct sim_domain *d, const char *text);
/* The guest looks at the data that it shares with the pool. */
void sim_guest_data(struct sim_domain *d);
/* Its nics are others: so are its addresses. */
void sim_guest_nics(struct sim_domain *d);

/* ---- live.c: changes of a live domain, for the table in sim.c ---- */
int sim_snapshot(struct hv_driver_state *sim, const char *uuid, const struct hv_layer *layers, size_t count,
                 const struct hv_save *memory, const struct hv_deadline *deadline, bool *applied,
                 int64_t *state_bytes, struct hv_err *err);
int sim_suspend(struct hv_driver_state *sim, const char *uuid, const struct hv_save *to,
                const struct hv_deadline *deadline, int64_t *state_bytes, struct hv_err *err);
int sim_resume(struct hv_driver_state *sim, const struct domain_config *config,
               const struct save_header *header, const struct hv_save *from, struct disk_chain *chains,
               const struct hv_deadline *deadline, struct domain_info *info, struct hv_err *err);
int sim_disk_limit(struct hv_driver_state *sim, const char *uuid, const char *device, int64_t max_iops,
                   int64_t max_kbytes, const struct hv_deadline *deadline, struct hv_err *err);
int sim_disk_plug(struct hv_driver_state *sim, const char *uuid, const struct domain_disk *disk,
                  struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err);
int sim_disk_unplug(struct hv_driver_state *sim, const char *uuid, const char *device, bool force,
                    const struct hv_deadline *deadline, struct hv_err *err);
int sim_nic_plug(struct hv_driver_state *sim, const char *uuid, const struct domain_nic *nic,
                 const struct hv_deadline *deadline, struct hv_err *err);
int sim_nic_update(struct hv_driver_state *sim, const char *uuid, const struct domain_nic *nic,
                   const struct hv_deadline *deadline, struct hv_err *err);
int sim_usb_unplug(struct hv_driver_state *sim, const char *uuid, const char *path,
                   const struct hv_deadline *deadline, struct hv_err *err);
int sim_nic_unplug(struct hv_driver_state *sim, const char *uuid, int64_t index, bool force,
                   const struct hv_deadline *deadline, struct hv_err *err);
int sim_set_vcpus(struct hv_driver_state *sim, const char *uuid, int64_t vcpus,
                  const struct hv_deadline *deadline, struct hv_err *err);
int sim_set_memory(struct hv_driver_state *sim, const char *uuid, int64_t memory_bytes,
                   const struct hv_deadline *deadline, struct hv_err *err);
int sim_set_scheduling(struct hv_driver_state *sim, const char *uuid, const struct domain_config *wanted,
                       const struct hv_deadline *deadline, struct hv_err *err);

/* Stops a domain without telling anybody, and lets it go on. */
void sim_hold(struct hv_driver_state *sim, const char *uuid, bool held);
/* Takes that long, with the domain alive all the time. */
int sim_take_time(struct hv_driver_state *sim, const char *uuid, int64_t ms, const struct hv_save *save,
                  const struct hv_deadline *deadline, struct hv_err *err);
/* What a domain has in memory, and taking it over from there; with the lock held. */
void sim_fill_header(const struct sim_domain *d, struct save_header *header);
void sim_restore(struct sim_domain *d, const struct save_header *header);
/* Running or paused; NULL with err. With the lock held. */
struct sim_domain *sim_find_active(struct hv_driver_state *sim, const char *uuid, struct hv_err *err);

/* ---- migrate.c: to and from other hosts ---- */
int sim_describe(struct hv_driver_state *sim, const char *uuid, struct save_header *header,
                 struct hv_err *err);
int sim_send(struct hv_driver_state *sim, const char *uuid, const char *to, const struct hv_send *send,
             const struct hv_deadline *deadline, enum hv_offer *offer, struct hv_sent *sent,
             struct hv_err *err);
const char *sim_offered(struct hv_driver_state *sim, const char *uuid);
int sim_settle(struct hv_driver_state *sim, const char *uuid, const char *to, bool taken, struct hv_err *err);
int sim_receive(struct hv_driver_state *sim, const struct domain_config *config,
                const struct save_header *header, const char *const *mirror, size_t mirror_count,
                struct disk_chain *chains, const struct hv_deadline *deadline, struct hv_err *err);
int sim_receive_disk(struct hv_driver_state *sim, const char *uuid, const char *device, int *fd,
                     struct hv_err *err);
int sim_receive_memory(struct hv_driver_state *sim, const char *uuid, int fd,
                       const struct hv_deadline *deadline, struct hv_err *err);
int sim_receive_run(struct hv_driver_state *sim, const char *uuid, void (*runs)(void *ctx), void *ctx,
                    struct domain_info *info, struct hv_err *err);
void sim_receive_drop(struct hv_driver_state *sim, const char *uuid);
int sim_disk_move(struct hv_driver_state *sim, const char *uuid, const struct domain_disk *now,
                  struct disk_chain *chain, const struct disk_chain *from,
                  void (*progress)(void *ctx, double fraction), void *ctx, const struct hv_deadline *deadline,
                  struct hv_err *err);

/* ---- data.c: file systems and data of the guest ---- */
int sim_freeze(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
               bool *frozen, struct hv_err *err);
bool sim_thaw(struct hv_driver_state *sim, const char *uuid);
int sim_data(struct hv_driver_state *sim, const char *uuid, const struct str_map **data, int64_t *version,
             struct hv_err *err);
int sim_data_set(struct hv_driver_state *sim, const char *uuid, const struct hv_data_change *change,
                 struct hv_err *err);

/* ---- stats.c: with the lock held ---- */
/* Fills an uninitialised struct. */
void sim_count(const struct sim_domain *d, struct domain_stats *stats);

/* ---- rfb.c: loop thread ---- */
/* A viewer of a small still screen; *fd is the caller's end. -1 with errno. */
int sim_screen_open(struct loop *loop, struct sim_screen **list, int *fd);
void sim_screens_close(struct sim_screen **list);

/* ---- sim.c ---- */
/* With the lock held; NULL with err. */
struct sim_domain *sim_find_live(struct hv_driver_state *sim, const char *uuid, struct hv_err *err);
/* With the lock held: writes down what runs, so that it outlives the agent. */
int sim_write_down(struct sim_domain *d, struct hv_err *err);
/* With the lock held: waits a moment for a change. -1: cancelled, or GUEST when the time is over. */
int sim_wait_change(struct hv_driver_state *sim, const struct hv_deadline *deadline, struct hv_err *err);
/* With the lock held: a domain that does not run yet, written down; NULL with err. `incoming`: it is not this
 * host's before its record says so, and nothing of it is left if the agent dies before. */
struct sim_domain *sim_make(struct hv_driver_state *sim, const struct domain_config *config, bool incoming,
                            struct hv_err *err);
/* Without the lock: (re)arms its timers on the loop. */
void sim_rearm(struct hv_driver_state *sim, const char *uuid);
/* Without the lock: makes its consoles and lets it go on where up_at says. */
void sim_go_on(struct hv_driver_state *sim, const char *uuid);
int sim_destroy(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
                struct hv_err *err);
/* With the lock held, on the loop: the domain is over. Frees it if no record is to stay. */
void sim_end(struct sim_domain *d, enum end_reason reason, const char *text);
/* Stops it where it is. */
void sim_halt(struct sim_domain *d);
/* With the lock held: writes down what has changed and tells the agent (the lock is free meanwhile). */
void sim_changed(struct sim_domain *d, bool guest_only);
