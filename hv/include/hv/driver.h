/* The driver table: what the agent needs of a hypervisor. hv/qemu and hv/sim fill one each; nothing above
 * this table knows which it is.
 *
 * The agent runs operations on one domain one after another and on different domains in parallel, each on a
 * worker thread that may block; `destroy` may arrive while another operation on that domain waits, and makes
 * that one fail soon. Functions return 0, or -1 with *err set; out parameters are set only on success. */
#pragma once
#include <hv/domain.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/types.h>

struct hv_driver_state;

/* What a driver can do. The agent refuses the rest before trying, with a sentence. The words are those of
 * host_facts.capabilities. */
enum driver_capability {
    DRIVER_CAN_START = 1 << 0,         /* "start" */
    DRIVER_CAN_PAUSE = 1 << 1,         /* "pause" */
    DRIVER_CAN_UEFI = 1 << 2,          /* "uefi" */
    DRIVER_CAN_KERNEL = 1 << 3,        /* "kernel": direct kernel boot */
    DRIVER_CAN_VNC = 1 << 4,           /* "vnc" */
    DRIVER_CAN_SERIAL = 1 << 5,        /* "serial" */
    DRIVER_CAN_GUEST_AGENT = 1 << 6,   /* "guest_agent" */
    DRIVER_CAN_CD_CHANGE = 1 << 7,     /* "cd_change" */
    DRIVER_CAN_USER_NET = 1 << 8,      /* "user_net" */
    DRIVER_CAN_DISK_CLONE = 1 << 9,    /* "disk_clone": thin copies in an SR */
    DRIVER_CAN_SNAPSHOT = 1 << 10,     /* "snapshot": of a live domain's disks */
    DRIVER_CAN_CHECKPOINT = 1 << 11,   /* "checkpoint": with its memory */
    DRIVER_CAN_SUSPEND = 1 << 12,      /* "suspend": and resume */
    DRIVER_CAN_DISK_PLUG = 1 << 13,    /* "disk_plug" */
    DRIVER_CAN_NIC_PLUG = 1 << 14,     /* "nic_plug" */
    DRIVER_CAN_SET_VCPUS = 1 << 15,    /* "set_vcpus" */
    DRIVER_CAN_SET_MEMORY = 1 << 16,   /* "set_memory" */
    DRIVER_CAN_BRIDGE = 1 << 17,       /* "bridge": nics on bridges of the host */
    DRIVER_CAN_SECURE_BOOT = 1 << 18,  /* "secure_boot" */
    DRIVER_CAN_TPM = 1 << 19,          /* "tpm" */
    DRIVER_CAN_NESTED = 1 << 20,       /* "nested": guests that run guests */
    DRIVER_CAN_GUEST_KERNEL = 1 << 21, /* "guest_kernel": boot from the guest's own kernel */
    DRIVER_CAN_MIGRATE = 1 << 22,      /* "migrate": to and from other hosts while it runs */
    DRIVER_CAN_DISK_MOVE = 1 << 23,    /* "disk_move" */
    DRIVER_CAN_CPU_MASK = 1 << 24,     /* "cpu_mask": which processors a domain's own run on */
    DRIVER_CAN_CPU_WEIGHT = 1 << 25,   /* "cpu_weight": weight and cap */
    DRIVER_CAN_GUEST_DATA = 1 << 26,   /* "guest_data": data that domain and pool share */
};
/* The word of one capability bit; NULL: no such bit. */
const char *driver_capability_name(unsigned bit);

/* One opened disk image: `nodes[0]` is what the guest writes, each next one its backing image. */
struct disk_node {
    int fd; /* opened read-write or read-only as needed; -1 with the simulator's in-memory disks */
    enum image_format format;
    bool read_only;
};
struct disk_chain {
    struct disk_node *nodes; /* heap */
    size_t count;            /* 0: an empty drive */
};
#define DISK_CHAIN_INIT ((struct disk_chain){0})
/* Closes the descriptors; the chain is empty afterwards. */
void disk_chain_done(struct disk_chain *chain);

enum console_kind { CONSOLE_SERIAL, CONSOLE_VNC };

