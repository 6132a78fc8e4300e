/* Menus of boot loaders, read from their configuration files: GRUB 2's grub.cfg, extlinux.conf of syslinux,
 * and the entries of the Boot Loader Specification (BLS). Pure. What a file does beyond naming kernels
 * (conditions, functions, modules) is left out; sizes are bounded, since guests write these files. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define MENU_FILE_MAX (512 * 1024)
#define MENU_ENTRIES_MAX 256

struct menu_entry {
    char *title, *id; /* id: "" when there is none */
    char *kernel;     /* path in the file system of the file, beginning with / */
    char *ramdisks;   /* such paths, separated by blanks; "" */
    char *arguments;
};
struct menu {
    struct menu_entry *items;
    size_t count;
    char *chosen;    /* the entry that the file says is the default: number, title or id; NULL: the first */
    bool bls;        /* the file says that the entries are BLS files */
    bool from_saved; /* the default is saved_entry of grubenv */
};
#define MENU_INIT ((struct menu){0})
void menu_done(struct menu *menu);
#define AUTO_MENU __attribute__((cleanup(menu_done)))

void menu_read_grub(const char *text, struct menu *menu);
/* `folder`: of the file, for names without a path ("/boot/extlinux"). */
void menu_read_extlinux(const char *text, const char *folder, struct menu *menu);
/* Adds one entry; false: the file names no kernel. `id`: the file's name without ".conf". */
bool menu_read_bls(const char *text, const char *id, struct menu *menu);
/* Value of a key in a grubenv block; a heap string or NULL. */
char *menu_grubenv(const char *text, const char *key);
/* By number from 0, title, id, or a path of titles "submenu>entry" of which the last counts. "" or NULL: the
 * default. NULL: there is no such entry. */
const struct menu_entry *menu_find(const struct menu *menu, const char *wanted);
