/* VM.set_uefi_mode, get_secureboot_readiness, set_NVRAM_EFI_variables and the pool's side of them: what a
 * VM's UEFI variables say about Secure Boot. The keys that VMs get are the pool's own (uefi_keys.h), else
 * those that the hosts' firmware is shipped with. */
#include "vm_firmware.h"

#include "../hosts/hosts.h"
#include "../rules/vm.h"
#include "../server.h"
#include "uefi_keys.h"
#include "vm_power.h"
#include <base/mem.h>
#include <handlers.h>
#include <hv/client.h>
#include <hv/efivars.h>
#include <model/errors.h>

#define VARIABLES "EFI-variables"

static bool uses_uefi(const struct vm_row *vm)
{
    const char *firmware = str_map_get(vm->HVM_boot_params, "firmware");
    return firmware && streq(firmware, "uefi");
}

static bool has_key(const struct efi_vars *vars, size_t i)
{
    const struct efi_var *key = efi_vars_find(vars, efi_keys[i].vendor, efi_keys[i].name);
    return key && key->data_len > 0;
}

/* Of PK, KEK, db, dbx. */
static enum vm_secureboot_readiness judge(const struct efi_vars *vars)
{
    bool pk = has_key(vars, 0), kek = has_key(vars, 1), db = has_key(vars, 2), dbx = has_key(vars, 3);
    if (!pk)
        return VM_SECUREBOOT_READINESS_SETUP_MODE;
    if (!kek || !db)
        return VM_SECUREBOOT_READINESS_CERTS_INCOMPLETE;
    return dbx ? VM_SECUREBOOT_READINESS_READY : VM_SECUREBOOT_READINESS_READY_NO_DBX;
}

int handle_vm_get_secureboot_readiness(struct call *call, const struct vm_get_secureboot_readiness_args *args,
                                       enum vm_secureboot_readiness *result, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    if (!vm)
        return -1;
    const char *wanted = str_map_get(vm->platform, "secureboot");
    const char *variables = str_map_get(vm->NVRAM, VARIABLES);
    AUTO_EFI_VARS struct efi_vars vars = EFI_VARS_INIT;
    if (!uses_uefi(vm))
        *result = VM_SECUREBOOT_READINESS_NOT_SUPPORTED;
    else if (!wanted || !(streq(wanted, "true") || streq(wanted, "auto")))
        *result = VM_SECUREBOOT_READINESS_DISABLED;
    else if (!variables || !*variables)
        *result = VM_SECUREBOOT_READINESS_FIRST_BOOT;
    else if (efi_vars_read_text(variables, &vars) < 0)
        *result = VM_SECUREBOOT_READINESS_SETUP_MODE;
    else
        *result = judge(&vars);
    return 0;
}

/* ---- the keys that VMs get ---- */

/* False: the pool has none of its own. */
static bool keys_of_pool(const struct call *call, struct efi_vars *keys)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    const char *why;
    return pool && *pool->custom_uefi_certificates &&
           uefi_keys_read(pool->custom_uefi_certificates, keys, &why) == 0;
}

struct key_search {
    struct server *server;
    struct efi_vars *keys;
    bool found;
};

/* False: the host has none, or does not answer. */
static bool keys_of_host(struct hv_host *agent, struct efi_vars *keys)
{
    struct hv_firmware_keys_args args;
    struct hv_firmware_keys_result result;
    struct hv_op op = {.timeout_ms = 10000};
    struct hv_err cause;
    hv_firmware_keys_args_init(&args);
    if (hv_firmware_keys(agent, &op, &args, &result, &cause) < 0)
        return false;
    bool found = efi_vars_read_text(result.variables, keys) == 0;
    hv_firmware_keys_result_done(&result);
    return found;
}

/* Of one host. False ends the search. */
static bool ask_for_keys(const struct row *host, void *arg)
{
    struct key_search *search = arg;
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    struct hv_host *agent = hosts_get(search->server->hosts, host->ref, &ignored);
    if (!agent)
        return true;
    search->found = keys_of_host(agent, search->keys);
    hosts_put(search->server->hosts, agent);
    return !search->found;
}

/* The pool's, else those of the first host that answers and has some. */
static int find_keys(struct call *call, struct efi_vars *keys, struct api_err *err)
{
    if (keys_of_pool(call, keys))
        return 0;
    struct key_search search = {.server = call->server, .keys = keys};
    snapshot_each(call->snapshot, CLASS_host, ask_for_keys, &search);
    return search.found
               ? 0
               : err_operation_not_allowed(err, "No host of the pool has Secure Boot keys (package ovmf).");
}

