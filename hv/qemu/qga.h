/* The guest's agent behind the port org.qemu.guest_agent.0 (qemu-guest-agent's protocol: JSON lines,
 * guest-sync-delimited). What a guest says is bounded in size and rate, cleaned, and never trusted. All
 * functions and callbacks: loop thread. */
#pragma once
#include <hv/domain.h>
#include <io/loop.h>

#define QGA_LINE_MAX (64 * 1024)
#define QGA_ROUND_MAX (256 * 1024) /* bytes in one round of questions */

struct qga;

struct qga_callbacks {
    /* What it said is known anew; `changed` tells whether anything but the time is different. */
    void (*info)(void *arg, const struct guest_info *info, bool changed);
    /* The channel broke or was cut off for bad manners: connect anew and call qga_connected. */
    void (*lost)(void *arg);
    /* The guest refused or ignored the last qga_request. */
    void (*refused)(void *arg);
    /* Its file systems are frozen since now; or (false) are not, which also ends a freeze that was asked for.
     */
    void (*frozen)(void *arg, bool frozen);
    void *arg;
};

/* `config` (borrowed for its life) says which MAC is which nic. */
struct qga *qga_new(struct loop *loop, const struct domain_config *config,
                    const struct qga_callbacks *callbacks);
/* NULL is allowed. */
void qga_free(struct qga *qga);
/* Takes over a connected socket. */
void qga_connected(struct qga *qga, int fd);
bool qga_is_connected(const struct qga *qga);
/* The guest opened or closed the port: nothing is asked while it is closed. */
void qga_port(struct qga *qga, bool open);
/* Asks all questions now instead of at the next turn; `info` follows in any case. */
void qga_refresh(struct qga *qga);
/* Sends guest-shutdown of that mode ("powerdown", "reboot") as the next command, as soon as the agent has
 * answered something; success has no reply. False: the guest has the port closed. */
bool qga_request_shutdown(struct qga *qga, const char *mode);

/* ---- file systems that stand still ----
 * From qga_freeze on until `frozen(false)` the guest may be frozen; nothing else is asked of it meanwhile. It
 * is thawed by qga_thaw, or by itself QGA_FROZEN_MS after it froze; a thaw is repeated until the guest has
 * confirmed it or has closed the port (it rebooted). */
#define QGA_FROZEN_MS 6000
/* False: the agent does not answer at present. Else `frozen` follows. */
bool qga_freeze(struct qga *qga);
/* Also for one that an agent before this one froze. `frozen(false)` follows, at once if it is known. */
void qga_thaw(struct qga *qga);

/* Fills what one reply's "return" says; parts that are missing or odd are left out. Exposed for tests. */
void qga_read_osinfo(const json_t *reply, struct guest_info *info);
void qga_read_filesystems(const json_t *reply, struct guest_info *info);
void qga_read_interfaces(const json_t *reply, const struct domain_config *config, struct guest_info *info);
