/* Any text as the configuration of each boot loader: what is taken from it are paths that begin with a slash,
 * and every entry that has a title can be found again by it. */
#include <base/mem.h>
#include <boot/menu.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void check(const struct menu *menu)
{
    if (menu->count > MENU_ENTRIES_MAX)
        abort();
    for (size_t i = 0; i < menu->count; i++)
        if (menu->items[i].kernel[0] != '/' ||
            (*menu->items[i].title && !menu_find(menu, menu->items[i].title)))
            abort();
    menu_find(menu, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text AUTO_FREE = xcalloc(1, size + 1);
    struct menu grub AUTO_MENU = MENU_INIT, extlinux AUTO_MENU = MENU_INIT, bls AUTO_MENU = MENU_INIT;
    if (size)
        memcpy(text, data, size);
    menu_read_grub(text, &grub);
    menu_read_extlinux(text, "/boot", &extlinux);
    menu_read_bls(text, "id", &bls);
    check(&grub);
    check(&extlinux);
    check(&bls);
    free(menu_grubenv(text, "saved_entry"));
    return 0;
}
