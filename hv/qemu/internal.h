/* What the files of the QEMU driver share.
 *
 * Threads: operations run on the agent's workers; everything that a device model or guest says is handled
 * on the driver's loop. Locks, in order: driver.lock (the table), domain.lock (one domain). No lock is held
 * across a QMP command or a call back into the agent. A domain lives while it is counted: by the table, by
 * the loop (while it has a process) and by each operation. */
#pragma once
#include "data.h"
#include "plan.h"
#include "qga.h"
#include "qmp.h"
#include <base/proc.h>
#include <hv/driver.h>
#include <io/fanout.h>
#include <io/kept.h>
#include <io/rundir.h>
#include <io/savefile.h>
#include <pthread.h>

struct qemu_domain;

struct hv_driver_state {
    struct hv_driver_env env; /* strings are copies */
    char *state_dir, *launcher, *qemu_binary, *ovmf_code, *ovmf_vars;
    char *ovmf_secure_code, *ovmf_secure_vars, *swtpm;
    struct loop *loop;
    enum accelerator accelerator;
    bool may_bridge, may_nest;
    bool confines; /* the kernel has Landlock */
    int cgroup_fd; /* folder of the domains' control groups; -1: none */
    char boot_id[40];
    struct loop_timer housekeeping; /* loop thread */
    pthread_mutex_t lock;           /* guards the rest */
    struct qemu_domain **domains;
    size_t count;
    int64_t domid_next, domid_reserved;
};

struct qemu_domain {
    struct hv_driver_state *driver;
    _Atomic int refs;
    char uuid[UUID_TEXT_SIZE];

    pthread_mutex_t lock; /* guards the following */
    pthread_cond_t changed;
    /* Written by the loop's thread with the lock held (domain_change), except the sources of CD drives: so
     * the loop's thread reads it without. */
    struct rundir_record record;
    struct domain_info info;
    struct proc proc; /* pidfd -1: no process any more */
    struct proc tpm;  /* swtpm, when this agent started it */
    struct qmp *qmp;  /* NULL: not connected */
    bool starting;    /* not listed yet */
    bool leaving;     /* the pool asked for its end: no record stays */
    bool dead;        /* the process is gone and all of it released */
    bool killed;      /* by a signal */
    bool guest_refused;
    int64_t stats_again_ms; /* it was silent when asked for numbers: not before this time again */
    bool fs_frozen,
        fs_thawing; /* what is known of the guest's file systems: frozen; a thaw is not confirmed yet */
    int64_t resets, guest_answers, device_news; /* counters that operations wait on */
    bool holding;                               /* an operation keeps it stopped: nobody is told */
    bool must_reboot;               /* an operation asked the guest to: its configuration has no say */
    int64_t job_news;               /* counts what was heard of migrations and block jobs */
    bool job_failed;                /* a block job ended with an error since this was last cleared */
    int64_t stopped_us;             /* mono us at which the guest stopped last */
    bool offers_disks;              /* those of a domain that comes are written to from outside */
    bool unplugging;                /* an operation waits for a device to go */
    char kept[QEMU_DEVICE_ID_SIZE]; /* the device that the guest refused to let go last */

    /* Loop thread only. */
    bool is_child;
    bool is_anew; /* not the domain's first process */
    struct rundir dir;
    struct loop_source *process_source, *serial_source;
    struct fanout *serial;
    int serial_fd, serial_log_fd;
    struct buf serial_in; /* typed, not yet taken by the device model */
    bool serial_settling; /* just adopted: what comes is held until settle_timer */
    struct buf serial_held;
    off_t serial_logged; /* how far the log was read at the adoption */
    struct loop_timer settle_timer;
    struct qga *qga;
    struct data_port *data;
    struct loop_timer data_timer; /* until it fires, news of the data wait */
    struct loop_timer data_again; /* connects to the port that was cut off */
    bool data_news;
    struct loop_timer reconnect, kill_timer, rearm_timer, watch_timer, anew_timer;
    int64_t watch_ms, watch_step_ms; /* until the next question about drivers, and to the one after it */
    int64_t last_reset_ms;
    bool dumping;            /* its memory is being written */
    char *end_note;          /* more about its end: where its memory was written, why it is not restarted */
    enum end_reason pending; /* why the process is about to end */
    int64_t disk_error_ms;   /* when a failing disk was told of last */
};

