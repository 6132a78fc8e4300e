#!/usr/bin/env python3
"""The tiny guest on its own, under a QEMU that this test starts: what a pool relies on.

Needs CORRAL_TEST_IMAGES, the folder that guest/build-tiny filled."""
import json
import os
import subprocess
import tempfile
import unittest

from waiting import Screen, connect_unix, descriptor_reader, until

IMAGES = os.environ.get("CORRAL_TEST_IMAGES", "")


class JsonSocket:
    """Requests and answers of QMP and of the guest agent, one JSON value a line."""

    def __init__(self, path):
        self.sock = connect_unix(path)
        self.file = self.sock.makefile("r", encoding="utf-8", errors="replace")

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, request):
        self.sock.sendall(json.dumps(request).encode() + b"\n")

    def answer(self, limit_s=30.0):
        self.sock.settimeout(limit_s)
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError("the peer closed the connection")
            message = json.loads(line.lstrip("\xff\ufffd"))
            if "return" in message or "error" in message:
                return message

    def call(self, command, limit_s=30.0, **arguments):
        self.send({"execute": command, "arguments": arguments})
        message = self.answer(limit_s)
        if "error" in message:
            raise AssertionError(f"{command}: {message['error']}")
        return message["return"]


class Guest:
    """One QEMU with the tiny guest, and all the doors that the pool's driver gives it."""

    def __init__(self, folder, agent=True):
        self.folder = folder
        self.disk = os.path.join(folder, "disk.raw")
        if not os.path.exists(self.disk):
            with open(self.disk, "wb") as disk:
                disk.truncate(256 << 20)
        arguments = [
            "qemu-system-x86_64", "-nodefaults", "-machine", "q35,accel=tcg", "-m", "256", "-display", "none",
            "-kernel", os.path.join(IMAGES, "tiny.vmlinuz"), "-initrd", os.path.join(IMAGES, "tiny.initrd"),
            "-append", "console=ttyS0 quiet", "-vga", "std",
            "-serial", "stdio", "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
            "-drive", f"file={self.disk},if=virtio,format=raw,file.locking=off",
            "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0",
            "-device", "virtio-serial-pci",
        ]
        if agent:
            arguments += ["-chardev", f"socket,id=ga,path={folder}/ga,server=on,wait=off",
                          "-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0"]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.serial = Screen(descriptor_reader(self.process.stdout.fileno()), self.process.stdin.write)

    def qmp(self):
        qmp = JsonSocket(f"{self.folder}/qmp")
        qmp.call("qmp_capabilities")
        return qmp

    def agent(self):
        """The guest agent, once it answers."""
        agent = JsonSocket(f"{self.folder}/ga")
        agent.send({"execute": "guest-sync", "arguments": {"id": 7}})
        while agent.answer(60.0) != {"return": 7}:
            pass
        return agent

    def ends(self, limit_s=30.0):
        until("power-off", lambda: self.process.poll() is not None, limit_s)
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@unittest.skipUnless(IMAGES, "CORRAL_TEST_IMAGES is not set")
class TinyGuest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="corral-guest-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def start(self, **options):
        guest = Guest(self.folder, **options)
        self.addCleanup(guest.close)
        return guest

    def test_agent_tells_os_and_address_and_powers_off(self):
        guest = self.start()
        agent = guest.agent()
        self.addCleanup(agent.close)
        self.assertEqual(agent.call("guest-get-osinfo")["name"], "Corral tiny Linux")

        def address():
            for interface in agent.call("guest-network-get-interfaces"):
                for each in interface.get("ip-addresses", []):
                    if each["ip-address"].startswith("10.0.2."):
                        return each["ip-address"]
            return None
        until("an address by DHCP", address)
        agent.send({"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}})
        self.assertEqual(guest.ends(), 0)

    def test_power_button_powers_off(self):
        guest = self.start(agent=False)
        guest.serial.login()
        qmp = guest.qmp()
        self.addCleanup(qmp.close)
        qmp.call("system_powerdown")
        self.assertEqual(guest.ends(), 0)

    def test_blank_disk_becomes_data_and_keeps_files_over_a_reboot(self):
        guest = self.start()
        guest.serial.login()
        until("/data", lambda: guest.serial.run("grep -q ' /data ' /proc/mounts")[0] == 0)
        guest.serial.run("echo kept >/data/file")
        guest.serial.send("reboot\n")
        guest.serial.login()
        until("/data", lambda: guest.serial.run("grep -q ' /data ' /proc/mounts")[0] == 0)
        self.assertEqual(guest.serial.run("cat /data/file"), (0, "kept"))
        guest.serial.send("poweroff\n")
        self.assertEqual(guest.ends(), 0)

    def test_foreign_disk_is_left_alone(self):
        content = (b"\0" * 512 + b"something else") .ljust(4 << 20, b"\0")
        path = os.path.join(self.folder, "disk.raw")
        with open(path, "wb") as disk:
            disk.write(content)
        guest = self.start()
        guest.serial.login()
        until("the disk looked at", lambda: guest.serial.run("grep -q 'left alone' /var/log/data.log")[0] == 0)
        guest.serial.send("poweroff\n")
        self.assertEqual(guest.ends(), 0)
        with open(path, "rb") as disk:
            self.assertEqual(disk.read(), content)

    def test_agent_starts_when_its_port_is_plugged_later(self):
        guest = self.start(agent=False)
        guest.serial.login()
        qmp = guest.qmp()
        self.addCleanup(qmp.close)
        qmp.call("chardev-add", id="ga", backend={"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": f"{self.folder}/ga"}}, "server": True, "wait": False}})
        qmp.call("device_add", driver="virtserialport", id="port", chardev="ga", name="org.qemu.guest_agent.0")
        agent = guest.agent()
        self.addCleanup(agent.close)
        self.assertEqual(agent.call("guest-get-host-name")["host-name"], "tiny")


if __name__ == "__main__":
    unittest.main(verbosity=2)
