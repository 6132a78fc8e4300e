/* The folder of one running domain, STATE/run/<uuid>/, and the record of one that ended by itself,
 * STATE/ended/<uuid>.json. All of it belongs to the agent; the device model reaches none of it by path. */
#pragma once
#include <hv/domain.h>
#include <jansson.h>
#include <sys/types.h>

struct rundir {
    int fd; /* of the folder; -1: not open */
};
#define RUNDIR_INIT ((struct rundir){.fd = -1})

/* What config.json says. */
struct rundir_record {
    struct domain_config config;
    int64_t domid, start_time, boot_time, reboots;
    int64_t uid;      /* user and group of its processes, its own; 0: they have those that all share */
    char boot_id[40]; /* of the host's kernel when it was started */
    int64_t memory_target_bytes; /* 0: never asked for */
    bool held;                   /* the agent stopped it for a moment: whoever finds it so lets it run on */
    bool incoming;               /* being resumed: no guest code has run yet */
    bool frozen;                 /* the guest's file systems are, or may be: whoever finds it so thaws them */
    int64_t data_version;        /* of config.data; 0: as it was started */
    int64_t anew; /* number of the process that another one is to take the place of, since its guest rebooted;
                   * 0: none */
    bool tells_off;    /* its qemu.log says when the guest powers off */
    const char *offer; /* rc string: another host may run it now (driver.h: hv_send.peer); NULL: none may */
    json_t *layout;    /* where its devices are, in the driver's words; NULL: none */
};
void rundir_record_done(struct rundir_record *record);

/* The process as the launcher wrote it down. */
struct rundir_pid {
    pid_t pid;
    unsigned long long start_ticks;
};

/* STATE/run, STATE/ended, STATE/nvram. */
int rundir_prepare(const char *state_dir, struct hv_err *err);
/* Makes the folder, which must not be there. */
int rundir_create(const char *state_dir, const char *uuid, struct rundir *dir, struct hv_err *err);
/* -1 with errno. */
int rundir_open(const char *state_dir, const char *uuid, struct rundir *dir);
void rundir_close(struct rundir *dir);
/* Removes what belongs to a process: all but the record and what the serial port has said. */
void rundir_clear(const struct rundir *dir);
/* Closes it and removes it with all that is in it. */
void rundir_remove(const char *state_dir, const char *uuid, struct rundir *dir);

int rundir_write_record(const struct rundir *dir, const struct rundir_record *record, struct hv_err *err);
/* -1: there is none that can be read. */
int rundir_read_record(const struct rundir *dir, struct rundir_record *record);
int rundir_read_pid(const struct rundir *dir, struct rundir_pid *pid);
int rundir_read_pid_file(const struct rundir *dir, const char *name, struct rundir_pid *pid);

/* A listening stream socket at that name; close-on-exec. -1: err. */
int rundir_listen(const struct rundir *dir, const char *name, struct hv_err *err);
/* Connects to it. -1 with errno. */
int rundir_connect(const struct rundir *dir, const char *name);
/* A file for appending, made when missing, mode 0600. -1 with errno. */
int rundir_log(const struct rundir *dir, const char *name);
/* The last `max` bytes of a file; empty when there is none. The caller frees. */
char *rundir_tail(const struct rundir *dir, const char *name, size_t max, size_t *len);

/* Shortens a log that others append to: when it is longer than `max`, only its last `keep` bytes stay. */
void rundir_trim(const struct rundir *dir, const char *name, size_t max, size_t keep);

/* Records of domains that ended by themselves. */
int ended_write(const char *state_dir, const struct domain_info *info);
int ended_read(const char *state_dir, const char *file_name, struct domain_info *info);
void ended_remove(const char *state_dir, const char *uuid);

/* Start time of a live process in clock ticks since boot, field 22 of its stat; 0: no such process. */
unsigned long long process_start_ticks(pid_t pid);
/* The kernel's random boot id. */
void host_boot_id(char out[static 40]);