/* What the agent gives a driver. Borrowed for the driver's life. */
struct hv_driver_env {
    const char *state_dir;   /* the driver keeps its things under run/ here */
    int images_fd;           /* folder of kernels and ramdisks, O_PATH; -1: none */
    const char *launcher;    /* path of corral-launch; qemu only */
    const char *qemu_binary; /* path of qemu-system-x86_64 */
    const char *ovmf_code, *ovmf_vars;
    const char *ovmf_secure_code, *ovmf_secure_vars; /* code that checks signatures, and shipped keys */
    const char *swtpm;                               /* path of swtpm; NULL: none */
    /* As whom processes of domains run when the agent is root: each domain's as a user of its own out of
     * GUEST_USERS from guest_first_uid on, its group the same number; when that is 0, all as guest_uid. */
    uid_t guest_first_uid, guest_uid;
    gid_t guest_gid;
    int64_t sim_boot_ms;  /* simulator: how long a guest takes to boot; 0: a default */
    const char *cgroup;   /* mount point of cgroup v2; NULL: none */
    int64_t min_uptime_s; /* a guest that ends sooner after its boot is not started again; 0: always is */
    /* Called on a driver thread, never with a driver lock held: this domain is as `info` says since now.
     * `guest_only`: nothing but info->guest is new. */
    void (*changed)(void *ctx, const struct domain_info *info, bool guest_only);
    /* Gives the user of a domain that is about to start those files of the host that its device model opens
     * itself: devices that are passed through. NULL: there are none. */
    int (*give)(void *ctx, const struct domain_config *config, uid_t uid, gid_t gid, struct hv_err *err);
    /* The guest of this domain has rebooted, and `anew` is to be called for it, when nothing else is done to
     * the domain. Loop thread. -1: not now; it is told again in a moment. NULL: nobody would. */
    int (*rebooted)(void *ctx, const char *uuid);
    /* Opens the disks of a domain, one chain for each, or none (`anew`). */
    int (*open_disks)(void *ctx, const struct domain_config *config, struct disk_chain *chains,
                      struct hv_err *err);
    void *ctx;
};
/* More than a host can run, so that a number is not soon used again. */
#define GUEST_USERS 65536

/* A running operation, seen from the driver: when to give up. Any thread. */
struct hv_deadline {
    int64_t mono_ms;               /* clock_mono_ms() at which to stop waiting */
    const _Atomic bool *cancelled; /* NULL: cannot be cancelled */
};

/* A new top of one disk of a live domain: what the domain writes from now on goes there. */
struct hv_layer {
    const char *sr, *disk; /* the disk as in the domain's configuration */
    int fd;         /* an empty qcow2 image, open for writing, borrowed; -1: storage made a copy and the
                     * driver has only to keep the domain still (simulator) */
    char token[24]; /* a name for the image that no other has */
};

/* Two images of a disk of a live domain, of which the upper is written into the lower. Counted from the image
 * that the guest writes, 0. */
struct hv_merge {
    const char *sr, *disk;  /* the disk as in the domain's configuration */
    size_t upper, count;    /* the lower is upper + 1; `count`: all images of the disk */
    int lower_fd, above_fd; /* for writing, borrowed: the lower, and the one on the upper */
    const char *name;       /* of the upper's file, by which the one on it knows what it stands on */
    void (*progress)(void *ctx, double fraction); /* on the calling thread */
    void *ctx;
};

/* The file that memory and devices are saved into or read from: a raw disk, beginning with a header
 * (hv/io/savefile.h). */
struct hv_save {
    int fd; /* borrowed; its file position is the driver's */
    int64_t size_bytes;
    void (*progress)(void *ctx, double fraction); /* on the calling thread; NULL: not wanted */
    void *ctx;
};
/* How large the disk for a domain's state must be. */
int64_t hv_save_size(const struct domain_config *config);

struct save_header;

/* What became of a domain that was offered to another host. */
enum hv_offer { HV_OFFER_TAKEN, HV_OFFER_REFUSED, HV_OFFER_UNKNOWN };

/* A domain on its way to another host: what the agent does for the driver. All are called on the thread that
 * called `send`. */
