/* What VMs cost their host beyond their own memory. Pure but for overhead_refresh. */
#pragma once
#include <db/store.h>
#include <model/rows.h>

/* Bytes, by what the VM is made of; 0 for a control domain. */
int64_t overhead_of(const struct vm_row *vm);
/* Keeps VM.memory_overhead right: for tx_each_touched. */
void overhead_refresh(struct tx *tx, const struct class_desc *cls, struct ref ref, void *arg);
/* The same for all VMs of a store, which another version may have written. */
void overhead_refresh_all(struct tx *tx);
