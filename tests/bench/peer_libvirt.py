"""libvirt as a peer: its daemon in session mode, as a user of its own, with QEMU's driver. Measured beside ours when
Debian's libvirt-daemon-system, libvirt-clients and python3-libvirt are installed."""

import os
import pwd
import shutil
import subprocess
import time

PROGRAMS = ("libvirtd", "virsh")
PYTHON = "/usr/bin/python3"  # Debian's, which its modules are for

# What one client of its reads a second: the state of a domain, again and again.
INFO = """
import libvirt, sys, time
domain = libvirt.open("qemu:///session").lookupByName(sys.argv[1])
begun, done = time.monotonic(), 0
while time.monotonic() < begun + float(sys.argv[2]):
    domain.info()
    done += 1
print(done / (time.monotonic() - begun))
"""

# Milliseconds for each of some lists of all domains with their descriptions.
LIST = """
import libvirt, sys, time
connection = libvirt.open("qemu:///session")
for _ in range(int(sys.argv[1])):
    begun = time.monotonic()
    all = [domain.XMLDesc() for domain in connection.listAllDomains()]
    print(len(all), 1000 * (time.monotonic() - begun))
"""


def installed():
    return (all(shutil.which(program) for program in PROGRAMS) and
            subprocess.run([PYTHON, "-c", "import libvirt"], stderr=subprocess.DEVNULL, check=False).returncode == 0)  # fmt: skip


class Libvirt:
    """A libvirtd that ends with the benchmark, commanded with virsh."""

    def __init__(self, bench, name="libvirt"):
        self.dir = bench.dir / name
        user = pwd.getpwnam("nobody")
        for folder in (self.dir, self.dir / "run", self.dir / "libvirt"):
            folder.mkdir(mode=0o700)
            os.chown(folder, user.pw_uid, user.pw_gid)
        # Without the daemon for logs, which would outlive the benchmark.
        (self.dir / "libvirt/qemu.conf").write_text('stdio_handler = "file"\n', encoding="ascii")
        places = {name: str(self.dir) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
        self.options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [],
                        "env": os.environ | places | {"XDG_RUNTIME_DIR": str(self.dir / "run")}}  # fmt: skip
        self.process = bench.spawn(["libvirtd"], f"{name}.log", **self.options)
        deadline = time.monotonic() + 60
        while not (self.dir / "run/libvirt/libvirt-sock").exists():
            if time.monotonic() > deadline:
                raise SystemExit("libvirtd does not start")
            time.sleep(0.05)

    def end(self):
        self.process.terminate()
        self.process.wait()

    def __call__(self, *command):
        """What virsh prints; several commands are separated by ";"."""
        done = subprocess.run(["virsh", "-q", "-c", "qemu:///session", *command], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=120, check=False, **self.options)  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(f"virsh {command}: {done.stderr}")
        return done.stdout.splitlines()

    def _python(self, script, *arguments):
        return subprocess.Popen([PYTHON, "-c", script, *map(str, arguments)], stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, **self.options)  # fmt: skip

    @staticmethod
    def _lines(process):
        out = process.communicate(timeout=120)[0]
        if process.returncode != 0:
            raise SystemExit("a client of libvirt failed")
        return out.split("\n")[:-1]

    def define(self, count):
        self("; ".join(f"define {self.describe(f'peer{number}')}" for number in range(count)))

    def info_rate(self, name, clients, seconds):
        """virDomainGetInfo a second, all clients together, each a process."""
        all_of_them = [self._python(INFO, name, seconds) for _ in range(clients)]
        return sum(float(self._lines(process)[0]) for process in all_of_them)

    def list_ms(self, count, rounds):
        """Milliseconds for a list of all `count` domains with their descriptions, by one client that stays connected."""
        lines = [line.split() for line in self._lines(self._python(LIST, rounds))]
        if any(int(found) != count for found, _ in lines):
            raise SystemExit(f"libvirt does not list {count} domains: {lines}")
        return [float(ms) for _, ms in lines]

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