struct hv_send {
    const char *const *mirror; /* devices whose disks go along */
    size_t mirror_count;
    const struct disk_chain
        *chains;      /* of those disks, for reading (simulator); NULL: the device model has them */
    const char *peer; /* the offer in the agent's words (JSON), kept in the domain's record while it stands */
    /* Carries bytes both ways between `fd` (a stream socket, moves, also on failure) and what stands for that
     * disk in the other device model; device NULL: the guest's memory. */
    int (*carry)(void *ctx, const char *device, int fd, struct hv_err *err);
    /* The guest stands still and all of it is there; the record says that it is offered. Lets the other host
     * take over. REFUSED: it does not run there and never will. UNKNOWN: it may; *err says more. */
    enum hv_offer (*hand_over)(void *ctx, struct hv_err *err);
    void (*progress)(void *ctx, double fraction);
    void *ctx;
};

struct hv_sent {
    int64_t stopped_us;  /* from the guest's last instruction here until the other side said that it runs */
    int64_t downtime_us; /* what the device model calls its downtime */
};

/* What domain_data_set asks. */
struct hv_data_change {
    bool replace;
    const struct str_map *set;
    const char *const *remove;
    size_t remove_count;
};

struct hv_driver {
    const char *name; /* "qemu" */

    /* Fills driver, accelerator, accelerator_reason, qemu_version, guest_uid, guest_isolation,
     * capabilities. Does not need `open`. */
    int (*probe)(const struct hv_driver_env *env, struct host_facts *facts, struct hv_err *err);

    /* Opens the driver and adopts every domain that still runs before it returns; domains that ended in
     * the meantime are listed as gone with the reason; leftovers of starts that never finished are removed.
     */
    int (*open)(const struct hv_driver_env *env, struct hv_driver_state **state, struct hv_err *err);
    /* Lets go of everything; domains run on. */
    void (*close)(struct hv_driver_state *state);
    /* Bits of enum driver_capability. */
    unsigned (*capabilities)(const struct hv_driver_state *state);
    /* What this driver refuses about a checked configuration, before anything is opened. */
    int (*check)(const struct hv_driver_state *state, const struct domain_config *config, struct hv_err *err);

