/* Giving and taking what a VM's firmware keeps (vm_kept.h). */
#include "vm_kept.h"

#include "../hosts/hosts.h"
#include "../server.h"
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <model/errors.h>

#define VARIABLES "EFI-variables"

static bool uses_uefi(const struct vm_row *vm)
{
    const char *firmware = str_map_get(vm->HVM_boot_params, "firmware");
    return firmware && streq(firmware, "uefi") && !*vm->PV_kernel && !*vm->PV_bootloader;
}

bool vm_keeps(const struct vm_row *vm)
{
    return uses_uefi(vm) || (vm->VTPMs && vm->VTPMs->count);
}

static const struct secret_row *contents_of(const struct snapshot *snap, const struct vm_row *vm)
{
    const struct vtpm_row *tpm =
        vm->VTPMs && vm->VTPMs->count ? vtpm_row(snapshot_get(snap, CLASS_VTPM, vm->VTPMs->items[0])) : NULL;
    return tpm ? secret_row(snapshot_get(snap, CLASS_secret, tpm->contents)) : NULL;
}

int vm_kept_give(const struct snapshot *snap, struct hv_host *agent, const struct vm_row *vm,
                 struct api_err *err)
{
    if (!vm_keeps(vm))
        return 0;
    const struct secret_row *contents = contents_of(snap, vm);
    const char *variables = uses_uefi(vm) ? str_map_get(vm->NVRAM, VARIABLES) : NULL;
    struct hv_domain_keep_args args;
    struct hv_domain_keep_result result;
    struct hv_err cause;
    hv_domain_keep_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    str_assign(&args.variables, variables ? variables : "");
    str_assign(&args.tpm, contents ? contents->value : "");
    int rc = hv_domain_keep(agent, NULL, &args, &result, &cause);
    hv_domain_keep_args_done(&args);
    if (rc == 0) {
        hv_domain_keep_result_done(&result);
        return 0;
    }
    if (cause.kind == HV_ERR_KIND_BAD_ARGUMENT)
        return err_value_not_supported(err, "NVRAM", "...", cause.text);
    if (cause.kind == HV_ERR_KIND_BAD_STATE)
        return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), "halted", "running");
    return hosts_fail(err, vm->resident_on, &cause);
}

/* ---- taking ---- */

static bool same_text(const char *a, const char *b)
{
    return streq(a ? a : "", b ? b : "");
}

/* True if there was something to change. */
static bool record_contents(struct tx *tx, const struct vm_row *vm, const char *contents)
{
    const struct vtpm_row *tpm =
        vm->VTPMs && vm->VTPMs->count ? vtpm_row(tx_get(tx, CLASS_VTPM, vm->VTPMs->items[0])) : NULL;
    const struct secret_row *now = tpm ? secret_row(tx_get(tx, CLASS_secret, tpm->contents)) : NULL;
    if (!now || !*contents || same_text(now->value, contents))
        return false;
    str_assign(&secret_row_mut(tx_edit(tx, CLASS_secret, now->row.ref))->value, contents);
    return true;
}

static bool record_variables(struct tx *tx, const struct vm_row *vm, const char *variables)
{
    if (!*variables || !uses_uefi(vm) || same_text(str_map_get(vm->NVRAM, VARIABLES), variables))
        return false;
    str_map_put(&vm_row_mut(tx_edit(tx, CLASS_VM, vm->row.ref))->NVRAM, VARIABLES, variables);
    return true;
}

static bool record(struct server *server, struct ref ref, const struct vm_row *seen,
                   const struct hv_domain_kept_result *kept)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(server->store);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    bool right = vm && (!seen || seen->row.generation == vm->row.generation);
    bool changed = right && record_contents(tx, vm, kept->tpm);
    changed = (right && record_variables(tx, vm, kept->variables)) || changed;
    if (!changed) {
        tx_abort(tx);
        return right;
    }
    if (server_commit(tx, &err) == 0)
        return true;
    log_error("vm", "what the firmware of a VM has written down could not be recorded");
    return false;
}

