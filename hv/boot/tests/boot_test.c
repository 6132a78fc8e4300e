/* Menus of boot loaders, and disks out of chains of images. */
#include <base/file.h>
#include <base/mem.h>
#include <base/proc.h>
#include <boot/menu.h>
#include <boot/view.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static void expect_entry(const struct menu_entry *entry, const char *title, const char *kernel,
                         const char *ramdisks, const char *arguments)
{
    cr_assert(entry, "%s", title);
    cr_expect_str_eq(entry->title, title);
    cr_expect_str_eq(entry->kernel, kernel);
    cr_expect_str_eq(entry->ramdisks, ramdisks);
    cr_expect_str_eq(entry->arguments, arguments);
}

Test(menu, grub)
{
    static const char text[] =
        "if [ -s $prefix/grubenv ]; then\n  load_env\nfi\n"
        "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nelse\n   set "
        "default=\"1>gnulinux-old\"\nfi\n"
        "menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple' {\n"
        "\tload_video\n\tif [ x$grub_platform = xxen ]; then insmod xzio; fi\n"
        "\techo 'Loading Linux 6.1 ...'\n"
        "\tlinux\t/boot/vmlinuz-6.1 root=UUID=abc ro  quiet \"a b\"\n"
        "\tinitrd\t/boot/ucode.img /boot/initrd.img-6.1\n}\n"
        "submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced' {\n"
        "\tmenuentry \"Old \\\"one\\\"\" $menuentry_id_option 'gnulinux-old' {\n"
        "\t\tlinux ($root)/vmlinuz-5 single\n\t}\n}\n"
        "menuentry 'UEFI settings' {\n\tfwsetup\n}\n# comment 'unfinished\n";
    struct menu menu AUTO_MENU = MENU_INIT;
    menu_read_grub(text, &menu);
    cr_assert_eq(menu.count, 2);
    expect_entry(menu_find(&menu, "0"), "Debian GNU/Linux", "/boot/vmlinuz-6.1",
                 "/boot/ucode.img /boot/initrd.img-6.1", "root=UUID=abc ro quiet a b");
    expect_entry(menu_find(&menu, ""), "Old \"one\"", "/vmlinuz-5", "", "single");
    cr_expect_eq(menu_find(&menu, "Debian GNU/Linux"), &menu.items[0]);
    cr_expect_eq(menu_find(&menu, "x>Old \"one\""), &menu.items[1]);
    cr_expect_null(menu_find(&menu, "2"));
    cr_expect_null(menu_find(&menu, "nothing"));
}

/* A guest writes its menu as often as it boots: what it says twice is not kept twice. */
Test(menu, grub_says_everything_twice)
{
    static const char text[] = "set default=a\nset default=b\n"
                               "menuentry 'A' --id a --id b {\n"
                               "linux /one\nlinux /two\ninitrd /three\ninitrd /four\n}\n";
    struct menu menu AUTO_MENU = MENU_INIT;
    menu_read_grub(text, &menu);
    cr_assert_eq(menu.count, 1);
    cr_expect_str_eq(menu.items[0].id, "b");
    expect_entry(menu_find(&menu, ""), "A", "/one", "/three", "");
}

Test(menu, grub_with_saved_default_and_bls)
{
    struct menu menu AUTO_MENU = MENU_INIT;
    menu_read_grub("set default=\"${saved_entry}\"\nblscfg\n", &menu);
    cr_expect(menu.from_saved && menu.bls);
    char *saved AUTO_FREE =
        menu_grubenv("# GRUB Environment Block\nsaved_entry=id-2\nother=1\n####", "saved_entry");
    cr_expect_str_eq(saved, "id-2");
    cr_expect_null(menu_grubenv("xsaved_entry=1\n", "saved_entry"));
}

Test(menu, extlinux)
{
    static const char text[] =
        "DEFAULT old\nTIMEOUT 1\nLABEL new\n  MENU LABEL The ^new one\n  KERNEL vmlinuz\n"
        "  APPEND initrd=a.img,/b.img root=/dev/sda1\nLABEL old\n LINUX ../vmlinuz.old\n"
        " INITRD initrd.old\n append ro\nLABEL local\n LOCALBOOT 0\n";
    struct menu menu AUTO_MENU = MENU_INIT;
    menu_read_extlinux(text, "/boot/extlinux", &menu);
    cr_assert_eq(menu.count, 2);
    expect_entry(menu_find(&menu, "new"), "The ^new one", "/boot/extlinux/vmlinuz",
                 "/boot/extlinux/a.img /b.img", " root=/dev/sda1");
    expect_entry(menu_find(&menu, NULL), "old", "/boot/extlinux/../vmlinuz.old", "/boot/extlinux/initrd.old",
                 "ro");
}

