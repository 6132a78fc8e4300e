/* Lists and flash images of UEFI variables. */
#include <base/file.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <hv/efivars.h>

#define MS_FLASH "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
#define EMPTY_FLASH "/usr/share/OVMF/OVMF_VARS_4M.fd"

static const uint8_t no_time[EFI_TIME_SIZE];

static void *read_flash(const char *path, size_t *len)
{
    void *flash = file_read(path, EFI_FLASH_MAX, len);
    cr_assert(flash, "%s (package ovmf)", path);
    return flash;
}

static void expect_same(const struct efi_vars *a, const struct efi_vars *b)
{
    struct buf x AUTO_BUF = BUF_INIT, y AUTO_BUF = BUF_INIT;
    efi_vars_write(a, &x);
    efi_vars_write(b, &y);
    cr_expect(x.len == y.len && memcmp(x.data, y.data, x.len) == 0);
}

Test(efivars, the_shipped_keys_survive_list_and_flash)
{
    size_t len, empty_len;
    void *flash AUTO_FREE = read_flash(MS_FLASH, &len);
    void *empty AUTO_FREE = read_flash(EMPTY_FLASH, &empty_len);
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT, from_text AUTO_EFI_VARS = EFI_VARS_INIT,
                         from_flash AUTO_EFI_VARS = EFI_VARS_INIT;
    cr_assert_eq(efi_flash_read(flash, len, &vars), 0);
    for (size_t i = 0; i < EFI_KEY_COUNT; i++)
        cr_expect(efi_vars_find(&vars, efi_keys[i].vendor, efi_keys[i].name), "%s", efi_keys[i].name);
    char *text AUTO_FREE = efi_vars_write_text(&vars);
    cr_assert_eq(efi_vars_read_text(text, &from_text), 0);
    expect_same(&vars, &from_text);
    void *made AUTO_FREE = efi_flash_make(empty, empty_len, &vars);
    cr_assert(made);
    cr_assert_eq(efi_flash_read(made, empty_len, &from_flash), 0);
    expect_same(&vars, &from_flash);
}

Test(efivars, keys_are_taken_and_given)
{
    size_t len;
    void *flash AUTO_FREE = read_flash(MS_FLASH, &len);
    struct efi_vars shipped AUTO_EFI_VARS = EFI_VARS_INIT, vars AUTO_EFI_VARS = EFI_VARS_INIT;
    cr_assert_eq(efi_flash_read(flash, len, &shipped), 0);
    efi_vars_put(&vars, EFI_VENDOR_GLOBAL, "BootOrder", 7, no_time, "\0\0", 2);
    efi_vars_set_keys(&vars, &shipped);
    cr_expect_eq(vars.count, 5);
    cr_expect(efi_vars_find(&vars, EFI_VENDOR_IMAGE_SECURITY, "dbx"));
    cr_expect_null(efi_vars_find(&vars, EFI_VENDOR_GLOBAL, "dbx"), "of another vendor");
    efi_vars_set_keys(&vars, NULL);
    cr_expect_eq(vars.count, 1);
    cr_expect(efi_vars_find(&vars, EFI_VENDOR_GLOBAL, "BootOrder"));
}

Test(efivars, what_does_not_fit_is_refused)
{
    size_t len;
    void *flash AUTO_FREE = read_flash(EMPTY_FLASH, &len);
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT;
    char *large AUTO_FREE = xcalloc(1, 300 * 1024);
    efi_vars_put(&vars, EFI_VENDOR_GLOBAL, "Boot0000", 7, no_time, large, 300 * 1024);
    cr_expect_null(efi_flash_make(flash, len, &vars));
}

Test(efivars, damaged_lists_are_refused)
{
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT, out AUTO_EFI_VARS = EFI_VARS_INIT;
    struct buf list AUTO_BUF = BUF_INIT;
    efi_vars_put(&vars, EFI_VENDOR_GLOBAL, "Lang", 7, no_time, "eng", 3);
    efi_vars_write(&vars, &list);
    for (size_t len = 0; len < list.len; len++)
        cr_expect_eq(efi_vars_read(list.data, len, &out), -1, "cut to %zu", len);
    cr_expect_eq(efi_vars_read(list.data, list.len, &out), 0);
    efi_vars_done(&out);
    list.data[4] = 9;
    cr_expect_eq(efi_vars_read(list.data, list.len, &out), -1, "another version");
    cr_expect_eq(efi_vars_read_text("not base64!", &out), -1);
    cr_expect_eq(efi_vars_read_text("", &out), -1);
}

/* XenServer's lists: version 2, and names that end in a NUL. */
Test(efivars, lists_of_other_writers_are_read)
{
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT, out AUTO_EFI_VARS = EFI_VARS_INIT;
    struct buf list AUTO_BUF = BUF_INIT;
    efi_vars_put(&vars, EFI_VENDOR_GLOBAL, "Lang", 7, no_time, "eng", 3);
    vars.items[0].name = xrealloc(vars.items[0].name, 10);
    memset(vars.items[0].name + 8, 0, 2);
    vars.items[0].name_len = 10;
    efi_vars_write(&vars, &list);
    list.data[4] = 2;
    cr_assert_eq(efi_vars_read(list.data, list.len, &out), 0);
    cr_expect(efi_vars_find(&out, EFI_VENDOR_GLOBAL, "Lang"));
}