/* ---- domain.c ---- */
struct qemu_domain *domain_new(struct hv_driver_state *driver, const char *uuid);
struct qemu_domain *domain_ref(struct qemu_domain *d);
void domain_unref(struct qemu_domain *d);
void domain_unref_cleanup(struct qemu_domain **d);
#define AUTO_DOMAIN __attribute__((cleanup(domain_unref_cleanup)))
/* A count of the live or gone domain; NULL with err NOT_FOUND. */
struct qemu_domain *domain_find(struct hv_driver_state *driver, const char *uuid, struct hv_err *err);
/* False: there is one already; else it is in the table. A gone one is replaced. */
bool domain_table_add(struct hv_driver_state *driver, struct qemu_domain *d);
void domain_table_remove(struct hv_driver_state *driver, struct qemu_domain *d);
/* Connects to the started or adopted process and watches it. From then on the loop has a count. */
void domain_attach(struct qemu_domain *d);
/* Reads the state from the device model and acts on it. -1: it does not answer. */
int domain_sync(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err);
/* The same on a thread of its own that may wait long: for when events were missed. */
void domain_sync_later(struct qemu_domain *d);
/* Runs on a thread of its own, with a count of the domain that `run` gives back. */
void domain_run_apart(struct qemu_domain *d, void *(*run)(void *));
/* Waits, with d->lock held, until something of the domain changed. -1: deadline or cancelled, err set. */
int domain_wait(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err);
/* From now on, or again in a while, a reboot of the guest's own accord ends the domain, if its
 * configuration says so: the pool's own resets are followed by one that the firmware makes. */
void domain_rearm_reboot(struct qemu_domain *d);
/* Ends the process for sure and waits until all of it is released. */
void domain_kill(struct qemu_domain *d);
/* As whom its processes run. */
struct kept_user domain_user(const struct qemu_domain *d);
/* Waits until all of a process that is about to end is released, a moment at most. True: it is. */
bool domain_await_end(struct qemu_domain *d);
/* qmp_execute on its connection. When that is lost because the device model has died, the domain is dead by
 * the time that this returns. Not on the loop's thread. */
int domain_execute(struct qemu_domain *d, const char *command, json_t *arguments, int fd,
                   const struct hv_deadline *deadline, json_t **result, struct hv_err *err);
int domain_command(struct qemu_domain *d, const char *command, json_t *moved_arguments,
                   const struct hv_deadline *deadline, json_t **result, struct hv_err *err);
/* QEMU's word for how the machine stands ("running", "postmigrate"); empty if it says none. Not on the loop's
 * thread. */
#define DOMAIN_STATUS_SIZE 32
int domain_status(struct qemu_domain *d, const struct hv_deadline *deadline,
                  char status[static DOMAIN_STATUS_SIZE], struct hv_err *err);
/* Tells the agent. Takes a snapshot under the lock. */
void domain_publish(struct qemu_domain *d, bool guest_only);

/* Changes the record and writes it down: `change` runs on the loop's thread with the lock held. -1: the
 * domain is dead, or err IO. */
int domain_change(struct qemu_domain *d, void (*change)(struct rundir_record *record, void *arg), void *arg,
                  struct hv_err *err);
/* A count of a running or paused one; NULL with err. */
struct qemu_domain *domain_find_active(struct hv_driver_state *state, const char *uuid, struct hv_err *err);
/* Waits until the loop has seen the event, so that whoever asks next sees the new state. */
int domain_wait_state(struct qemu_domain *d, enum domain_state wanted, const struct hv_deadline *deadline,
                      struct hv_err *err);
/* Until when to wait for a guest, so that the answer is there before the deadline. Mono ms. */
int64_t domain_guest_limit(const struct hv_deadline *deadline);
/* A deadline for what must be said to the device model whatever became of the operation. */
struct hv_deadline domain_soon(void);