int handle_pool_get_guest_secureboot_readiness(struct call *call,
                                               const struct pool_get_guest_secureboot_readiness_args *args,
                                               enum pool_guest_secureboot_readiness *result,
                                               struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_pool, args->self))
        return fail_handle(err, CLASS_pool, args->self);
    AUTO_EFI_VARS struct efi_vars keys = EFI_VARS_INIT;
    AUTO_API_ERR struct api_err none = API_ERR_INIT;
    *result = POOL_GUEST_SECUREBOOT_READINESS_NOT_READY;
    if (find_keys(call, &keys, &none) < 0)
        return 0;
    enum vm_secureboot_readiness found = judge(&keys);
    if (found == VM_SECUREBOOT_READINESS_READY)
        *result = POOL_GUEST_SECUREBOOT_READINESS_READY;
    else if (found == VM_SECUREBOOT_READINESS_READY_NO_DBX)
        *result = POOL_GUEST_SECUREBOOT_READINESS_READY_NO_DBX;
    return 0;
}

/* ---- changes ---- */

static int set_variables(struct call *call, struct ref ref, const char *text, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    if (!vm) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, ref);
    }
    str_map_put(&vm_row_mut(tx_edit(tx, CLASS_VM, ref))->NVRAM, VARIABLES, text);
    return server_commit(tx, err);
}

int handle_vm_set_NVRAM_EFI_variables(struct call *call, const struct vm_set_NVRAM_EFI_variables_args *args,
                                      struct api_err *err)
{
    if (strlen(args->value) > EFI_VARS_TEXT_MAX)
        return err_invalid_value(err, "value", "it is longer than the variables of a firmware can be");
    return set_variables(call, args->self, args->value, err);
}

/* A VM that never ran gets its keys at its first start, so it is in user mode already. */
int handle_vm_set_uefi_mode(struct call *call, const struct vm_set_uefi_mode_args *args, const char **result,
                            struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    AUTO_EFI_VARS struct efi_vars vars = EFI_VARS_INIT, keys = EFI_VARS_INIT;
    bool user = args->mode == VM_UEFI_MODE_USER;
    if (!vm)
        return -1;
    if (!uses_uefi(vm))
        return err_operation_not_allowed(err, "The VM does not boot by UEFI (HVM_boot_params:firmware).");
    if (vm->power_state != VM_POWER_STATE_HALTED)
        return vm_bad_state(err, vm, "halted");
    const char *now = str_map_get(vm->NVRAM, VARIABLES);
    if (now && *now && efi_vars_read_text(now, &vars) < 0)
        return err_value_not_supported(err, "NVRAM:" VARIABLES, "...", "it is not a list of UEFI variables");
    if (user && find_keys(call, &keys, err) < 0)
        return -1;
    efi_vars_set_keys(&vars, user ? &keys : NULL);
    AUTO_FREE char *text = efi_vars_write_text(&vars);
    if (set_variables(call, args->self, text, err) < 0)
        return -1;
    *result = str_new(user ? "user" : "setup");
    return 0;
}

int handle_pool_set_uefi_certificates(struct call *call, const struct pool_set_uefi_certificates_args *args,
                                      struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_pool, args->self))
        return fail_handle(err, CLASS_pool, args->self);
    return err_operation_not_allowed(err, "VMs get the keys that their hosts' firmware is shipped with; "
                                          "pool.set_custom_uefi_certificates sets others.");
}

int handle_pool_set_custom_uefi_certificates(struct call *call,
                                             const struct pool_set_custom_uefi_certificates_args *args,
                                             struct api_err *err)
{
    AUTO_EFI_VARS struct efi_vars keys = EFI_VARS_INIT;
    const char *why;
    if (*args->value && uefi_keys_read(args->value, &keys, &why) < 0)
        return err_invalid_value(err, "value", why);
    struct tx *tx = store_begin(call->server->store);
    if (!pool_row(tx_get(tx, CLASS_pool, args->self))) {
        tx_abort(tx);
        return fail_handle(err, CLASS_pool, args->self);
    }
    struct pool_row *edit = pool_row_mut(tx_edit(tx, CLASS_pool, args->self));
    str_assign(&edit->custom_uefi_certificates, args->value);
    str_assign(&edit->uefi_certificates, args->value);
    return server_commit(tx, err);
}

