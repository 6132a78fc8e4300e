"""POST /cli: commands by the thin protocol give what our own xe gives, and bad clients disturb nobody."""
import io
import json
import os
import struct
import subprocess
import tarfile
import unittest

import thin
import vms
from pool import module_pool, program, until
from thin import ThinClient

POOL = None


def setUpModule():
    global POOL
    POOL = module_pool(hosts=1)


def own_xe(*words):
    env = dict(os.environ, XE_SERVER="127.0.0.1", XE_PORT=str(POOL.port), XE_USER="root", XE_CAFILE=POOL.ca)
    run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(POOL.port), "-u", "root", "-pw", POOL.password,
                          "--ca", POOL.ca, *words], env=env, text=True, stdin=subprocess.DEVNULL, check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return run.returncode, run.stdout, run.stderr


class CliTest(unittest.TestCase):
    def setUp(self):
        self.api = POOL.login()
        self.thin = ThinClient(POOL)

    def test_the_same_as_our_own_xe(self):
        for words in (["host-list"], ["host-list", "--minimal"], ["vm-list", "params=all"],
                      ["template-list", "params=name-label"], ["vm-list", "uuid=nonsense"], ["vm-start", "vm=nobody"],
                      ["no-such-command"], ["help"], ["pool-param-get", "param-name=master", "uuid=x"],
                      ["host-param-list", "uuid=x"], ["vm-list", "name-label=a=b"]):
            with self.subTest(words=words):
                outcome = self.thin.run(*words)
                self.assertEqual((outcome.code, outcome.out, outcome.err), own_xe(*words))

    def test_why(self):
        """Reasons, and what would change them, through both doors."""
        vm = self.api.VM.create(vms.record("reasoned"))
        code, out, err = own_xe("why", "vm=reasoned", "op=unpause")
        self.assertEqual((code, err), (0, ""))
        uuid = self.api.VM.get_uuid(vm)
        doc = out.split("VM_BAD_POWER_STATE: ")[1].split("\n")[0]
        self.assertEqual(out, f"unpause of VM reasoned is refused now:\n    VM_BAD_POWER_STATE: {doc}\n        vm: {uuid} (reasoned)\n"
                              "        expected: paused\n        actual: halted\n        -> No operation that is allowed now leads there.\n")
        outcome = self.thin.run("why", "vm=reasoned", "op=unpause")
        self.assertEqual((outcome.code, outcome.out), (0, out))
        self.api.VM.set_blocked_operations(vm, {"hard_shutdown": "kept"})
        code, out, _ = own_xe("why", "vm=reasoned", "op=hard-shutdown", "--json")
        answer = json.loads(out)
        self.assertEqual((code, answer["allowed"], [r["code"] for r in answer["reasons"]]),
                         (0, False, ["OPERATION_BLOCKED", "VM_BAD_POWER_STATE"]))
        self.assertIn("start", answer["reasons"][1]["change"])
        self.assertEqual(own_xe("why", "vm=reasoned", "op=start", "--minimal")[:2], (0, "allowed\n"))
        self.assertIn("could run it\n", own_xe("why", "vm=reasoned", "op=start")[1])
        self.assertEqual(own_xe("why", "vm=reasoned", "op=fly")[0], 1)
        task = own_xe("vm-start", "vm=reasoned", "--async")[1].strip()
        self.assertEqual(own_xe("task-wait", f"uuid={task}")[:2], (0, ""))
        task = own_xe("vm-start", "vm=reasoned", "--async")[1].strip()
        until("the end of the task", lambda: self.api.task.get_status(self.api.task.get_by_uuid(task)) == "failure", 60)
        self.assertIn("has failed:\n    VM_BAD_POWER_STATE: ", own_xe("task-why", f"task={task}")[1])
        self.assertEqual(own_xe("task-why", "task=nothing")[0], 1)
        self.api.VM.set_blocked_operations(vm, {})
        self.api.VM.hard_shutdown(vm)
        code, out, err = own_xe("host-doctor")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("  ok      agent       answers\n", out)

    def test_wrong_password(self):
        outcome = ThinClient(POOL, password="wrong").run("vm-list")
        self.assertEqual(outcome.code, 1)
        self.assertIn("Authentication failed", outcome.err)

    def test_without_login_words(self):
        outcome = self.thin.run("vm-list", login=False)
        self.assertEqual(outcome.code, 1)
        self.assertNotEqual(outcome.err, "")

    def test_session_given(self):
        outcome = self.thin.run(f"session_id={self.api.session}", "host-list", "--minimal", login=False)
        self.assertEqual((outcome.code, outcome.out.strip()), (0, self.api.host.get_all_records().popitem()[1]["uuid"]))
        self.api.host.get_all()  # the session is ours and still there
        again = self.thin.run(*2 * [f"session_id={self.api.session}"], "host-list", login=False)
        self.assertEqual(again.code, 1, "it is said once")

    def test_no_session_is_left(self):
        def logins():
            return POOL.poold.log().count("logged in"), POOL.poold.log().count("session.logout")
        before = logins()
        self.thin.run("host-list")
        after = until("the session was closed", lambda: logins() if logins()[1] > before[1] else None)
        self.assertEqual((after[0] - before[0], after[1] - before[1]), (1, 1))

    def test_carriage_returns(self):
        self.thin.request = lambda words, login: thin.ThinClient.request(
            self.thin, [w + "\r" for w in [*words, "username=root", f"password={POOL.password}"]], False)
        outcome = self.thin.run("host-list", "--minimal")
        self.assertEqual(outcome.code, 0)

    def test_a_file_of_the_client(self):
        sr = self.api.SR.create(self.api.host.get_all()[0], {"location": os.path.join(POOL.folder, "sr")}, 0, "disks", "",
                                "file", "", False, {})
        vdi = self.api.VDI.create({"SR": sr, "virtual_size": 1 << 20, "type": "user", "sharable": False,
                                   "read_only": False, "other_config": {}})
        uuid = self.api.VDI.get_uuid(vdi)
        content = os.urandom(1 << 20)
        self.thin.files["in.raw"] = content
        outcome = self.thin.run("vdi-import", f"uuid={uuid}", "filename=in.raw", "format=raw")
        self.assertEqual((outcome.code, outcome.err), (0, ""))
        outcome = self.thin.run("vdi-export", f"uuid={uuid}", "filename=out.raw", "format=raw")
        self.assertEqual((outcome.code, outcome.err), (0, ""))
        self.assertEqual(self.thin.files["out.raw"], content)
        # What the server does not convert: it says what does.
        with io.BytesIO() as archive:
            with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                tar.addfile(tarfile.TarInfo("web.ovf"))
            self.thin.files["web.ova"] = archive.getvalue()
        outcome = self.thin.run("vm-import", "filename=web.ova", f"sr-uuid={self.api.SR.get_uuid(sr)}")
        self.assertEqual((outcome.code, "This is an OVA" in outcome.err, "Corral's own xe" in outcome.err), (1, True, True), outcome.err)

    def test_confirmation(self):
        vm = self.api.VM.create({"name_label": "gone", "name_description": "", "user_version": 1, "is_a_template": False,
                                 "affinity": "OpaqueRef:NULL", "memory_static_max": 1 << 28, "memory_dynamic_max": 1 << 28,
                                 "memory_dynamic_min": 1 << 28, "memory_static_min": 1 << 28, "VCPUs_params": {},
                                 "VCPUs_max": 1, "VCPUs_at_startup": 1, "actions_after_shutdown": "destroy",
                                 "actions_after_reboot": "restart", "actions_after_crash": "destroy", "PV_bootloader": "",
                                 "PV_kernel": "", "PV_ramdisk": "", "PV_args": "", "PV_bootloader_args": "",
                                 "PV_legacy_args": "", "HVM_boot_policy": "BIOS order", "HVM_boot_params": {},
                                 "platform": {}, "PCI_bus": "", "other_config": {}, "recommendations": ""})
        uuid = self.api.VM.get_uuid(vm)
        self.thin.answers = ["no"]
        outcome = self.thin.run("vm-uninstall", f"uuid={uuid}")
        self.assertEqual(outcome.code, 1)
        self.assertIn("Type 'yes' to continue\n", outcome.out)
        self.thin.answers = ["yes"]
        outcome = self.thin.run("vm-uninstall", f"uuid={uuid}")
        self.assertEqual((outcome.code, outcome.err), (0, ""))
        self.assertEqual(self.api.VM.get_by_name_label("gone"), [])

    def test_join_token(self):
        outcome = self.thin.run("host-join-token", "--minimal")
        self.assertEqual(outcome.code, 0)
        self.assertRegex(outcome.out, r"^[\w-]+\.[0-9a-f]{64}\n$")

    def test_bad_clients(self):
        hello, magic = thin.HELLO, thin.MAGIC
        bad = [
            b"", b"GET / HTTP/1.0\r\n\r\n" + b"x" * 40, magic + struct.pack("<ii", 1, 0),
            hello + struct.pack("<i", -1), hello + struct.pack("<i", 1 << 30), hello + struct.pack("<iii", 8, 9, 0),
            hello + struct.pack("<iiii", 12, 11, 7, 1 << 30), hello + struct.pack("<iii", 8, 11, 8),
        ]
        for data in bad:
            with self.subTest(data=data), POOL.connect() as client:
                client.sendall(self.thin.request(["vm-param-set", "uuid=x", "name-label=y"]))
                client.sendall(data)
                client.settimeout(60)
                if data:
                    client.shutdown(1)
        status, _, _ = POOL.http("POST", "/cli", b"a\0b")
        self.assertEqual(status, 400)
        status, _, _ = POOL.http("POST", "/cli", b"x" * (200 * 1024 + 1))
        self.assertEqual(status, 413)
        self.assertEqual(self.thin.run("host-list").code, 0)


if __name__ == "__main__":
    unittest.main()