/* ---- save.c ---- */
/* Stops a running domain without telling anybody; whoever finds it so after a death of the agent lets it run
 * on. */
int domain_hold(struct qemu_domain *d, struct hv_err *err);
/* It runs on if it ran, and has its disks again if it did not. */
void domain_release(struct qemu_domain *d);
/* The same for one that an agent before this one held. Not on the loop's thread. */
void domain_release_found(struct qemu_domain *d);
/* Saves a domain that stands still: UNSUPPORTED if QEMU cannot (see domain_check_sendable). */
int domain_save(struct qemu_domain *d, const struct hv_save *to, const struct hv_deadline *deadline,
                int64_t *state_bytes, struct hv_err *err);
/* ---- regain.c ---- */
/* UNSUPPORTED: it was paused when its memory was written last, and has not run since. */
int domain_check_sendable(struct qemu_domain *d, struct hv_err *err);
/* Gives a paused domain the disks again that QEMU let go of when it wrote its memory. Not on the loop's
 * thread. */
int domain_regain_disks(struct qemu_domain *d, struct hv_err *err);

/* What can be said before anything is started: FORMAT. */
int qemu_load_check(const struct hv_driver_state *state, const struct save_header *header,
                    const struct domain_config *config, struct hv_err *err);
/* Fills a device model that was started for it, and lets the guest run unless it is to start paused. */
int domain_load(struct qemu_domain *d, const struct save_header *header, const struct hv_save *from,
                const struct hv_deadline *deadline, struct hv_err *err);

/* As domain_hold, but lets it run: an operation is going to stop it. domain_release ends it. */
int domain_guard(struct qemu_domain *d, struct hv_err *err);
/* What the guest's memory and devices are for another QEMU; `header` is filled on success. */
int domain_describe(struct qemu_domain *d, int64_t state_bytes, struct save_header *header,
                    struct hv_err *err);
/* Of QEMU's migration: its word for how it stands, and how much is done. */
#define MIGRATION_STATUS_SIZE 32
int domain_migration_status(struct qemu_domain *d, char status[static MIGRATION_STATUS_SIZE], double *done,
                            char *why, size_t why_size, struct hv_err *err);
void domain_cancel_migration(struct qemu_domain *d);
/* Hands a descriptor over under that name. */
int domain_pass_fd(struct qemu_domain *d, int fd, const char *name, struct hv_err *err);
/* Whether the other QEMU's version is this one's. */
int domain_check_version(struct qemu_domain *d, const struct save_header *header, struct hv_err *err);
/* Memory's target and what the guest has, after its state was read. */
void domain_read_memory(struct qemu_domain *d, const struct save_header *header);
/* Whether it has given up. */
int domain_give_up(const struct hv_deadline *deadline, struct hv_err *err);
/* Why a device model that was being filled has ended; -1. */
int domain_explain_death(struct qemu_domain *d, struct hv_err *err);
/* Waits until it is not "inmigrate" any more. */
int domain_wait_machine(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err);

/* ---- mirror.c: disks that are copied while the guest writes to them ---- */
#define MIRROR_NAME_SIZE 64
/* Copies of a domain's disks to other places, by block jobs. */
struct mirrors {
    struct qemu_domain *d;
    struct mirror {
        char device[32], job[MIRROR_NAME_SIZE], target[MIRROR_NAME_SIZE];
    } * items;
    size_t count;
};
/* Begins to copy one disk into the other host's device model, through `send->carry`. */
int mirrors_add_remote(struct mirrors *m, const char *device, const struct hv_send *send,
                       const struct hv_deadline *deadline, struct hv_err *err);
/* Waits until all are alike but for what the guest writes just now. */
int mirrors_wait(struct mirrors *m, void (*progress)(void *ctx, double fraction), void *ctx, double share,
                 const struct hv_deadline *deadline, struct hv_err *err);
