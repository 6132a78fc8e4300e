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

/* An update with one list of one signature. */
static size_t make_update(uint8_t *out)
{
    static const uint8_t fixed[] = {0xe8, 7, 1, 2, 3, 4, 5,    0,   0, 0, 0, 0, 0, 0, 0, 0, /* a time */
                                    26,   0, 0, 0, 0, 2, 0xf1, 0x0e};
    memset(out, 0, 128);
    memcpy(out, fixed, sizeof(fixed));
    uint8_t *list = out + EFI_TIME_SIZE + 26; /* behind the GUID and two bytes of the signer's */
    list[16] = 28 + 20;
    list[24] = 20;
    memcpy(list + 28 + 16, "key!", 4);
    return (size_t)(list - out) + 48;
}

Test(efivars, an_update_gives_a_key)
{
    uint8_t update[128];
    size_t len = make_update(update);
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT;
    cr_assert_eq(efi_vars_put_update(&vars, EFI_KEY_DBX, update, len), 0);
    const struct efi_var *dbx = efi_vars_find(&vars, EFI_VENDOR_IMAGE_SECURITY, "dbx");
    cr_assert(dbx);
    cr_expect_eq(dbx->attributes, 0x27);
    cr_expect_eq(dbx->data_len, 48);
    cr_expect(memcmp(dbx->data + 44, "key!", 4) == 0);
    cr_expect(memcmp(dbx->time, update, EFI_TIME_SIZE) == 0);
}

Test(efivars, what_is_no_update_gives_none)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{16, 23},      {16, 200},     {18, 1},       {22, 0},      {42 + 16, 47},
                 {42 + 16, 49}, {42 + 20, 21}, {42 + 24, 16}, {42 + 24, 19}};
    uint8_t update[128];
    size_t len = make_update(update);
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT;
    for (size_t cut = 0; cut < len; cut++)
        cr_expect_eq(efi_vars_put_update(&vars, 0, update, cut), -1, "%zu bytes", cut);
    cr_expect_eq(efi_vars_put_update(&vars, 0, update, len + 1), -1);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        make_update(update);
        update[wrong[i].at] = wrong[i].value;
        cr_expect_eq(efi_vars_put_update(&vars, 0, update, len), -1, "byte %zu", wrong[i].at);
    }
    cr_expect_eq(vars.count, 0);
}
