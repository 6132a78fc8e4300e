/* Storage as the handlers of SR, PBD, VDI and VBD share it, and what the rest of the server asks of it.
 *
 * Who is where: sm.c (kinds of SR), sr.c and sr_scan.c (repositories), pbd.c (their links to hosts), vdi.c
 * (disks), vbd.c (links to VMs), storage.c (what they share). A disk of a `file` SR is known to the agent by
 * its uuid, which is also VDI.location; one of an `iso` SR by its file name, which is VDI.location.
 *
 * Intent and truth of a PBD: `attach_wanted` (internal) says that it was plugged by somebody, survives
 * everything but PBD.unplug, and makes the server attach it whenever the host connects; `currently_attached`
 * says that it is. */
#pragma once
#include "../server.h"
#include <hv/client.h>

/* ---- for the rest of the server ---- */

/* Makes the rows of SM that are missing. On first start, and harmless later. */
void storage_bootstrap(struct tx *tx);
/* The host has joined: it gets a PBD for every shared SR. In the transaction that makes its row. */
void storage_host_joined(struct tx *tx, struct ref host);
/* The agent of this host answers (again): attaches every PBD that is wanted there and takes over sizes.
 * Blocks. */
void storage_host_connected(struct server *server, struct ref host, struct hv_host *agent);
/* The VM's guest rebooted: disks that it has by its rows and not by its domain are plugged in now. Returns at
 * once. */
void vbd_plug_rebooted(struct server *server, struct ref vm);
/* VM.get_allowed_VBD_devices: free device numbers as text, lowest first. A list of its own count. */
const struct str_set *storage_allowed_vbd_devices(const struct snapshot *snap, const struct vm_row *vm);

/* ---- agents ---- */

/* An agent of a host that has the SR attached, while it is used. */
struct storage_agent {
    struct server *server;
    struct ref host;
    struct hv_host *agent; /* NULL: none */
};
#define STORAGE_AGENT_NONE ((struct storage_agent){0})
void storage_agent_put(struct storage_agent *agent);
#define AUTO_STORAGE_AGENT __attribute__((cleanup(storage_agent_put)))
/* Some host has both attached. */
bool storage_seen_together(const struct snapshot *snap, struct ref a, struct ref b);
bool storage_host_is_live(const struct snapshot *snap, struct ref host);
/* An agent that sees the SR, and also `and_sr` unless that is null. SR_HAS_NO_PBDS, or HOST_OFFLINE when no
 * host that has it attached answers. */
int storage_agent_get(struct server *server, const struct snapshot *snap, struct ref sr, struct ref and_sr,
                      struct storage_agent *out, struct api_err *err);

/* The same for who only wants to know. */
int storage_check_reached(struct server *server, const struct snapshot *snap, struct ref sr,
                          struct ref and_sr, struct api_err *err);

/* ---- errors ---- */

/* What an agent said, as an error of the API: `vdi` null when none is concerned, `operation` for VDI_IN_USE.
 * -1. */
int storage_fail(struct api_err *err, struct ref host, struct ref sr, struct ref vdi, const char *operation,
                 const struct hv_err *cause);
/* Errors of back ends by the numbers that clients know. */
enum backend_failure {
    BACKEND_FAILURE,              /* without a number */
    BACKEND_FAILURE_IN_USE,       /* 16: the SR is in use */
    BACKEND_FAILURE_NO_SPACE,     /* 44: there is insufficient space */
    BACKEND_FAILURE_VDI_AWAY,     /* 46: the VDI is not available */
    BACKEND_FAILURE_SR_AWAY,      /* 47: the SR is not available */
    BACKEND_FAILURE_INVALID_SIZE, /* 79: VDI invalid size */
    BACKEND_FAILURE_TOO_DEEP,     /* 109: the snapshot chain is too long */
    BACKEND_FAILURE_UNRELATED,    /* 460: changed blocks cannot be told */
};
/* SR_BACKEND_FAILURE_<number> ["", text, ""]. -1. */
int storage_fail_backend(struct api_err *err, enum backend_failure failure, const char *text);

/* ---- steps that several handlers take ---- */

/* Attaches the SR on a host. *stats on success. */
int storage_attach(struct hv_host *agent, const struct hv_op *op, const char *sr_uuid, const char *type,
                   const struct str_map *config, struct sr_stats *stats, struct hv_err *cause);
