/* VTPM.*: virtual TPMs come and go as rows; a VM's host makes the TPM itself when the VM starts. */
#include "../rules/vm.h"
#include "../server.h"
#include "vm_kept.h"
#include <base/mem.h>
#include <base/secret.h>
#include <handlers.h>
#include <model/errors.h>

#define TPMS_MAX 1
#define CONTENTS_MAX (256 * 1024)

int handle_vtpm_create(struct call *call, const struct vtpm_create_args *args, struct ref *result,
                       struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, args->vM));
    int rc = 0;
    if (!vm)
        rc = fail_handle(err, CLASS_VM, args->vM);
    else if (vm->VTPMs && vm->VTPMs->count >= TPMS_MAX)
        rc = err_vtpm_max_amount_reached(err, "1");
    else if (vm->power_state != VM_POWER_STATE_HALTED)
        rc = vm_bad_state(err, vm, "halted");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    *result = vtpm_add(tx, args->vM, args->is_unique, "")->row.ref;
    return server_commit(tx, err);
}

int handle_vtpm_destroy(struct call *call, const struct vtpm_destroy_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vtpm_row *tpm = vtpm_row(tx_get(tx, CLASS_VTPM, args->self));
    const struct vm_row *vm = tpm ? vm_row(tx_get(tx, CLASS_VM, tpm->VM)) : NULL;
    int rc = 0;
    if (!tpm)
        rc = fail_handle(err, CLASS_VTPM, args->self);
    else if (vm && vm->power_state != VM_POWER_STATE_HALTED)
        rc = vm_bad_state(err, vm, "halted");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    vtpm_delete(tx, args->self);
    return server_commit(tx, err);
}

int handle_vtpm_get_contents(struct call *call, const struct vtpm_get_contents_args *args,
                             const char **result, struct api_err *err)
{
    const struct vtpm_row *tpm = vtpm_row(snapshot_get(call->snapshot, CLASS_VTPM, args->self));
    if (!tpm)
        return fail_handle(err, CLASS_VTPM, args->self);
    const struct secret_row *secret = secret_row(snapshot_get(call->snapshot, CLASS_secret, tpm->contents));
    *result = str_new(secret ? secret->value : "");
    return 0;
}

int vtpm_check_contents(const char *contents, struct api_err *err)
{
    size_t len, text_len = strlen(contents);
    AUTO_SECRET char *bytes =
        text_len <= CONTENTS_MAX / 3 * 4 ? base64_decode(contents, text_len, &len) : NULL;
    return bytes ? 0 : err_invalid_value(err, "contents", "they are base64, of at most 256 KiB");
}

int handle_vtpm_set_contents(struct call *call, const struct vtpm_set_contents_args *args,
                             struct api_err *err)
{
    if (vtpm_check_contents(args->contents, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    const struct vtpm_row *tpm = vtpm_row(tx_get(tx, CLASS_VTPM, args->self));
    if (!tpm) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VTPM, args->self);
    }
    struct ref ref = tpm->contents;
    if (!tx_get(tx, CLASS_secret, ref)) {
        ref = tx_create(tx, CLASS_secret)->ref;
        vtpm_row_mut(tx_edit(tx, CLASS_VTPM, args->self))->contents = ref;
    }
    str_assign(&secret_row_mut(tx_edit(tx, CLASS_secret, ref))->value, args->contents);
    return server_commit(tx, err);
}
