/* The variables of a UEFI firmware, in two forms: the list that a VM's NVRAM:EFI-variables is in base64
 * (XenServer's varstored defined it, so its archives fit), and the flash image that OVMF works on (edk2's
 * authenticated variable store in a firmware volume). Pure; every input is checked, since guests write both.
 */
#pragma once
#include <base/buf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EFI_GUID_SIZE 16
#define EFI_TIME_SIZE 16
#define EFI_CERT_SIZE 32
/* Of a list. The largest flash image of OVMF has 256 KiB of variables. */
#define EFI_VARS_MAX (320u * 1024)
/* Of a list in base64. */
#define EFI_VARS_TEXT_MAX (EFI_VARS_MAX / 3 * 4 + 4)
#define EFI_FLASH_MAX (16u << 20)

struct efi_var {
    uint8_t guid[EFI_GUID_SIZE]; /* of the vendor, as in memory */
    uint8_t *name;               /* UTF-16, little-endian, without a terminator */
    size_t name_len;             /* in bytes */
    uint8_t *data;
    size_t data_len;
    uint32_t attributes;
    uint8_t time[EFI_TIME_SIZE]; /* of an authenticated variable; else zeros */
    uint8_t cert[EFI_CERT_SIZE]; /* only lists have it; edk2 keeps the like in variables of its own */
};
struct efi_vars {
    struct efi_var *items; /* heap */
    size_t count;
};
#define EFI_VARS_INIT ((struct efi_vars){0})
void efi_vars_done(struct efi_vars *vars);
#define AUTO_EFI_VARS __attribute__((cleanup(efi_vars_done)))

/* 0, or -1: it is not such a list, or longer than EFI_VARS_MAX. */
int efi_vars_read(const void *list, size_t len, struct efi_vars *out);
int efi_vars_read_text(const char *base64, struct efi_vars *out);
void efi_vars_write(const struct efi_vars *vars, struct buf *out);
/* A heap string. */
char *efi_vars_write_text(const struct efi_vars *vars);

/* The variables of a flash image; an unfinished one at its end is left out, as the firmware does. -1: it has
 * no variable store. */
int efi_flash_read(const void *flash, size_t len, struct efi_vars *out);
/* A heap copy of a flash image of `len` bytes that has these variables in place of its own. NULL: it has no
 * variable store, or they do not fit. */
void *efi_flash_make(const void *flash, size_t len, const struct efi_vars *vars);

enum efi_vendor { EFI_VENDOR_GLOBAL, EFI_VENDOR_IMAGE_SECURITY, EFI_VENDOR_SECURE_BOOT_ENABLE };
/* `name` in ASCII. NULL: there is none. */
const struct efi_var *efi_vars_find(const struct efi_vars *vars, enum efi_vendor vendor, const char *name);
/* False: there was none. */
bool efi_vars_remove(struct efi_vars *vars, enum efi_vendor vendor, const char *name);
/* Takes the place of one of that name. */
void efi_vars_put(struct efi_vars *vars, enum efi_vendor vendor, const char *name, uint32_t attributes,
                  const uint8_t time[EFI_TIME_SIZE], const void *data, size_t len);

/* PK, KEK, db, dbx: what Secure Boot trusts. */
struct efi_key {
    enum efi_vendor vendor;
    const char *name;
};
#define EFI_KEY_COUNT 4
#define EFI_KEY_DBX 3
extern const struct efi_key efi_keys[EFI_KEY_COUNT];
/* Takes the keys of `from` in place of its own; NULL: has none afterwards (the firmware's set-up mode). */
void efi_vars_set_keys(struct efi_vars *vars, const struct efi_vars *from);
/* Takes efi_keys[key] from an authenticated update (*.auth: EFI_VARIABLE_AUTHENTICATION_2 and signature
 * lists). Who has signed it is not looked at: that counts for firmware that has keys. -1: it is not one. */
int efi_vars_put_update(struct efi_vars *vars, size_t key, const void *update, size_t len);
