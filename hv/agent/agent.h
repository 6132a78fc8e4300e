/* What the files of hostd share. Reading order: main.c, http.c (requests), ops.c (operations, journal),
 * handlers_*.c (what each call means), disks.c (who uses which disk), events.c, recover.c.
 *
 * Locks, none held across a slow call: ops.lock, events.lock, waiters.lock, srs.lock, uses.lock,
 * incoming_lock; each is taken alone, except that ops may publish events with its lock free, and the journal
 * has a lock of its own, which may be taken within ops.lock. */
#pragma once
#include "operation.h"
#include <agent_handlers.h>
#include <base/http_server.h>
#include <base/worker.h>
#include <hv/driver.h>
#include <hv/storage.h>
#include <pthread.h>

struct ops;
struct events;
struct waiters;
struct merger;
struct hv_system;
struct ha;

/* The functions of <hv/storage.h> that the agent uses; the simulator puts its own in some places. */
struct storage_table {
    int (*sr_create)(const char *type, const struct str_map *config, struct storage_error *error);
    int (*sr_attach)(const char *type, const struct str_map *config, struct storage_sr **out,
                     struct storage_error *error);
    int (*disk_create)(struct storage_sr *sr, const char *uuid, int64_t virtual_size_bytes,
                       enum disk_format format, int64_t *out, struct storage_error *error);
    int (*disk_copy)(struct storage_sr *sr, const char *location, struct storage_sr *to_sr,
                     const char *to_uuid, enum disk_format to_format, const struct storage_job *job,
                     struct storage_error *error);
    int (*disk_clone)(struct storage_sr *sr, const char *location, const char *new_uuid, bool track,
                      const struct storage_job *job, struct storage_error *error);
    int (*layer_begin)(struct storage_sr *sr, const char *location, const char *new_uuid,
                       struct storage_layer **out, struct storage_error *error);
};
extern const struct storage_table storage_real, storage_simulated;

struct sr {
    char uuid[UUID_TEXT_SIZE];
    const char *type; /* rc string */
    const struct str_map *config;
    struct storage_sr *storage;
    int refs; /* under srs.lock; storage is detached with the last */
    bool attached;
};

/* A disk that an operation has in hand. */
struct disk_use {
    char sr[UUID_TEXT_SIZE];
    char name[256]; /* location in the SR */
    bool write;
    struct disk_use *next;
};

/* No distribution and no container manager gives these numbers to anybody (systemd's table of user ids). */
#define GUEST_FIRST_UID 0x70000000

struct agent_options {
    const char *state_dir, *join_url, *token_file, *listen, *driver, *log_level;
    const char *images, *launcher, *qemu, *ovmf_code, *ovmf_vars;
    const char *power_command;
    const char *system_root, *system_tools;
    const char *ovmf_secure_code, *ovmf_secure_vars, *swtpm;
    const char *cgroup;
    const char *devices_root, *usb_policy;
    long long guest_uid, guest_uids, sim_boot_ms, sim_memory_mib, reserve_mib, min_uptime_s;
    long long ssh_after_s;
};

struct agent {
    struct agent_options options;
    char *host_uuid;
    pthread_mutex_t term_lock; /* guards term */
    int64_t term;              /* the latest of the pool's server that was heard of */
    char *address;             /* where to listen */
    int port;
    char *images_dir, *launcher;
    int images_fd;
    const struct hv_driver *driver;
    const struct storage_table *storage;
    struct hv_driver_env env;
    struct hv_driver_state *state;
    pthread_mutex_t facts_lock; /* guards facts.hostname; the rest is constant but for free memory */
    struct host_facts facts;
    struct worker_pool *workers, *consoles;
    struct http_server *server;
    struct ops *ops;
    struct events *events;
    struct waiters *waiters;
    struct merger *merger;
    struct hv_system *system; /* the host's own system */
    char *system_note, *system_model;
    struct ha *ha;
    _Atomic bool ready; /* operations may be submitted */
    _Atomic bool again; /* after its end the agent starts anew */
    int stop_fd;        /* eventfd: readable when consoles have to end */

