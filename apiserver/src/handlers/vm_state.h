/* What a change of a VM's power state means for its rows. Within a transaction; idempotent. */
#pragma once
#include <db/store.h>
#include <hv/domain.h>
#include <model/rows.h>

/* The VM runs (or stands paused) on `host`: residence, domid, metrics, attached devices, consoles. */
void vm_state_running(struct tx *tx, struct ref vm, struct ref host, const struct domain_info *info);
/* It has gone on running on another host: residence, domid, consoles; it was not started anew. */
void vm_state_moved(struct tx *tx, struct ref vm, struct ref host, const struct domain_info *info);
/* Memory and processors that its domain has now, into its VM_metrics; whether they are there already. */
bool vm_state_has_numbers(const struct vm_metrics_row *metrics, const struct domain_info *info);
void vm_state_numbers(struct tx *tx, struct ref vm, const struct domain_info *info);
/* Running or Paused, with nothing else changed. */
void vm_state_paused(struct tx *tx, struct ref vm, bool paused);
/* Its memory is in suspend_VDI; no host has it, its devices stay attached. */
void vm_state_suspended(struct tx *tx, struct ref vm);
/* The row goes with all that is the VM's alone; its disks stay. */
void vm_delete(struct tx *tx, struct ref vm);
/* Nothing of it runs any more; a disk with its memory is discarded. */
void vm_state_halted(struct tx *tx, struct ref vm);
/* Somebody has ended or suspended it on purpose: high availability does not start it again. */
void vm_state_unwanted(struct tx *tx, struct ref vm);
/* What the guest says of itself, into its VM_guest_metrics; nothing is touched when that is known already. */
void vm_state_guest(struct tx *tx, struct ref vm, const struct guest_info *guest);
/* Whether the guest is seen to use virtio devices; that stays true while it runs, also without an agent. */
void vm_state_drivers(struct tx *tx, struct ref vm, bool virtio);