static bool take(struct server *server, struct hv_host *agent, const char *uuid, struct ref ref,
                 const struct vm_row *seen)
{
    struct hv_domain_kept_args args;
    struct hv_domain_kept_result kept;
    struct hv_err cause;
    hv_domain_kept_args_init(&args);
    str_assign(&args.domain, uuid);
    int rc = hv_domain_kept(agent, NULL, &args, &kept, &cause);
    hv_domain_kept_args_done(&args);
    if (rc < 0) {
        if (cause.kind != HV_ERR_KIND_NOT_FOUND)
            log_warn("vm", "what the firmware of a VM has written down cannot be read", "vm", uuid, "cause",
                     cause.text);
        return cause.kind == HV_ERR_KIND_NOT_FOUND;
    }
    bool ok = record(server, ref, seen, &kept);
    hv_domain_kept_result_done(&kept);
    return ok;
}

static const struct vm_row *keeper(const struct snapshot *snap, struct ref ref)
{
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, ref));
    return vm && vm_keeps(vm) ? vm : NULL;
}

bool vm_kept_take(struct server *server, struct hv_host *agent, struct ref ref, const struct vm_row *seen)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct vm_row *vm = keeper(snap, ref);
    return !vm || take(server, agent, vm->uuid, ref, seen);
}

static void purge(struct hv_host *agent, const char *uuid)
{
    struct hv_domain_purge_args args;
    struct hv_domain_purge_result result;
    struct hv_err cause;
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id)};
    hv_domain_purge_args_init(&args);
    str_assign(&args.domain, uuid);
    if (hv_domain_purge(agent, &op, &args, &result, &cause) < 0)
        log_warn("vm", "the host keeps what the firmware of a VM has written down", "vm", uuid, "cause",
                 cause.text);
    else
        hv_domain_purge_result_done(&result);
    hv_domain_purge_args_done(&args);
}

void vm_kept_take_last(struct server *server, struct hv_host *agent, struct ref ref,
                       const struct vm_row *seen)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct vm_row *vm = keeper(snap, ref);
    if (vm && take(server, agent, vm->uuid, ref, seen))
        purge(agent, vm->uuid);
}

void vm_kept_drop(struct hv_host *agent, const struct vm_row *vm)
{
    if (vm_keeps(vm))
        purge(agent, vm->uuid);
}

/* ---- rows of TPMs ---- */

struct vtpm_row *vtpm_add(struct tx *tx, struct ref vm, bool is_unique, const char *contents)
{
    struct secret_row *secret = secret_row_mut(tx_create(tx, CLASS_secret));
    struct ref secret_ref = secret->row.ref;
    str_assign(&secret->value, contents);
    struct vtpm_row *tpm = vtpm_row_mut(tx_create(tx, CLASS_VTPM));
    tpm->VM = vm;
    tpm->is_unique = is_unique;
    tpm->persistence_backend = PERSISTENCE_BACKEND_XAPI;
    tpm->contents = secret_ref;
    return tpm;
}

void vtpm_delete(struct tx *tx, struct ref ref)
{
    const struct vtpm_row *tpm = vtpm_row(tx_get(tx, CLASS_VTPM, ref));
    if (!tpm)
        return;
    struct ref contents = tpm->contents;
    tx_delete(tx, CLASS_VTPM, ref);
    if (tx_get(tx, CLASS_secret, contents))
        tx_delete(tx, CLASS_secret, contents);
}

void vtpm_delete_all(struct tx *tx, const struct vm_row *vm)
{
    AUTO_REF_SET const struct ref_set *all = ref_set_ref(vm->VTPMs); /* the row's own shrinks */
    for (size_t i = 0; all && i < all->count; i++)
        vtpm_delete(tx, all->items[i]);
}

void vtpm_copy_all(struct tx *tx, const struct vm_row *source, struct ref vm, bool same)
{
    AUTO_REF_SET const struct ref_set *all = ref_set_ref(source->VTPMs);
    for (size_t i = 0; all && i < all->count; i++) {
        const struct vtpm_row *from = vtpm_row(tx_get(tx, CLASS_VTPM, all->items[i]));
        const struct secret_row *secret = from ? secret_row(tx_get(tx, CLASS_secret, from->contents)) : NULL;
        bool empty = !secret || (from->is_unique && !same);
        if (!from)
            continue;
        AUTO_STR const char *contents = empty ? str_new("") : str_new(secret->value);
        vtpm_add(tx, vm, from->is_unique, contents)->is_protected = from->is_protected;
    }
}