    pthread_mutex_t srs_lock; /* guards srs */
    struct sr **srs;
    size_t sr_count;
    pthread_mutex_t uses_lock; /* guards uses */
    struct disk_use *uses;
    pthread_mutex_t incoming_lock; /* guards incoming and what is in it */
    struct incoming *incoming;     /* domains that are waited for; receive.c */
};

/* ---- ops.c ---- */
int ops_open(struct agent *agent, struct hv_err *err);
/* Runs an operation on its queue. An id that is known gives the operation of before, if call and arguments
 * are the same. `args` (heap, of call->args) moves. *out has a count. */
int ops_submit(struct agent *agent, const char *id, const struct hv_call_desc *call, void *args,
               int64_t timeout_ms, struct agent_op **out, struct hv_err *err);
/* A stream's operation, run by the caller: *known says that it is one of before, not to be run again. */
int ops_begin(struct agent *agent, const char *id, const struct hv_call_desc *call, void *args,
              int64_t timeout_ms, struct agent_op **out, bool *known, struct hv_err *err);
/* `result` (of call->result) is encoded, not taken; NULL: failed with err. */
void ops_finish(struct agent *agent, struct agent_op *op, const void *result, const struct hv_err *err);
/* Why an operation on a domain that ran when it began has failed: when the domain has ended meanwhile, that
 * is why. */
void ops_blame_end(struct agent *agent, const struct agent_op *op, struct hv_err *err);
/* An operation on this domain runs or waits. */
bool ops_busy(struct agent *agent, const char *domain);
/* A count, or NULL. */
struct agent_op *ops_find(struct agent *agent, const char *id);
/* The same; one that is not known is refused from now on. */
struct agent_op *ops_find_or_bar(struct agent *agent, const char *id);
void ops_cancel(struct agent *agent, const char *id);
void ops_status(struct agent *agent, struct agent_op *op, struct operation_status *status);
void ops_list(struct agent *agent, struct hv_operation_list_result *result);
/* For handlers: 0 to 1. */
void agent_op_progress(struct agent *agent, struct agent_op *op, double fraction);
/* Puts every operation that an agent before this one had begun to its end (recover.c). Before requests come.
 */
void ops_recover(struct agent *agent);
void ops_resume(struct agent *agent, struct agent_op *op);
void recover_operation(struct agent *agent, struct agent_op *op);

/* ---- events.c ---- */
struct events *events_new(struct agent *agent);
void events_free(struct events *events);
void events_domain(struct agent *agent, const struct domain_info *info, bool guest_only);
void events_operation(struct agent *agent, struct agent_op *op);
void events_publish(struct agent *agent, enum event_kind kind, const char *subject);
/* What came after the cursor, without waiting. */
void events_collect(struct agent *agent, const char *cursor, struct hv_events_wait_result *result);

/* ---- waiters.c: requests that sleep until something happened ---- */
struct waiters *waiters_new(struct agent *agent);
/* Something happened: sleeping requests are looked at again. Any thread. */
void waiters_wake(struct waiters *waiters);
/* Answers now or later. `op` (its count moves) for operations; else `call` and `args` (moves) of a read that
 * may wait. */
void waiters_park_op(struct agent *agent, struct http_request *req, struct agent_op *op, int64_t wait_ms);
void waiters_park_read(struct agent *agent, struct http_request *req, const struct hv_call_desc *call,
                       void *args, int64_t wait_ms);

/* ---- http.c ---- */
void agent_on_request(struct http_request *req, void *context);
void answer_error(struct http_request *req, unsigned status, const struct hv_err *err);
void answer_result(struct http_request *req, const struct wire_struct *desc, const void *result);
void answer_op(struct agent *agent, struct http_request *req, struct agent_op *op);