Test(menu, bls)
{
    struct menu menu AUTO_MENU = MENU_INIT;
    cr_assert(menu_read_bls("title Fedora 40\nversion 6.8\nlinux /vmlinuz-6.8\ninitrd /initrd-6.8 \ninitrd "
                            "$tuned_initrd\noptions root=UUID=1 ro\noptions quiet\n",
                            "fedora-6.8", &menu));
    cr_expect_not(menu_read_bls("title Shell\nefi /shell.efi\n", "shell", &menu));
    expect_entry(menu_find(&menu, "fedora-6.8"), "Fedora 40", "/vmlinuz-6.8", "/initrd-6.8",
                 "root=UUID=1 ro quiet");
}

/* ---- disks ---- */

static void command(const char *const *argv)
{
    struct proc_spec spec = {.argv = argv};
    struct proc_run_options options = {.timeout_ms = 60000, .capture_max = 4096};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&spec, &options, &result), 0);
    cr_assert(proc_ok(&result), "%s: %s", argv[0], result.err.data);
}
#define COMMAND(...) command((const char *const[]){__VA_ARGS__, NULL})

Test(view, a_chain_reads_as_qemu_reads_it)
{
    char dir[] = "/tmp/corral-view-XXXXXX";
    cr_assert(mkdtemp(dir));
    char *raw AUTO_FREE = xasprintf("%s/raw", dir), *base AUTO_FREE = xasprintf("%s/base", dir);
    char *top AUTO_FREE = xasprintf("%s/top", dir), *flat AUTO_FREE = xasprintf("%s/flat", dir);
    COMMAND("qemu-img", "create", "-q", "-f", "raw", raw, "3M");
    COMMAND("qemu-io", "-f", "raw", "-c", "write -P 1 0 1M", raw);
    COMMAND("qemu-img", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", base, "4M");
    COMMAND("qemu-io", "-f", "qcow2", "-c", "write -P 2 500k 100k", "-c", "write -P 4 3500k 64k", base);
    COMMAND("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", base, "-F", "qcow2",
            top);
    COMMAND("qemu-io", "-f", "qcow2", "-c", "write -P 3 510k 5k", "-c", "write -z 0 8k", top);
    COMMAND("qemu-img", "convert", "-O", "raw", top, flat);
    int fds[] = {open(top, O_RDONLY), open(base, O_RDONLY), open(raw, O_RDONLY)};
    char *words AUTO_FREE = xasprintf("qcow2:%d,qcow2:%d,raw:%d", fds[0], fds[1], fds[2]);
    const char *why;
    struct view *view = view_open(words, &why);
    cr_assert(view, "%s", why);
    size_t len;
    char *expected AUTO_FREE = file_read(flat, 8 << 20, &len);
    cr_assert_eq(view_size(view), len);
    char *seen AUTO_FREE = xcalloc(1, len);
    for (size_t at = 0; at < len; at += 77777) {
        size_t piece = len - at < 77777 ? len - at : 77777;
        cr_assert_eq(view_read(view, seen + at, 77777, at), (ssize_t)piece);
    }
    cr_expect(memcmp(seen, expected, len) == 0, "other bytes than qemu-img reads");
    cr_expect_eq(view_read(view, seen, 1, len), 0);
    view_close(view);
    COMMAND("qemu-img", "convert", "-c", "-O", "qcow2", raw, flat);
    int packed = open(flat, O_RDONLY);
    char *one AUTO_FREE = xasprintf("qcow2:%d", packed);
    view = view_open(one, &why);
    cr_assert(view);
    cr_expect_eq(view_read(view, seen, 512, 0), -1, "compressed clusters are refused");
    view_close(view);
    cr_expect_null(view_open("vmdk:0", &why));
    cr_expect_null(view_open("", &why));
    cr_expect_null(view_open("raw:x", &why));
    COMMAND("rm", "-rf", dir);
}