/* ---- newer keys at a start ---- */

static const struct efi_var *key(const struct efi_vars *vars, size_t i)
{
    return efi_vars_find(vars, efi_keys[i].vendor, efi_keys[i].name);
}

/* A guest adds to its list of forbidden images: the longer one has more. */
static bool keeps_own(const struct efi_var *own, const struct efi_var *shipped, size_t i)
{
    return own && (!shipped || (i == EFI_KEY_DBX && own->data_len > shipped->data_len));
}

/* Puts the shipped keys into `vars`; false: it has them. */
static bool renew(struct efi_vars *vars, const struct efi_vars *shipped)
{
    bool changed = false;
    for (size_t i = 0; i < EFI_KEY_COUNT; i++) {
        const struct efi_var *own = key(vars, i), *new = key(shipped, i);
        if (!new || keeps_own(own, new, i) ||
            (own && own->data_len == new->data_len &&memcmp(own->data, new->data, new->data_len) == 0))
            continue;
        efi_vars_remove(vars, efi_keys[i].vendor, efi_keys[i].name);
        efi_vars_put(vars, efi_keys[i].vendor, efi_keys[i].name, new->attributes, new->time, new->data,
                     new->data_len);
        changed = true;
    }
    return changed;
}

static bool renews_all(const struct call *call)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    return pool && pool->auto_update_vm_secureboot_certificates;
}

/* A VM that never ran gets the shipped keys from its host, which knows nothing of the pool's own. */
static int give_first(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    AUTO_EFI_VARS struct efi_vars keys = EFI_VARS_INIT;
    if (!keys_of_pool(call, &keys))
        return 0;
    AUTO_FREE char *text = efi_vars_write_text(&keys);
    return set_variables(call, vm->row.ref, text, err);
}

int vm_firmware_renew(struct call *call, struct hv_host *agent, const struct vm_row *vm, struct api_err *err)
{
    const char *now = str_map_get(vm->NVRAM, VARIABLES);
    enum vm_secureboot_certificates_state was = vm->secureboot_certificates_state, state;
    bool marked = was == VM_SECUREBOOT_CERTIFICATES_STATE_UPDATE_ON_BOOT;
    AUTO_EFI_VARS struct efi_vars vars = EFI_VARS_INIT, shipped = EFI_VARS_INIT;
    if (uses_uefi(vm) && (!now || !*now))
        return give_first(call, vm, err);
    if (!uses_uefi(vm) || efi_vars_read_text(now, &vars) < 0 || (!marked && !has_key(&vars, 0)) ||
        (!keys_of_pool(call, &shipped) && !keys_of_host(agent, &shipped)))
        return 0;
    bool differs = renew(&vars, &shipped), take = differs && (marked || renews_all(call));
    state = differs && !take ? VM_SECUREBOOT_CERTIFICATES_STATE_UPDATE_AVAILABLE
                             : VM_SECUREBOOT_CERTIFICATES_STATE_OK;
    if (!take && state == was)
        return 0;
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VM, vm->row.ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, vm->row.ref);
    }
    struct vm_row *edit = vm_row_mut(tx_edit(tx, CLASS_VM, vm->row.ref));
    AUTO_FREE char *text = efi_vars_write_text(&vars);
    if (take)
        str_map_put(&edit->NVRAM, VARIABLES, text);
    edit->secureboot_certificates_state = state;
    return server_commit(tx, err);
}

int handle_vm_update_secureboot_certificates_on_boot(
    struct call *call, const struct vm_update_secureboot_certificates_on_boot_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    if (!vm)
        return -1;
    if (!uses_uefi(vm))
        return err_operation_not_allowed(err, "The VM does not boot by UEFI (HVM_boot_params:firmware).");
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, args->self));
    if (!now) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, args->self);
    }
    bool marked = now->secureboot_certificates_state == VM_SECUREBOOT_CERTIFICATES_STATE_UPDATE_ON_BOOT;
    if (marked != args->mark)
        vm_row_mut(tx_edit(tx, CLASS_VM, args->self))->secureboot_certificates_state =
            args->mark ? VM_SECUREBOOT_CERTIFICATES_STATE_UPDATE_ON_BOOT
                       : VM_SECUREBOOT_CERTIFICATES_STATE_UPDATE_AVAILABLE;
    return server_commit(tx, err);
}
