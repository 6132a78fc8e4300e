/* Secure Boot keys out of an operator's archive. It is read in memory, member by member, by libarchive with
 * its tar format alone; nothing is unpacked into files. */
#include "uefi_keys.h"

#include <archive.h>
#include <archive_entry.h>
#include <base/mem.h>
#include <base/secret.h>
#include <stdio.h>
#include <string.h>

#define MEMBERS_MAX 16

static void archive_done(struct archive **archive)
{
    archive_read_free(*archive);
}

/* Index in efi_keys of the member NAME.auth; EFI_KEY_COUNT: it is none. */
static size_t key_of(const char *name)
{
    if (strncmp(name, "./", 2) == 0)
        name += 2;
    for (size_t i = 0; i < EFI_KEY_COUNT; i++) {
        char wanted[16];
        snprintf(wanted, sizeof(wanted), "%s.auth", efi_keys[i].name);
        if (streq(name, wanted))
            return i;
    }
    return EFI_KEY_COUNT;
}

static int take_key(struct archive *archive, struct archive_entry *entry, size_t key, struct efi_vars *out)
{
    int64_t size = archive_entry_size(entry);
    if (archive_entry_filetype(entry) != AE_IFREG || size <= 0 || size > EFI_VARS_MAX)
        return -1;
    AUTO_FREE char *update = xmalloc((size_t)size);
    return archive_read_data(archive, update, (size_t)size) == size
               ? efi_vars_put_update(out, key, update, (size_t)size)
               : -1;
}

static int take_all(struct archive *archive, struct efi_vars *out, const char **why)
{
    struct archive_entry *entry;
    int rc = ARCHIVE_OK;
    *why = "it is no tar archive in base64";
    for (int members = 0; (rc = archive_read_next_header(archive, &entry)) == ARCHIVE_OK; members++) {
        const char *name = archive_entry_pathname(entry);
        size_t key = name ? key_of(name) : EFI_KEY_COUNT;
        if (members == MEMBERS_MAX) {
            *why = "its archive has more members than keys can be";
            return -1;
        }
        if (key < EFI_KEY_COUNT && take_key(archive, entry, key, out) < 0) {
            *why = "a member of its archive is no authenticated update of keys (*.auth)";
            return -1;
        }
    }
    if (rc != ARCHIVE_EOF)
        return -1;
    *why = "its archive has not all of PK.auth, KEK.auth and db.auth";
    for (size_t i = 0; i < EFI_KEY_DBX; i++)
        if (!efi_vars_find(out, efi_keys[i].vendor, efi_keys[i].name))
            return -1;
    return 0;
}

int uefi_keys_read(const char *base64, struct efi_vars *out, const char **why)
{
    size_t text_len = strlen(base64), len;
    AUTO_EFI_VARS struct efi_vars keys = EFI_VARS_INIT;
    AUTO_FREE char *bytes = text_len <= UEFI_KEYS_MAX ? base64_decode(base64, text_len, &len) : NULL;
    *why = text_len > UEFI_KEYS_MAX ? "it is longer than 256 KiB" : "it is no tar archive in base64";
    if (!bytes)
        return -1;
    __attribute__((cleanup(archive_done))) struct archive *archive = archive_read_new();
    if (!archive)
        abort(); /* only memory can be missing */
    archive_read_support_format_tar(archive);
    if (archive_read_open_memory(archive, bytes, len) != ARCHIVE_OK || take_all(archive, &keys, why) < 0)
        return -1;
    *out = keys;
    keys = EFI_VARS_INIT;
    return 0;
}