    /* `chains[i]` belongs to config->disks[i] and moves to the driver, also on failure. Returns when the
     * guest executes (or stands paused). After a failure nothing of it is left. */
    int (*start)(struct hv_driver_state *state, const struct domain_config *config, struct disk_chain *chains,
                 const struct hv_deadline *deadline, struct domain_info *info, struct hv_err *err);
    int (*pause)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                 struct hv_err *err);
    int (*unpause)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                   struct hv_err *err);
    /* A signal to a running domain; `key`, a small letter or a digit, with sysrq. */
    int (*trigger)(struct hv_driver_state *state, const char *uuid, enum domain_signal signal, char key,
                   const struct hv_deadline *deadline, struct hv_err *err);
    /* Asks the guest; waits until it is off and everything of it is released. */
    int (*shutdown)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                    struct hv_err *err);
    /* Asks the guest; waits for the reset. */
    int (*reboot)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                  struct hv_err *err);
    /* Ends it now. On return its process is reaped, its disks released and its record dropped. */
    int (*destroy)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                   struct hv_err *err);
    int (*reset)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                 struct hv_err *err);
    /* After env.rebooted: gives the domain another device model that boots what the disks say now. Success
     * when it has one. After a failure the domain is gone, with the reason. NULL: guests reboot by
     * themselves. */
    int (*anew)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                struct hv_err *err);
    /* Drops the record of a domain that is gone. */
    int (*forget)(struct hv_driver_state *state, const char *uuid, struct hv_err *err);
    /* The same, and what is kept between runs (UEFI variables). */
    int (*purge)(struct hv_driver_state *state, const char *uuid, struct hv_err *err);

    /* All domains, in order of domid. *infos is a heap array of initialised structs that the caller
     * finishes (domain_info_done) and frees. */
    int (*list)(struct hv_driver_state *state, struct domain_info **infos, size_t *count, struct hv_err *err);
    int (*info)(struct hv_driver_state *state, const char *uuid, struct domain_info *info,
                struct hv_err *err);
    /* What a live domain was started with, media, devices and processors changed since included: which disks
     * are in use. */
    int (*config)(struct hv_driver_state *state, const char *uuid, struct domain_config *config,
                  struct hv_err *err);
    int (*stats)(struct hv_driver_state *state, const char *uuid, struct domain_stats *stats,
                 struct hv_err *err);
    int (*guest_refresh)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                         struct guest_info *guest, struct hv_err *err);

    /* Changes the medium of the CD drive `drive->device`; source empty ejects. The chain moves to the driver.
     */
    int (*cd_change)(struct hv_driver_state *state, const char *uuid, const struct domain_disk *drive,
                     struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err);

    /* ---- Changes of a live domain. Repeated with the same arguments they are done. ---- */

    /* Puts all layers on their disks at one instant, and with `memory` saves that instant into it; the domain
     * goes on. *applied tells also after a failure whether the layers are (or may be) in use: it must be true
     * then that what was below them is not written any more. */
    int (*snapshot)(struct hv_driver_state *state, const char *uuid, const struct hv_layer *layers,
                    size_t count, const struct hv_save *memory, const struct hv_deadline *deadline,
                    bool *applied, int64_t *state_bytes, struct hv_err *err);
    /* Saves the domain and ends it; its record is dropped. After a failure it goes on as before. */
    int (*suspend)(struct hv_driver_state *state, const char *uuid, const struct hv_save *to,
                   const struct hv_deadline *deadline, int64_t *state_bytes, struct hv_err *err);
    /* As `start`, from what was saved: `config` is header->config with the sources to use now. FORMAT: this
     * driver cannot read it. */
    int (*resume)(struct hv_driver_state *state, const struct domain_config *config,
                  const struct save_header *header, const struct hv_save *from, struct disk_chain *chains,
                  const struct hv_deadline *deadline, struct domain_info *info, struct hv_err *err);
    /* Writes one image into the one below it, while the guest runs; then the domain stands on the lower
     * alone. BAD_STATE: its images are not those. After a failure or a cancellation all is as before. Nothing
     * else is done to the domain meanwhile. NULL: this driver's disks have no images. */
    int (*disk_merge)(struct hv_driver_state *state, const char *uuid, const struct hv_merge *merge,
                      const struct hv_deadline *deadline, struct hv_err *err);
    /* Ends a merge that an agent before this one began. */
    void (*disk_merge_end)(struct hv_driver_state *state, const char *uuid);
    /* The chain moves to the driver. */
    int (*disk_plug)(struct hv_driver_state *state, const char *uuid, const struct domain_disk *disk,
                     struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err);
    /* What the disk may do in a second from now on; 0: no limit. */
    int (*disk_limit)(struct hv_driver_state *state, const char *uuid, const char *device, int64_t max_iops,
                      int64_t max_kbytes, const struct hv_deadline *deadline, struct hv_err *err);
    /* On return the device model has let go of the disk's files. */
    int (*disk_unplug)(struct hv_driver_state *state, const char *uuid, const char *device, bool force,
                       const struct hv_deadline *deadline, struct hv_err *err);
    int (*nic_plug)(struct hv_driver_state *state, const char *uuid, const struct domain_nic *nic,
                    const struct hv_deadline *deadline, struct hv_err *err);
    int (*nic_unplug)(struct hv_driver_state *state, const char *uuid, int64_t index, bool force,
                      const struct hv_deadline *deadline, struct hv_err *err);
    /* The card with that index and MAC, of the same kind of network: on this bridge, with these rules. */
    /* Success when the domain does not have it. */
    int (*usb_unplug)(struct hv_driver_state *state, const char *uuid, const char *path,
                      const struct hv_deadline *deadline, struct hv_err *err);
    int (*nic_update)(struct hv_driver_state *state, const char *uuid, const struct domain_nic *nic,
                      const struct hv_deadline *deadline, struct hv_err *err);
    int (*set_vcpus)(struct hv_driver_state *state, const char *uuid, int64_t vcpus,
                     const struct hv_deadline *deadline, struct hv_err *err);
    int (*set_memory)(struct hv_driver_state *state, const char *uuid, int64_t memory_bytes,
                      const struct hv_deadline *deadline, struct hv_err *err);
    /* Weight, cap and mask are those of `wanted`. */
    int (*set_scheduling)(struct hv_driver_state *state, const char *uuid, const struct domain_config *wanted,
                          const struct hv_deadline *deadline, struct hv_err *err);

    /* ---- Going to another host. One that sends writes down that it offers the guest before the other may
     * run it, and from then on lets it run no more unless it was refused; so at most one of the two runs it.
     * ---- */

    /* What the other side has to know, in the form of a saved domain's header; initialised on success. */
    int (*describe)(struct hv_driver_state *state, const char *uuid, struct save_header *header,
                    struct hv_err *err);
    /* 0: it runs there and is gone here (end_reason migrated, moved_to `to`). -1 and *offer UNKNOWN: it
     * stands still, and `settle` has to be called once it is known; else it goes on as before. */
    int (*send)(struct hv_driver_state *state, const char *uuid, const char *to, const struct hv_send *send,
                const struct hv_deadline *deadline, enum hv_offer *offer, struct hv_sent *sent,
                struct hv_err *err);
    /* The peer of a domain that is offered: an rc string; NULL: it is not. */
    const char *(*offered)(struct hv_driver_state *state, const char *uuid);
    int (*settle)(struct hv_driver_state *state, const char *uuid, const char *to, bool taken,
                  struct hv_err *err);

    /* The other side: as `resume` up to the point where the state is read. The domain is not listed until it
     * runs. Chains move. */
    int (*receive)(struct hv_driver_state *state, const struct domain_config *config,
                   const struct save_header *header, const char *const *mirror, size_t mirror_count,
                   struct disk_chain *chains, const struct hv_deadline *deadline, struct hv_err *err);
    /* A stream socket to what stands for a mirrored disk; the caller's. */
    int (*receive_disk)(struct hv_driver_state *state, const char *uuid, const char *device, int *fd,
                        struct hv_err *err);
    /* Fills it from `fd` (borrowed). Then all is here, and it stands still. */
    int (*receive_memory)(struct hv_driver_state *state, const char *uuid, int fd,
                          const struct hv_deadline *deadline, struct hv_err *err);
    /* It is ours: runs it (unless it was paused) and lists it. `runs` is called once, as soon as that is
     * certain and the guest goes on. After a failure it is as after receive_drop. */
    int (*receive_run)(struct hv_driver_state *state, const char *uuid, void (*runs)(void *ctx), void *ctx,
                       struct domain_info *info, struct hv_err *err);
    void (*receive_drop)(struct hv_driver_state *state, const char *uuid);

    /* Copies the disk of `device` into `chain` (moves) while the guest uses it, and changes over; the
     * domain's configuration says `now` then. */
    int (*disk_move)(struct hv_driver_state *state, const char *uuid, const struct domain_disk *now,
                     struct disk_chain *chain, const struct disk_chain *from,
                     void (*progress)(void *ctx, double fraction), void *ctx,
                     const struct hv_deadline *deadline, struct hv_err *err);

    /* Freezes the guest's file systems. *frozen is false when its agent does not answer or cannot; the caller
     * calls `thaw` in any case, which also happens by itself after a while, or when the agent died. */
    int (*freeze)(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                  bool *frozen, struct hv_err *err);
    /* Waits a moment for it. True: they were frozen until now. */
    bool (*thaw)(struct hv_driver_state *state, const char *uuid);
    /* The data that a live domain and the pool share (hv/domain.h). *data has a count for the caller. */
    int (*data)(struct hv_driver_state *state, const char *uuid, const struct str_map **data,
                int64_t *version, struct hv_err *err);
    int (*data_set)(struct hv_driver_state *state, const char *uuid, const struct hv_data_change *change,
                    struct hv_err *err);

    /* A new stream socket to one console, owned by the caller; many may be open at once. Serial: the
     * scroll-back comes first. VNC: a fresh RFB session. A viewer that does not read is dropped. */
    int (*console_open)(struct hv_driver_state *state, const char *uuid, enum console_kind kind, int *fd,
                        struct hv_err *err);
};

extern const struct hv_driver hv_qemu_driver;
extern const struct hv_driver hv_sim_driver;
