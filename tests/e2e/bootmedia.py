"""Makes media that boot a kernel with its initramfs: a raw disk for BIOS and UEFI, and a CD.

From Debian's own boot loaders (packages syslinux, isolinux, grub-efi-amd64-bin, mtools, xorriso);
no right beyond writing the file is needed."""
import os
import shutil
import subprocess
import tempfile

ISOLINUX = "/usr/lib/ISOLINUX/isolinux.bin"
MODULES = "/usr/lib/syslinux/modules/bios"


def run(*arguments, **options):
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}: {done.stdout}")


def syslinux_config(arguments):
    return f"SERIAL 0 115200\nDEFAULT guest\nLABEL guest\n  KERNEL /linux\n  APPEND initrd=/initrd {arguments}\n"


def make_disk(path, kernel, initrd, arguments, mib=64):
    """A raw disk without partitions: FAT with syslinux in its boot sector (BIOS) and GRUB as
    /EFI/BOOT/BOOTX64.EFI (UEFI); both start the kernel with `arguments`."""
    with tempfile.TemporaryDirectory() as folder:
        def file(name, text):
            with open(os.path.join(folder, name), "w", encoding="ascii") as out:
                out.write(text)
            return os.path.join(folder, name)
        with open(path, "wb") as disk:
            disk.truncate(mib << 20)
        run("mformat", "-i", path, "-F", "-T", str(mib << 11), "-h", "64", "-s", "32", "::")
        run("syslinux", "--install", path)
        early = file("early.cfg", "search --file --set=root /linux\nset prefix=($root)/\n"
                                  f"linux /linux {arguments}\ninitrd /initrd\nboot\n")
        run("grub-mkimage", "-O", "x86_64-efi", "-o", os.path.join(folder, "grub.efi"), "-p", "/", "-c", early,
            "fat", "linux", "search", "search_fs_file", "normal", "boot", "part_msdos", "part_gpt")
        run("mmd", "-i", path, "::/EFI", "::/EFI/BOOT")
        for source, name in ((kernel, "/linux"), (initrd, "/initrd"),
                             (file("syslinux.cfg", syslinux_config(arguments)), "/syslinux.cfg"),
                             (os.path.join(folder, "grub.efi"), "/EFI/BOOT/BOOTX64.EFI")):
            run("mcopy", "-i", path, source, "::" + name)


def make_iso(path, kernel, initrd, arguments):
    """A CD that BIOS boots (isolinux)."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ISOLINUX, os.path.join(folder, "isolinux.bin"))
        shutil.copy(os.path.join(MODULES, "ldlinux.c32"), folder)
        shutil.copy(kernel, os.path.join(folder, "linux"))
        shutil.copy(initrd, os.path.join(folder, "initrd"))
        with open(os.path.join(folder, "isolinux.cfg"), "w", encoding="ascii") as config:
            config.write(syslinux_config(arguments))
        run("xorriso", "-as", "mkisofs", "-quiet", "-o", path, "-V", "BOOT", "-b", "isolinux.bin", "-c", "boot.cat",
            "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", folder)
