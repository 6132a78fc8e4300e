/* Secure Boot keys of an operator's own: the value of pool.custom_uefi_certificates. */
#pragma once
#include <hv/efivars.h>

/* Of the text. */
#define UEFI_KEYS_MAX (256u << 10)

/* A tar archive in base64 with PK.auth, KEK.auth, db.auth and, if there is one, dbx.auth. 0, or -1 and why
 * (static storage). */
int uefi_keys_read(const char *base64, struct efi_vars *out, const char **why);
