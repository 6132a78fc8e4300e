"""Keys of Secure Boot of one's own, and EFI programs with and without their signatures (packages efitools, sbsigntool,
grub-efi-amd64-bin, mtools)."""
import base64
import io
import os
import shutil
import subprocess
import tarfile

MISSING = [tool for tool in ("sbsign", "sign-efi-sig-list", "cert-to-efi-sig-list") if not shutil.which(tool)]
OWNER = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


def run(*arguments):
    subprocess.run(arguments, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)


class Keys:
    """PK, KEK and db in a folder."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        for name, signer in (("PK", "PK"), ("KEK", "PK"), ("db", "KEK")):
            self.make(name)
            run("cert-to-efi-sig-list", "-g", OWNER, self.path(name, "crt"), self.path(name, "esl"))
            run("sign-efi-sig-list", "-k", self.path(signer, "key"), "-c", self.path(signer, "crt"), name,
                self.path(name, "esl"), self.path(name, "auth"))

    def path(self, name, end):
        return os.path.join(self.folder, f"{name}.{end}")

    def make(self, name):
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "3650", "-subj", f"/CN=test {name}/",
            "-keyout", self.path(name, "key"), "-out", self.path(name, "crt"))

    def archive(self):
        """The value of pool.set_custom_uefi_certificates."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in ("PK", "KEK", "db"):
                archive.add(self.path(name, "auth"), f"{name}.auth")
        return base64.b64encode(out.getvalue()).decode()

    def sign(self, name, program):
        """In place."""
        run("sbsign", "--key", self.path(name, "key"), "--cert", self.path(name, "crt"), "--output", program, program)


def make_program(path, words):
    """One that says these words and waits."""
    with open(path + ".cfg", "w", encoding="ascii") as file:
        file.write(f"echo {words}\nsleep 600\n")
    run("grub-mkimage", "-O", "x86_64-efi", "-o", path, "-p", "/", "-c", path + ".cfg", "echo", "sleep")


def make_disk(path, program):
    """A raw disk that UEFI starts this from."""
    with open(path, "wb") as disk:
        disk.truncate(16 << 20)
    run("mformat", "-i", path, "-T", str(16 << 11), "-h", "64", "-s", "32", "::")
    run("mmd", "-i", path, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", path, program, "::/EFI/BOOT/BOOTX64.EFI")
