/* What a VM's firmware finds again at its next start: UEFI variables (NVRAM:EFI-variables) and the contents
 * of its TPM. The rows have both between runs. They are given to the host before a domain starts, taken from
 * it as they change (the host's events say so) and once more when the domain is over. */
#pragma once
#include <db/store.h>
#include <hv/client.h>
#include <model/error.h>
#include <model/rows.h>

struct server;

bool vm_keeps(const struct vm_row *vm);
/* Nothing for a VM that keeps nothing. On the way to a start or resume, with the operation marked. */
int vm_kept_give(const struct snapshot *snap, struct hv_host *agent, const struct vm_row *vm,
                 struct api_err *err);
/* Into the rows, if it differs. `seen`: only while the row is this version, unless null (whoever calls has
 * the VM's operation marked). A host that does not answer is logged; false then, and when the row was
 * another. */
bool vm_kept_take(struct server *server, struct hv_host *agent, struct ref vm, const struct vm_row *seen);
/* The same for a domain that is over: then the host is told to keep nothing. */
void vm_kept_take_last(struct server *server, struct hv_host *agent, struct ref vm,
                       const struct vm_row *seen);
/* After a start that failed: what was given is removed again. */
void vm_kept_drop(struct hv_host *agent, const struct vm_row *vm);

/* ---- VTPMs of VMs: within a transaction ---- */

/* A TPM for the VM, with the contents in base64. */
struct vtpm_row *vtpm_add(struct tx *tx, struct ref vm, bool is_unique, const char *contents);
/* INVALID_VALUE unless it is base64 of what a TPM may hold; "" is. */
int vtpm_check_contents(const char *contents, struct api_err *err);
/* With its contents. */
void vtpm_delete(struct tx *tx, struct ref vtpm);
void vtpm_delete_all(struct tx *tx, const struct vm_row *vm);
/* The TPMs of `source` again for `vm`. Those that are unique come empty, unless `same`: the same VM in
 * another life (a snapshot, or back from one). */
void vtpm_copy_all(struct tx *tx, const struct vm_row *source, struct ref vm, bool same);