/* The guest stands still: lets them become alike and ends them. */
int mirrors_finish(struct mirrors *m, struct hv_err *err);
/* Ends whatever is left. */
void mirrors_done(struct mirrors *m);
/* Ends block jobs that an agent before this one left, and changes the record if one has moved a disk. */
void mirrors_found(struct qemu_domain *d);
/* Waits a moment, at most until something is heard of jobs or migrations after `seen`. */
void domain_wait_jobs(struct qemu_domain *d, int64_t seen, int64_t wait_ms);
int64_t domain_job_news(struct qemu_domain *d);

/* ---- migrate_out.c, migrate_in.c ---- */
int qemu_describe(struct hv_driver_state *state, const char *uuid, struct save_header *header,
                  struct hv_err *err);
int qemu_send(struct hv_driver_state *state, const char *uuid, const char *to, const struct hv_send *send,
              const struct hv_deadline *deadline, enum hv_offer *offer, struct hv_sent *sent,
              struct hv_err *err);
const char *qemu_offered(struct hv_driver_state *state, const char *uuid);
int qemu_settle(struct hv_driver_state *state, const char *uuid, const char *to, bool taken,
                struct hv_err *err);
int qemu_receive(struct hv_driver_state *state, const struct domain_config *config,
                 const struct save_header *header, const char *const *mirror, size_t mirror_count,
                 struct disk_chain *chains, const struct hv_deadline *deadline, struct hv_err *err);
int qemu_receive_disk(struct hv_driver_state *state, const char *uuid, const char *device, int *fd,
                      struct hv_err *err);
int qemu_receive_memory(struct hv_driver_state *state, const char *uuid, int fd,
                        const struct hv_deadline *deadline, struct hv_err *err);
int qemu_receive_run(struct hv_driver_state *state, const char *uuid, void (*runs)(void *ctx), void *ctx,
                     struct domain_info *info, struct hv_err *err);
void qemu_receive_drop(struct hv_driver_state *state, const char *uuid);
int qemu_disk_move(struct hv_driver_state *state, const char *uuid, const struct domain_disk *now,
                   struct disk_chain *chain, const struct disk_chain *from,
                   void (*progress)(void *ctx, double fraction), void *ctx,
                   const struct hv_deadline *deadline, struct hv_err *err);
/* The process of a domain that has its folder and record, until its guest runs. After a failure there may be
 * one (proc) or none. start.c */
int domain_start_process(struct qemu_domain *d, const struct disk_chain *chains,
                         const struct hv_deadline *deadline, struct hv_err *err);
/* A device model that waits for a domain's state, unlisted. start.c */
int domain_start_incoming(struct hv_driver_state *state, const struct domain_config *config,
                          const struct save_header *header, struct disk_chain *chains,
                          const struct hv_deadline *deadline, struct hv_err *err);
/* Another host runs it: the process goes, and the record of its end says where it went. ending.c */
void domain_moved(struct qemu_domain *d, const char *to);
/* The host that an offer (rundir_record.offer) names; "": none. The caller frees. */
char *domain_offer_host(const char *offer);

/* ---- hotplug.c ---- */
/* Devices that went by themselves leave the record. Not on the loop's thread. */
void domain_reconcile_devices(struct qemu_domain *d);
/* The same on a thread of its own. */
void domain_devices_later(struct qemu_domain *d);
/* Loop thread: a device went, or the guest refused that. */
void domain_device_event(struct qemu_domain *d, const char *name, const json_t *data);

/* ---- guest_kernel.c ---- */
bool guest_kernel_possible(const struct hv_driver_state *state);

/* ---- watch.c: loop thread ---- */
/* What nobody tells is looked at now and then, from now on until the timer is cancelled: what the firmware
 * has written down, and whether the guest has taken its virtio devices into use. */
void domain_watch(struct qemu_domain *d);
/* It was reset: its drivers are to come again. */
void domain_watch_again(struct qemu_domain *d);

/* ---- tpm.c ---- */
/* Ends the process of its TPM, when there is one, and waits for that. */
void tpm_end(struct qemu_domain *d);
/* ---- sizes.c ---- */
/* Tells the guest's balloon driver how much to keep, and notes it. */
int domain_balloon(struct qemu_domain *d, int64_t memory_bytes, const struct hv_deadline *deadline,
                   struct hv_err *err);

