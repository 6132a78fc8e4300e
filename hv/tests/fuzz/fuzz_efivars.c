/* Any bytes as a list of UEFI variables, and as a flash image of them: what is taken from either is written
 * and read again as the same. */
#include <base/mem.h>
#include <hv/efivars.h>
#include <stdlib.h>

static void again(const struct efi_vars *vars)
{
    struct buf list AUTO_BUF = BUF_INIT, second AUTO_BUF = BUF_INIT;
    struct efi_vars copy AUTO_EFI_VARS = EFI_VARS_INIT;
    efi_vars_write(vars, &list);
    if (list.len > EFI_VARS_MAX)
        return;
    if (efi_vars_read(list.data, list.len, &copy) < 0)
        return; /* a name that is empty once its terminator is gone */
    efi_vars_write(&copy, &second);
    efi_vars_set_keys(&copy, vars);
    efi_vars_set_keys(&copy, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT;
    if (efi_vars_read(data, size, &vars) == 0)
        again(&vars);
    efi_vars_done(&vars);
    if (efi_vars_put_update(&vars, EFI_KEY_DBX, data, size) == 0)
        again(&vars);
    efi_vars_done(&vars);
    if (efi_flash_read(data, size, &vars) < 0)
        return 0;
    again(&vars);
    void *flash AUTO_FREE = efi_flash_make(data, size, &vars);
    if (flash) {
        struct efi_vars copy AUTO_EFI_VARS = EFI_VARS_INIT;
        if (efi_flash_read(flash, size, &copy) < 0)
            abort();
    }
    return 0;
}
