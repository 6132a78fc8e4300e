"""libvirt as a peer: its daemon in session mode, as a user of its own, with QEMU's driver. Measured beside ours when
Debian's libvirt-daemon-system and libvirt-clients are installed."""

import os
import pwd
import shutil
import subprocess
import time

PACKAGES = ("libvirtd", "virsh")


def installed():
    return all(shutil.which(program) for program in PACKAGES)


class Libvirt:
    """A libvirtd that ends with the benchmark, commanded with virsh."""

    def __init__(self, bench):
        self.dir = bench.dir / "libvirt"
        user = pwd.getpwnam("nobody")
        for folder in (self.dir, self.dir / "run", self.dir / "libvirt"):
            folder.mkdir(mode=0o700)
            os.chown(folder, user.pw_uid, user.pw_gid)
        # Without the daemon for logs, which would outlive the benchmark.
        (self.dir / "libvirt/qemu.conf").write_text('stdio_handler = "file"\n', encoding="ascii")
        places = {name: str(self.dir) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
        self.options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [],
                        "env": os.environ | places | {"XDG_RUNTIME_DIR": str(self.dir / "run")}}  # fmt: skip
        bench.spawn(["libvirtd"], "libvirt.log", **self.options)
        deadline = time.monotonic() + 60
        while not (self.dir / "run/libvirt/libvirt-sock").exists():
            if time.monotonic() > deadline:
                raise SystemExit("libvirtd does not start")
            time.sleep(0.05)

    def __call__(self, *command):
        """What virsh prints; several commands are separated by ";"."""
        done = subprocess.run(["virsh", "-q", "-c", "qemu:///session", *command], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=120, check=False, **self.options)  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(f"virsh {command}: {done.stderr}")
        return done.stdout.splitlines()

    def describe(self, name, disk=None, nic=False):
        """A description of a domain of 64 MiB, for virsh define. `disk`: a qcow2 image, copied for it."""
        devices = "<emulator>/usr/bin/qemu-system-x86_64</emulator><serial type='null'/><graphics type='vnc' autoport='yes' listen='127.0.0.1'/>"
        if disk:
            own = shutil.copy(disk, self.dir / f"{name}.qcow2")
            os.chown(own, self.options["user"], self.options["group"])
            devices += (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{own}'/>"
                        "<target dev='vda' bus='virtio'/></disk>")  # fmt: skip
        if nic:
            devices += "<interface type='user'><model type='virtio'/></interface>"
        xml = self.dir / f"{name}.xml"
        xml.write_text(f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os>"
                       f"<type arch='x86_64' machine='q35'>hvm</type></os><devices>{devices}</devices></domain>",
                       encoding="ascii")  # fmt: skip
        os.chown(xml, self.options["user"], self.options["group"])
        return str(xml)