/* ---- handlers_power.c ---- */
/* Ends the process a moment later, as SIGTERM does; `again`: it then starts anew. */
int agent_end_soon(struct agent *agent, bool again, struct hv_err *err);

/* ---- term.c: whose orders count ---- */
void term_load(struct agent *agent);
/* 0, or -1 SUPERSEDED: a server of a later term has been heard of. A later term is written down first. */
int term_check(struct agent *agent, int64_t term, struct hv_err *err);

/* ---- ha.c: high availability ---- */
/* Before requests come: goes on where an agent before this one was. */
int ha_open(struct agent *agent, struct hv_err *err);
/* BAD_STATE when the host is fenced: no domain may start. */
int ha_check_start(struct agent *agent, struct hv_err *err);

/* ---- join.c: further pools ---- */
/* Joins another pool into pki.new. Blocks. */
int join_prepare(struct agent *agent, const char *address, int port, const char *token, struct hv_err *err);
/* pki becomes pki.old, and pki.new, if there is one, pki. Safe against a sudden end: see join_repair. */
int join_switch(struct agent *agent, bool to_none, struct hv_err *err);
/* Ends a switch that was cut short. Before join_pool. */
void join_repair(struct agent *agent);

/* ---- certificate.c ---- */
/* Ends or undoes a change of the certificate that was cut short. Before the server starts. */
void certificate_repair(struct agent *agent);

/* ---- streams.c ---- */
void streams_import(struct agent *agent, struct http_request *req);
void streams_upload(struct agent *agent, struct http_request *req);
void streams_export(struct agent *agent, struct http_request *req);
enum disk_format stream_format(enum image_format format);
void streams_console(struct agent *agent, struct http_request *req);
void streams_nbd(struct agent *agent, struct http_request *req);
/* Carries bytes between the two on a thread of its own until one ends or the agent stops; both move. `early`
 * (borrowed) goes to `fd` first. -1: no thread; both are closed. */
int streams_carry(struct agent *agent, struct stream *stream, int fd, const char *early, size_t early_len);

/* ---- send.c, receive.c: domains on their way to and from other hosts (migration.h) ---- */
/* GET /v1/migrate of another host's agent, whose certificate names `from`. */
void receive_request(struct agent *agent, struct http_request *req, const char *from);
/* Goes on asking what became of domains that an agent before this one has offered. */
void send_settle_all(struct agent *agent);

/* ---- srs.c ---- */
int srs_open(struct agent *agent, struct hv_err *err);
/* All that are attached, each counted; the array is the caller's. */
struct sr **srs_all(struct agent *agent, size_t *count);
/* Counted; NULL with NOT_FOUND. */
struct sr *srs_get(struct agent *agent, const char *uuid, struct hv_err *err);
void srs_put(struct agent *agent, struct sr *sr);
int srs_attach(struct agent *agent, const char *uuid, const char *type, const struct str_map *config,
               struct hv_err *err);
int srs_detach(struct agent *agent, const char *uuid, struct hv_err *err);
int storage_to_hv(struct hv_err *err, const struct storage_error *error);
int srs_stats(struct sr *sr, struct sr_stats *stats, struct hv_err *err);
struct sr_stats srs_stats_of(const struct storage_stats *stats);
/* Another SR than `uuid` is attached here in this very way. */
bool srs_attached_at(struct agent *agent, const char *uuid, const char *type, const struct str_map *config);
/* What a disk is, by location. */
int srs_disk_info(struct agent *agent, struct sr *sr, const char *location, struct disk_info *info,
                  struct hv_err *err);

/* ---- disks.c ---- */
/* Takes disks for an operation; -1 IN_USE when an operation or a domain has one in a way that does not fit.
 * `names` are locations. Both give back with disks_release. */
