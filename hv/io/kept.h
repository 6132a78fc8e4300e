/* What the firmware of a VM writes down and finds again at its next start, on whichever host: UEFI variables
 * and the contents of its TPM. The pool keeps both between runs (domain_keep, domain_kept); here they are the
 * files that a device model works on, STATE/nvram/<uuid>.*:
 *
 *     <uuid>.vars   what the pool gave for the next start, as its text; used up by that start
 *     <uuid>.fd     the flash image of the last start
 *     <uuid>.tpm/   the folder that the TPM's process works in, tpm2-00.permall its contents
 *
 * Any thread; two calls for one VM at the same time are kept apart by its domain's queue. */
#pragma once
#include <hv/err.h>
#include <stdbool.h>
#include <sys/types.h>

#define KEPT_TPM_MAX (256 * 1024)

struct kept_user {
    uid_t uid; /* as whom a domain's processes run; (uid_t)-1: as the agent */
    gid_t gid;
};

/* Takes the place of what is there. Texts as in domain_keep. -1: BAD_ARGUMENT or IO. */
int kept_put(const char *state_dir, const char *uuid, const char *variables, const char *tpm,
             struct hv_err *err);
/* Rc strings, "" for what there is not. -1: NOT_FOUND when there is nothing, or IO. */
int kept_get(const char *state_dir, const char *uuid, const char **variables, const char **tpm,
             struct hv_err *err);
/* Text that changes when an answer of kept_get may have changed; "" when there is nothing. */
#define KEPT_MARK_SIZE 64
void kept_mark(const char *state_dir, const char *uuid, char out[static KEPT_MARK_SIZE]);
int kept_remove(const char *state_dir, const char *uuid, struct hv_err *err);

/* The flash image for a start: from what the pool gave, else the one that is there, else the template. A VM
 * that never ran has the Secure Boot keys of `keys` (a flash image too; NULL or missing: none). `secure`:
 * whether signatures are to be checked where keys are. A descriptor, or -1. */
int kept_open_flash(const char *state_dir, const char *uuid, const char *template, const char *keys,
                    bool secure, struct hv_err *err);
/* The folder of the TPM's process, made when missing, for a start: it and what is in it become the user's. A
 * descriptor, or -1. */
int kept_open_tpm(const char *state_dir, const char *uuid, const struct kept_user *user, struct hv_err *err);
/* Keys of a flash image as a text of domain_keep. -1: NOT_FOUND. */
int kept_keys(const char *flash, const char **variables, struct hv_err *err);