/* ---- scheduling.c ---- */
/* The folder of the domains' groups, or -1: this host has no cpu controller there. */
int scheduling_open(const char *cgroup);
/* Applies what the record says to the process and its processors. Not on the loop's thread. */
int domain_schedule(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err);
/* Once the process is gone. */
void scheduling_remove(struct hv_driver_state *state, const char *uuid);
int qemu_set_scheduling(struct hv_driver_state *state, const char *uuid, const struct domain_config *wanted,
                        const struct hv_deadline *deadline, struct hv_err *err);

/* ---- coredump.c ---- */
/* Writes the memory of a guest that panicked into STATE/crashdumps, on a thread of its own; `then` is called
 * on the loop's thread, with the file's name or why there is none. */
void domain_dump(struct qemu_domain *d, void (*then)(struct qemu_domain *d, const char *text));

/* ---- ending.c: loop thread ---- */
/* The guest powered off, rebooted (and may not) or crashed: does what its configuration says. */
void domain_guest_ended(struct qemu_domain *d, enum end_reason reason);
/* The process is gone. */
void domain_process_ended(struct qemu_domain *d);

/* Its process is gone, or never came: everything of it on the host goes, and the record says why. */
void domain_end(struct qemu_domain *d, enum end_reason reason, const char *text);
/* Lets go of the process: its connections and timers. */
void domain_let_go(struct qemu_domain *d);

/* ---- anew.c: guests that bring their own kernel reboot into another process ---- */
/* Whether the reset of a device model would boot the old kernel. */
bool domain_boots_anew(const struct qemu_domain *d);
/* Loop thread: the guest has rebooted. Written down first; then the agent is told until it takes it up. */
void domain_reboot(struct qemu_domain *d);
/* Loop thread: what domain_reboot has written down, found by a later agent. */
void domain_reboot_found(struct qemu_domain *d);
/* Loop thread: the other process runs. */
void domain_rebooted(struct qemu_domain *d);
/* Loop thread: the process has ended. True: another one takes its place, and the domain goes on. */
bool domain_goes_on(struct qemu_domain *d);
/* On the thread of an operation: the other process. */
int domain_replace(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err);
int qemu_anew(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
              struct hv_err *err);

/* ---- serial.c: loop thread ---- */
void serial_open(struct qemu_domain *d, bool adopted);
void serial_connect(struct qemu_domain *d);
void serial_close(struct qemu_domain *d);
/* The domain ends: what its port said last stays in STATE/serial/<uuid>.log, and that of the run before in
 * .log.1. Each is at most a little longer than a megabyte. */
void serial_keep(struct qemu_domain *d);
/* The VM is deleted or has moved away. */
void serial_purge(const struct hv_driver_state *state, const char *uuid);
/* How much of what was logged came before the first byte of `held`, which is logged too, if only a moment
 * later. Pure. */
size_t serial_before_held(const char *logged, size_t len, const struct buf *held);

/* ---- freeze.c ---- */
/* Loop thread: what qga says of the guest's file systems. */
void domain_fs_frozen(struct qemu_domain *d, bool frozen);

/* ---- guest_data.c: loop thread ---- */
/* Begins to serve the guest's data port, if it has one. */
void domain_data_open(struct qemu_domain *d);
void domain_data_close(struct qemu_domain *d);

/* ---- media.c ---- */
/* Whether QMP's name of a device is this id, or the path of something below it. */
bool qemu_qdev_is(const char *qdev, const char *id);

/* ---- start.c, adopt.c, ops.c, media.c, stats.c, probe.c and others: entries of the driver table ---- */
int qemu_resume(struct hv_driver_state *state, const struct domain_config *config,
                const struct save_header *header, const struct hv_save *from, struct disk_chain *chains,
                const struct hv_deadline *deadline, struct domain_info *info, struct hv_err *err);
int qemu_suspend(struct hv_driver_state *state, const char *uuid, const struct hv_save *to,
                 const struct hv_deadline *deadline, int64_t *state_bytes, struct hv_err *err);