int disks_take(struct agent *agent, const char *sr, const char *name, bool write, struct hv_err *err);
void disks_release(struct agent *agent, const char *sr, const char *name, bool write);
bool disks_in_use(struct agent *agent, const char *sr, const char *name);
/* An operation has it. */
bool disks_operated(struct agent *agent, const char *sr, const char *name);
/* How many live domains have it, and the last of them. */
size_t disks_domain_of(struct agent *agent, const char *sr, const char *name,
                       char domain[static UUID_TEXT_SIZE]);
/* All disks of a configuration, or none. */
int disks_take_domain(struct agent *agent, const struct domain_config *config, struct hv_err *err);
void disks_release_domain(struct agent *agent, const struct domain_config *config);
/* What a job of storage has to tell of an operation and to hear from it. The op must outlive the job. */
struct op_job {
    struct agent *agent;
    struct agent_op *op;
    struct storage_job job;
};
void op_job_init(struct op_job *job, struct agent *agent, struct agent_op *op);
/* Opens what is behind a drive. */
int disks_open(struct agent *agent, const struct domain_disk *disk, struct disk_chain *chain,
               struct hv_err *err);
bool disks_sr_in_use(struct agent *agent, const char *sr);

/* ---- handlers_devices.c ---- */
/* Devices that are set aside go to guests, after a boot of the host. */
void devices_start(struct agent *agent);
/* The host's devices that the domain is to have are there and may be used. */
int devices_prepare(struct agent *agent, const struct domain_config *config, struct hv_err *err);
/* Their files become that user's (driver.h: hv_driver_env.give). */
int devices_give(const struct agent *agent, const struct domain_config *config, uid_t uid, gid_t gid,
                 struct hv_err *err);

/* ---- users.c ---- */
/* As whom guests' processes and tools run, into agent->env. */
void users_choose(struct agent *agent);

/* ---- handlers_domain.c ---- */
/* The driver's word that the guest has rebooted: an operation of the agent's own gives it another device
 * model. -1: not yet. */
int domain_reboot_later(struct agent *agent, const char *uuid);
/* What has to be free for it, on a real host. */
int domain_check_memory(struct agent *agent, const struct domain_config *config, struct hv_err *err);
/* One chain for each of its disks, or none. */
int domain_open_chains(struct agent *agent, const struct domain_config *config, struct disk_chain *chains,
                       struct hv_err *err);
/* Of a domain that was just started: what its disks may do. After a failure nothing of it is left. */
int domain_limit_disks(struct agent *agent, struct agent_op *op, const struct domain_config *config,
                       struct hv_err *err);
/* ---- handlers_live.c ---- */
/* Removes the new disks of a snapshot that did not come to its end. */
void domain_snapshot_drop(struct agent *agent, const struct hv_domain_snapshot_args *args);
/* Its result, when all new disks are there. */
int domain_snapshot_infos(struct agent *agent, const struct hv_domain_snapshot_args *args,
                          struct hv_domain_snapshot_result *result, struct hv_err *err);

/* EXISTS when it is live here. */
int domain_check_absent(struct agent *agent, const char *uuid, struct hv_err *err);

/* ---- facts.c, join.c ---- */
void facts_collect(const struct agent *agent, struct host_facts *facts);
int64_t facts_memory_free(void);
int64_t facts_memory_total(const struct agent *agent);
/* Once STATE/run is there. */
void facts_boot(struct agent *agent, struct host_facts *facts);
void facts_images(struct agent *agent, struct host_facts *facts);
int join_pool(struct agent *agent, struct hv_err *err);
/* True when STATE/pki has everything. */
bool join_done(struct agent *agent);
char *agent_path(const struct agent *agent, const char *name);

/* ---- handlers_network.c ---- */
/* A domain or a nic has gone: what was noted of its taps goes too, soon. */
void agent_sweep_rules(struct agent *agent);

/* ---- stats.c ---- */
/* The host's own numbers; `stats` is initialised. */
void host_numbers(const struct agent *agent, struct host_stats *stats);
