/* The watchdog of a host: a process of its own that outlives hostd. It holds the lease under which the host's
 * guests may run while high availability is on, and ends them when it is over.
 *
 * The lease is renewed in two ways, each for `lease_ms` from the moment given:
 *   - the host's slot of the heartbeat disk was written (the moment: when that write began), and the verdict
 *     about the host, read afterwards, does not name it as failed;
 *   - the pool's server has acknowledged a sign of life (the moment: when the agent had given that sign).
 * The guests are ended when the lease is over, when the verdict says that the host has failed, and when
 * hostd has not been heard of for `agent_ms`. From then on it is fenced: whatever device model appears is
 * ended, and the slot says FENCED once all are gone. Time is CLOCK_BOOTTIME: it goes on while the machine
 * sleeps.
 *
 * Storage may block for ever: the thread that waits for it is not the one that ends guests. */
#pragma once
#include "statefile.h"

#include <hv/err.h>

/* STATE/ha/config.json. */
struct watchdog_config {
    char generation[UUID_TEXT_SIZE];
    char *path; /* of the heartbeat disk */
    char (*hosts)[UUID_TEXT_SIZE];
    size_t host_count;
    size_t own; /* index of this host */
    int64_t interval_ms, lease_ms, agent_ms;
};
void watchdog_config_done(struct watchdog_config *config);
#define AUTO_WATCHDOG_CONFIG __attribute__((cleanup(watchdog_config_done)))
/* -1 with errno. */
int watchdog_config_write(const char *state_dir, const struct watchdog_config *config);
/* False: there is none that can be read. */
bool watchdog_config_read(const char *state_dir, struct watchdog_config *config);
void watchdog_config_remove(const char *state_dir);

struct watchdog_start {
    bool simulated; /* guests are hostd's own, which ends them itself */
    bool anew; /* the host was just armed: the lease begins now. Else this one takes the place of another */
    int64_t lease_until_ms; /* what is known of the other one's lease; 0: nothing, and it has two intervals
                               left */
};
/* The process: ends with code 0 when it was told to disarm or its folder is gone; returns 3 when another one
 * is at work for the same state folder, 1 when it cannot work. */
int watchdog_run(const char *state_dir, const struct watchdog_start *start);

/* ---- hostd's side ---- */

struct watchdog_status {
    char instance[UUID_TEXT_SIZE]; /* of the process: signs of life of another one count for nothing */
    int64_t now_ms;                /* CLOCK_BOOTTIME */
    int64_t lease_until_ms;
    int64_t written_ms; /* when the last write that came through began; 0: none did */
    int64_t read_ms;    /* when the last reading of all slots began; 0: none came through */
    int64_t pid;
    bool fenced, all_gone; /* all_gone: and no guest is left */
    char error[160];       /* of the last access; "": it was well */
    struct {
        uint64_t sequence;
        enum statefile_state state;
    } slots[STATEFILE_HOSTS_MAX]; /* as of read_ms */
};
enum watchdog_request {
    WATCHDOG_STATUS,
    WATCHDOG_RENEW,  /* `value`: the moment, CLOCK_BOOTTIME ms */
    WATCHDOG_GONE,   /* hostd has ended its simulated guests */
    WATCHDOG_DISARM, /* marks the slot OFF if storage lets it, and ends the process */
};
/* Each request is also hostd's own sign of life. -1: no watchdog answers within `timeout_ms`. */
int watchdog_ask(const char *state_dir, enum watchdog_request request, int64_t value, int64_t timeout_ms,
                 struct watchdog_status *status);
/* The guests were ended, and nobody has been told to arm the host again since. */
bool watchdog_was_fenced(const char *state_dir);
void watchdog_forget_fence(const char *state_dir);

int64_t watchdog_now_ms(void);