/* Undoes an attach after a later step failed; a failure is logged. */
void storage_detach_quietly(struct hv_host *agent, const char *sr_uuid);
/* Space of an SR from the agent into its row, in the transaction. */
void storage_apply_stats(struct tx *tx, struct ref sr, const struct sr_stats *stats);
/* What the agent says of a disk (or, with `disk` "", of the file `iso`): release *info. */
int storage_read_info(const struct storage_agent *at, const struct sr_row *sr, const char *disk,
                      const char *iso, struct disk_info *info, struct hv_err *cause);
/* Asks for the space now. False (logged): the row keeps what it has. */
bool storage_read_stats(struct hv_host *agent, const char *sr_uuid, struct sr_stats *stats);
/* Compares the rows of an SR with what is on it: sr_scan.c. Blocks. */
int storage_scan(struct server *server, const struct storage_agent *at, struct ref sr, const struct hv_op *op,
                 struct api_err *err);

/* ---- disks on their way ---- */

/* Notes that an agent will be asked for a new disk, so that it is not forgotten whatever happens. */
int storage_announce_disk(struct server *server, struct ref sr, const char *uuid, struct api_err *err);
/* Its row is there, or it certainly is not. */
void storage_settle_disk(struct tx *tx, struct ref sr, const char *uuid);
/* What a call that failed has left of a disk. */
enum disk_left {
    DISK_NONE,
    DISK_MADE,  /* it is removed now, or if that fails by a later sweep */
    DISK_MAYBE, /* the host fell silent and may still make it: a sweep, now or later, asks all hosts */
};
void storage_undo_disk(const struct storage_agent *at, const struct sr_row *sr, const char *uuid,
                       enum disk_left left);
/* A stream to or from the agent broke off: its operation is cancelled, and has ended (or the agent is silent)
 * when this returns, so that the disk is nobody's. Blocks. */
void storage_end_operation(struct hv_host *agent, const char *id);
/* Drops the row of a VDI and notes that its disk goes: with the next storage_sweep of its SR, or whenever
 * that is attached again. */
void storage_discard_vdi(struct tx *tx, struct ref vdi);
/* storage_sweep_disks by any host that has the SR attached, and the space that is free then. Blocks. */
void storage_sweep(struct server *server, struct ref sr);
/* Destroys a VDI that no VBD refers to, with its disk. 0: it is gone, or in use. -1: not possible now. */
int storage_destroy_unused(struct server *server, const struct snapshot *snap, struct ref vdi);
/* Removes disks that nobody waits for: of an earlier run of the server, or that could not be undone. Later if
 * a host that has the SR attached is away: it may have been asked to make one of them. */
void storage_sweep_disks(struct server *server, struct ref sr, struct hv_host *agent);

/* storage_sweep of those SRs that the host has attached and that have such disks. */
void storage_sweep_host(struct server *server, struct ref host);

/* ---- rows ---- */

/* There is an SM of this type. */
bool storage_kind_known(const struct snapshot *snap, const char *type);
bool storage_sr_is_iso(const struct sr_row *sr);
/* The file or uuid by which agents know the disk, in the form of their arguments: one is "". Borrowed. */
void storage_disk_name(const struct sr_row *sr, const struct vdi_row *vdi, const char **disk,
                       const char **iso);
/* Some VBD of it is attached. */
bool storage_vdi_attached(struct tx *tx, const struct vdi_row *vdi);
/* Some VBD of it is attached and may write. */
bool storage_vdi_written(struct tx *tx, const struct vdi_row *vdi);
/* A new VDI row for a disk that exists, with the SR's virtual_allocation put right. Attributes of people
 * (names, maps, tags) come from `like` unless NULL. */
struct vdi_row *storage_add_vdi(struct tx *tx, struct ref sr, const char *uuid, const struct disk_info *info,
                                const struct vdi_row *like);
/* Removes a VDI's row: its CD drives become empty, its other VBDs go. */
void storage_remove_vdi(struct tx *tx, struct ref vdi);
/* Size of a VDI as the agent says, with the SR's virtual_allocation. */
void storage_update_vdi(struct tx *tx, struct ref vdi, const struct disk_info *info);