int qemu_snapshot(struct hv_driver_state *state, const char *uuid, const struct hv_layer *layers,
                  size_t count, const struct hv_save *memory, const struct hv_deadline *deadline,
                  bool *applied, int64_t *state_bytes, struct hv_err *err);
int qemu_disk_limit(struct hv_driver_state *state, const char *uuid, const char *device, int64_t max_iops,
                    int64_t max_kbytes, const struct hv_deadline *deadline, struct hv_err *err);
int qemu_disk_merge(struct hv_driver_state *state, const char *uuid, const struct hv_merge *merge,
                    const struct hv_deadline *deadline, struct hv_err *err);
void qemu_disk_merge_end(struct hv_driver_state *state, const char *uuid);
int qemu_disk_plug(struct hv_driver_state *state, const char *uuid, const struct domain_disk *disk,
                   struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err);
int qemu_disk_unplug(struct hv_driver_state *state, const char *uuid, const char *device, bool force,
                     const struct hv_deadline *deadline, struct hv_err *err);
/* A tap for the card on its bridge (close-on-exec, the caller's), or -1 with *err. nic.c */
int nic_open_tap(const char *domain, const struct domain_nic *nic, struct hv_err *err);
int qemu_nic_update(struct hv_driver_state *state, const char *uuid, const struct domain_nic *nic,
                    const struct hv_deadline *deadline, struct hv_err *err);
int qemu_nic_plug(struct hv_driver_state *state, const char *uuid, const struct domain_nic *nic,
                  const struct hv_deadline *deadline, struct hv_err *err);
int qemu_usb_unplug(struct hv_driver_state *state, const char *uuid, const char *path,
                    const struct hv_deadline *deadline, struct hv_err *err);
int qemu_nic_unplug(struct hv_driver_state *state, const char *uuid, int64_t index, bool force,
                    const struct hv_deadline *deadline, struct hv_err *err);
int qemu_set_vcpus(struct hv_driver_state *state, const char *uuid, int64_t vcpus,
                   const struct hv_deadline *deadline, struct hv_err *err);
int qemu_set_memory(struct hv_driver_state *state, const char *uuid, int64_t memory_bytes,
                    const struct hv_deadline *deadline, struct hv_err *err);
int qemu_start(struct hv_driver_state *state, const struct domain_config *config, struct disk_chain *chains,
               const struct hv_deadline *deadline, struct domain_info *info, struct hv_err *err);
int qemu_adopt_all(struct hv_driver_state *state, struct hv_err *err);
int qemu_probe(const struct hv_driver_env *env, struct host_facts *facts, struct hv_err *err);
/* Whether a guest can run guests: KVM that says so, or emulation, which has AMD's extensions. */
bool qemu_may_nest(enum accelerator accelerator);
enum accelerator qemu_choose_accelerator(char *reason, size_t size);
int qemu_cd_change(struct hv_driver_state *state, const char *uuid, const struct domain_disk *drive,
                   struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err);
int qemu_stats(struct hv_driver_state *state, const char *uuid, struct domain_stats *stats,
               struct hv_err *err);
int qemu_pause(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
               struct hv_err *err);
int qemu_unpause(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                 struct hv_err *err);
int qemu_shutdown(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                  struct hv_err *err);
int qemu_reboot(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                struct hv_err *err);
int qemu_destroy(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                 struct hv_err *err);
int qemu_trigger(struct hv_driver_state *state, const char *uuid, enum domain_signal signal, char key,
                 const struct hv_deadline *deadline, struct hv_err *err);
int qemu_reset(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
               struct hv_err *err);
int qemu_guest_refresh(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                       struct guest_info *guest, struct hv_err *err);
int qemu_freeze(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                bool *frozen, struct hv_err *err);
bool qemu_thaw(struct hv_driver_state *state, const char *uuid);
int qemu_data(struct hv_driver_state *state, const char *uuid, const struct str_map **data, int64_t *version,
              struct hv_err *err);
int qemu_data_set(struct hv_driver_state *state, const char *uuid, const struct hv_data_change *change,
                  struct hv_err *err);
int qemu_console_open(struct hv_driver_state *state, const char *uuid, enum console_kind kind, int *fd,
                      struct hv_err *err);
