#!/usr/bin/env python3
"""What a person does with a running guest through xe: suspend and resume it, send it to another host, plug a disk in, take
snapshots and checkpoints and go back to them. Files in the guest, on its disk and in its memory, tell whether it is true."""
import base64
import os
import subprocess
import unittest

from installation import Installation, processes
from waiting import until

TEMPLATE = "Corral tiny Linux"


class LifeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Installation("--hosts", "2")
        cls.addClassCleanup(cls.site.close)

    def setUp(self):
        self.pool = self.site.pool()
        self.name = self.id().rpartition(".")[2].replace("_", "-")
        self.uuid = self.xe("vm-install", f"template={TEMPLATE}", f"new-name-label={self.name}")
        self.vm = self.pool.VM.get_by_uuid(self.uuid)
        self.addCleanup(self.remove)
        self.xe("vm-start", f"uuid={self.uuid}")
        self.shell = self.login()

    def remove(self):
        for snapshot in self.xe("snapshot-list", f"snapshot-of={self.uuid}", "params=uuid", "--minimal").split(","):
            if snapshot:
                self.xe("snapshot-uninstall", f"snapshot-uuid={snapshot}", "force=true")
        self.xe("vm-uninstall", f"uuid={self.uuid}", "force=true")

    def xe(self, *arguments):
        return self.site.xe(*arguments)

    def login(self):
        shell = self.site.serial(self.pool, self.vm)
        shell.login(180)
        until("/data", lambda: shell.run("grep -q ' /data ' /proc/mounts")[0] == 0, 60)
        return shell

    def again(self):
        """The shell of a guest that goes on where it was."""
        shell = self.site.serial(self.pool, self.vm)
        shell.send("\n")
        shell.expect("# ")
        return shell

    def say(self, command):
        code, text = self.shell.run(command)
        self.assertEqual(code, 0, f"{command}: {text}")
        return text

    def state(self):
        return self.xe("vm-param-get", f"uuid={self.uuid}", "param-name=power-state")

    def test_suspend_and_resume(self):
        self.say("echo disk >/data/file; sync; echo memory >/tmp/mark")
        self.say("(while :; do sleep 1000; done) & echo $! >/tmp/pid")
        self.xe("vm-suspend", f"uuid={self.uuid}")
        self.assertEqual(self.state(), "suspended")
        self.assertIsNone(self.site.device_model(self.uuid))
        self.xe("vm-resume", f"uuid={self.uuid}")
        self.assertEqual(self.state(), "running")
        self.shell = self.again()
        self.assertEqual(self.say("cat /data/file /tmp/mark").split(), ["disk", "memory"])
        self.say("kill -0 $(cat /tmp/pid)")
        self.assertEqual(self.pool.VM.get_suspend_VDI(self.vm), "OpaqueRef:NULL")
        self.xe("vm-shutdown", f"uuid={self.uuid}")

    def test_a_guest_whose_storage_is_full_waits_and_goes_on(self):
        small = os.path.join(self.site.folder, "small")
        os.mkdir(small)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], capture_output=True, text=True,
                                 check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no file system of its own: {mounted.stderr}")
        self.addCleanup(subprocess.run, ["umount", "-l", small], check=False)
        host = self.pool.host.get_uuid(self.pool.VM.get_resident_on(self.vm))
        sr = self.xe("sr-create", f"host-uuid={host}", "type=file", "name-label=small", f"device-config:location={small}/sr")
        vdi = self.xe("vdi-create", f"sr-uuid={sr}", "name-label=data", "virtual-size=16MiB")
        vbd = self.xe("vbd-create", f"vm-uuid={self.uuid}", f"vdi-uuid={vdi}", "device=5")
        self.xe("vbd-plug", f"uuid={vbd}")
        until("the disk is there", lambda: self.shell.run("grep -q ' 16384 ' /proc/partitions")[0] == 0, 30)
        name = self.say("awk '$3 == 16384 {print $4}' /proc/partitions").split()[-1]
        self.shell.send(f"dd if=/dev/zero of=/dev/{name} bs=64k count=256 && echo writ''ten\n")
        until("it is paused", lambda: self.state() == "paused", 60)
        body = self.xe("message-list", "name=VM_PAUSED_BY_DISK", "params=body", "--minimal")
        for part in (self.name, f"'data' ({vdi}", "in SR 'small'", "No space left on device"):
            self.assertIn(part, body)
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        self.xe("vm-unpause", f"uuid={self.uuid}")
        self.shell.expect("written")
        self.assertEqual(self.state(), "running")
        self.xe("vm-shutdown", f"uuid={self.uuid}", "force=true")
        self.xe("vdi-destroy", f"uuid={vdi}")
        self.xe("pbd-unplug", "uuid=" + self.xe("pbd-list", f"sr-uuid={sr}", "--minimal"))
        self.xe("sr-destroy", f"uuid={sr}")

    def test_snapshot_and_revert(self):
        self.say("echo one >/data/file; sync")
        snapshot = self.xe("vm-snapshot", f"uuid={self.uuid}", "new-name-label=before")
        self.assertIn(snapshot, self.xe("snapshot-list", "params=uuid", "--minimal"))
        self.assertEqual(self.say("echo two >/data/file; sync; cat /data/file"), "two")
        self.xe("snapshot-revert", f"snapshot-uuid={snapshot}")
        self.assertEqual(self.state(), "halted")
        self.xe("vm-start", f"uuid={self.uuid}")
        self.shell = self.login()
        self.assertEqual(self.say("cat /data/file"), "one")
        self.xe("vm-shutdown", f"uuid={self.uuid}", "force=true")

    def test_checkpoint_and_revert(self):
        self.say("echo one >/tmp/mark; echo one >/data/file; sync")
        checkpoint = self.xe("vm-checkpoint", f"uuid={self.uuid}", "new-name-label=before")
        self.assertEqual(self.state(), "running")
        self.say("echo two >/tmp/mark; echo two >/data/file; sync")
        self.xe("snapshot-revert", f"snapshot-uuid={checkpoint}")
        self.assertEqual(self.state(), "suspended")
        self.xe("vm-resume", f"uuid={self.uuid}")
        self.shell = self.again()
        self.assertEqual(self.say("cat /tmp/mark /data/file").split(), ["one", "one"])
        self.xe("vm-shutdown", f"uuid={self.uuid}", "force=true")

    @unittest.skipUnless(os.path.exists("/usr/bin/swtpm"), "package swtpm")
    def test_migrate_with_a_tpm(self):
        """The guest goes on where it was, its disk and the contents of its TPM with it; nothing runs on the first host."""
        self.xe("vm-shutdown", f"uuid={self.uuid}", "force=true")
        self.pool.VTPM.create(self.vm, False)
        self.xe("vm-start", f"uuid={self.uuid}")
        self.shell = self.login()
        self.say("echo disk >/data/file; sync; echo memory >/tmp/mark")
        self.say("(while :; do sleep 1000; done) & echo $! >/tmp/pid")
        here = self.pool.VM.get_resident_on(self.vm)
        there, = [host for host in self.pool.host.get_all() if host != here]
        before = self.tpms()
        self.xe("vm-migrate", f"uuid={self.uuid}", f"host-uuid={self.pool.host.get_uuid(there)}", "live=true")
        self.assertEqual((self.pool.VM.get_resident_on(self.vm), self.state()), (there, "running"))
        self.shell = self.again()
        self.assertEqual(self.say("cat /data/file /tmp/mark").split(), ["disk", "memory"])
        self.say("kill -0 $(cat /tmp/pid)")
        until("one TPM, on the other host", lambda: len(self.tpms()) == 1 and self.tpms().isdisjoint(before))
        self.xe("vm-shutdown", f"uuid={self.uuid}", "force=true")
        self.assertEqual(self.tpms(), set())
        # What the pool has of it now is what the next start, on whichever host, begins with.
        kept = sorted(base64.b64decode(secret["value"]) for secret in self.pool.secret.get_all_records().values())
        self.assertTrue(any(kept))
        self.xe("vm-start", f"uuid={self.uuid}", f"on={self.pool.host.get_uuid(here)}")
        self.assertEqual(len(self.tpms()), 1)
        self.xe("vm-shutdown", f"uuid={self.uuid}", "force=true")

    def tpms(self):
        """Pids of the processes of TPMs of this installation."""
        run = os.path.realpath(self.site.state)

        def works_here(pid):
            try:
                return os.readlink(f"/proc/{pid}/cwd").startswith(run)
            except OSError:
                return False
        return {pid for pid, arguments in processes() if b"swtpm" in os.path.basename(arguments[0]) and
                (works_here(pid) or run.encode() in b" ".join(arguments))}

    def test_plug_and_unplug(self):
        repository = self.xe("vm-disk-list", f"uuid={self.uuid}", "vbd-params=", "vdi-params=sr-uuid", "--minimal")
        vdi = self.xe("vdi-create", f"sr-uuid={repository}", "name-label=more", "virtual-size=8MiB", "type=user")
        vbd = self.xe("vbd-create", f"vm-uuid={self.uuid}", f"vdi-uuid={vdi}", "device=5")
        self.xe("vbd-plug", f"uuid={vbd}")
        until("the guest sees it", lambda: "8192 vd" in " ".join(self.say("cat /proc/partitions").split()))
        self.xe("vbd-unplug", f"uuid={vbd}")
        self.assertNotIn("8192 vd", " ".join(self.say("cat /proc/partitions").split()))
        self.xe("vbd-destroy", f"uuid={vbd}")
        self.xe("vdi-destroy", f"uuid={vdi}")
        self.xe("vm-shutdown", f"uuid={self.uuid}", "force=true")


if __name__ == "__main__":
    unittest.main(verbosity=2)
