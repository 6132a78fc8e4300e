"""Commands of xe against a real pool, their whole output compared; and each class listed in full."""
import os
import re
import subprocess
import sys
import unittest

import vms
from pool import ROOT, module_pool, program
from thin import ThinClient

sys.path.insert(0, os.path.join(ROOT, "openapi", "gen"))
import xe_gen  # noqa: E402

POOL = None
FORCE = "This operation must be forced (use --force).\n"
DANGEROUS = "Error: This operation is extremely dangerous and may cause data loss. " + FORCE
WLB = "The pool is not connected to a workload balancing service; connect it first. (WLB_NOT_INITIALIZED)\n"
UNBUILT = "The server refused the transfer with HTTP status 501.\n"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def setUpModule():
    global POOL
    POOL = module_pool(hosts=1)


def own_xe(*words):
    command = [program("xe"), "-s", "127.0.0.1", "-p", str(POOL.port), "-u", "root", "-pw", POOL.password, "--ca", POOL.ca]
    return subprocess.run([*command, *words], text=True, stdin=subprocess.DEVNULL, check=False, capture_output=True, timeout=120)


def block(*rows):
    """The block that xe prints for (name and tag, value) pairs."""
    width = 4 + max(len(name) for name, _ in rows)
    first = f"{rows[0][0]:<{width}}: {rows[0][1]}\n"
    return first + "".join(f"{name:>{width}}: {value}\n" for name, value in rows[1:]) + "\n\n"


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.api = POOL.login()
        cls.host, = cls.api.host.get_all()
        cls.client = ThinClient(POOL)

    def does(self, words, out="", err="", code=0):
        """`out` is the whole output, or a pattern of the whole. The engine runs behind the thin protocol, which is quick."""
        r = self.client.run(*words)
        self.assertEqual((r.code, r.err), (code, err), words)
        if isinstance(out, re.Pattern):
            self.assertRegex(r.out, out)
        else:
            self.assertEqual(r.out, out, words)
        return r.out

    def file(self, name, data=None):
        if data is not None:
            self.client.files[name] = data
        return name


class Commands(Case):
    def test_host(self):
        uuid = self.api.host.get_uuid(self.host)
        name = self.api.host.get_name_label(self.host)
        cpu = self.api.host.get_cpu_info(self.host)
        self.does(["host-all-editions"], "free\n")
        self.does(["host-apply-edition", "edition=free"])
        self.does(["host-apply-edition", "edition=none"], "",
                  "Valid editions are: free\nThere is no such edition; look at the host's editions. (INVALID_EDITION)\nedition: none\n", 1)
        self.does(["pool-apply-edition", "edition=free", "license-server-address=licences", "license-server-port=70000"], "",
                  "NOTE: The given port number is invalid; reverting to the current value.\n")
        self.assertEqual(self.api.host.get_license_server(self.host)["address"], "licences")
        licence = self.file("licence", b"x")
        self.does(["host-license-add", f"license-file={licence}"], "",
                  "Licence files of this kind are no longer taken; use a licence server. (LICENSE_FILE_DEPRECATED)\n", 1)
        self.does(["host-license-view"], re.compile(r"\A(.*\n)*\n\n\Z"))
        status = self.does(["diagnostic-license-status"], re.compile(r"\AHostname +UUID +Features +Edition +Expiry +Days left\n"))
        lines = status.splitlines()
        self.assertEqual((len(lines), len({len(line) for line in lines})), (5, 1), "a table of even width")
        self.assertIn(f"{uuid[:8]} ", lines[2])
        self.does(["host-cpu-info"], block(*cpu.items()))
        self.does(["host-get-cpu-features"], re.compile(r"\A(.*: .*\n)*\n\n\Z"))
        self.does(["pool-get-cpu-features"], re.compile(r"\A(.*: .*\n)*\n\n\Z"))
        self.does(["diagnostic-timing-stats"], re.compile(rf"\Ahost-uuid +: {uuid}\n +host-name-label: {re.escape(name)}\n( +\w+: .*\n)*\n\n\Z"))
        self.does(["diagnostic-db-stats"], re.compile(r"\ADB lock stats:( \w+=\S*)+\n\Z"))
        self.does(["host-apply-updates", "hash=x"], "",
                  "The pool has no update repository; add one first. (NO_REPOSITORIES_CONFIGURED)\n", 1)
        self.does(["update-resync-host", f"host-uuid={uuid}"])
        for command in (["host-enable-external-auth", "auth-type=AD", "service-name=x"], ["host-disable-external-auth"]):
            self.does([*command, f"host-uuid={uuid}"], "", "Error: This operation is provided only to recover individual hosts that are "
                      "unable to access the external authentication service. " + FORCE, 1)
        self.does(["host-logs-download", f"file-name={self.file('logs')}"])
        self.assertGreater(len(self.client.files["logs"]), 100)

    def test_the_server_alone(self):
        """Calls in a session of the server that answers, which need no coordinator."""
        self.does(["host-is-in-emergency-mode"], "false\n")
        self.does(["host-is-in-emergency-mode", "--minimal"], "\n")
        self.does(["host-ha-xapi-healthcheck"], "xapi is healthy.\n")
        self.does(["host-emergency-clear-mandatory-guidance"])
        self.does(["host-emergency-reenable-tls-verification"])
        self.does(["host-emergency-ha-disable"], "", DANGEROUS, 1)
        self.does(["pool-emergency-transition-to-master"],
                  "Host agent is already master. Use '--force' to execute the operation anyway.\n")
        self.does(["pool-emergency-reset-master", "master-address=192.0.2.1"], "",
                  "The operation is not allowed. (OPERATION_NOT_ALLOWED)\nreason: This server is the coordinator of its pool.\n", 1)
        r = own_xe("host-is-in-emergency-mode")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "false\n", ""))
        outcome = ThinClient(POOL, password="wrong").run("host-is-in-emergency-mode")
        self.assertEqual((outcome.code, outcome.out), (1, ""))

    def test_pool(self):
        uuid = self.api.host.get_uuid(self.host)
        dump = self.file("dump")
        self.does(["pool-dump-database", f"file-name={dump}"])
        self.assertTrue(self.client.files["dump"].startswith(b'<?xml version="1.0"?><database>'))
        self.does(["pool-restore-database", f"file-name={dump}"], "",
                  "Error: This operation will restore the database backup to this host, making it the master. All slave hosts are "
                  "assumed dead and they will be forgotten. " + FORCE, 1)
        self.does(["pool-restore-database", f"file-name={dump}", "dry-run=true"], "Dry-run backup restore successful\n")
        self.does(["pool-ha-compute-hypothetical-max-host-failures-to-tolerate"], "0\n")
        self.does(["pool-ha-compute-hypothetical-max-host-failures-to-tolerate", "restart-priority=restart"], "",
                  "Error: Call requires an equal number of vm-uuid and restart-priority arguments\n", 1)
        self.does(["pool-ha-compute-vm-failover-plan", f"host-uuids={uuid}"], "VM    : Destination Host or Error\n\n\n")
        for command in (["pool-retrieve-wlb-recommendations"], ["pool-send-wlb-configuration", "config:a=b"],
                        ["host-retrieve-wlb-evacuate-recommendations", f"uuid={uuid}"]):
            self.does(command, "", WLB, 1)
        for command in (["pool-sync-bundle", f"filename={dump}"], ["host-restore", f"file-name={dump}"],
                        ["pool-retrieve-wlb-diagnostics", f"filename={self.file('d')}"], ["host-backup", f"file-name={self.file('b')}"],
                        ["pool-retrieve-wlb-report", "report=r", "START=a b", f"filename={self.file('r')}"]):
            r = self.client.run(*command)
            self.assertEqual((r.code, r.out), (1, ""), command)
            self.assertNotEqual(r.err, "", command)
            self.assertNotIn("Unknown parameter", r.err)
        observer = self.does(["observer-create", "name-label=o"], re.compile(rf"\A{UUID}\n\Z")).strip()
        self.does(["observer-destroy", f"uuid={observer}"])
        self.api.message.create("N", 3, "Pool", self.api.pool.get_uuid(self.api.pool.get_all()[0]), "body")
        self.does(["message-destroy-all", "before=2020-01-01T00:00:00Z"])
        self.assertNotEqual(self.api.message.get_all(), [])
        self.does(["message-destroy-all", "priority=3"])
        self.assertEqual([m for m in self.api.message.get_all_records().values() if m["priority"] == 3], [])
        self.does(["message-destroy-all", "priority=x"], "", "Error: Invalid priority format (expected positive integer)\n", 1)
        for command in (["host-forget"], ["host-declare-dead"]):
            self.client.answers = ["no"]
            self.does([*command, f"uuid={uuid}"], re.compile(r"\A(WARNING: .*\n)+Type 'yes' to continue\n\Z"),
                      "Error: aborted: nothing was changed\n", 1)
        self.client.answers = ["no"]
        self.does(["pool-eject", f"host-uuid={uuid}"], re.compile(
            r"\AWARNING: Ejecting a host from the pool will reinitialise that host's local SRs.\n"
            r"WARNING: Any data contained with the local SRs will be lost.\n(.*\n)*Type 'yes' to continue\n\Z"),
            "Error: aborted: nothing was changed\n", 1)
        r = own_xe("pool-eject", f"host-uuid={uuid}")
        self.assertEqual((r.returncode, r.stderr), (1, "Error: there is no answer to read; say force=true\n"))
        self.does(["session-subject-identifier-list"])

    def test_vm(self):
        uuid = self.does(["vm-create", "name-label=bare"], re.compile(rf"\A{UUID}\n\Z")).strip()
        self.does(["vm-list", "name-label=bare"],
                  block(("uuid ( RO)", uuid), ("name-label ( RW)", "bare"), ("power-state ( RO)", "halted")))
        self.does(["vm-crashdump-list", f"uuid={uuid}"])
        self.does(["vm-retrieve-wlb-recommendations", f"uuid={uuid}"], "", WLB, 1)
        self.does(["vm-reset-powerstate", f"uuid={uuid}"], "", DANGEROUS, 1)
        self.does(["vm-reset-powerstate", f"uuid={uuid}", "--force"])
        self.does(["vm-sysprep", f"uuid={uuid}", f"filename={self.file('answers', b'<unattend/>')}"], "",
                  f"The VM is not in the power state that this needs. (VM_BAD_POWER_STATE)\nvm: {uuid} (bare)\nexpected: running\n"
                  "actual: halted\n", 1)
        snapshot = self.does(["vm-snapshot", f"uuid={uuid}", "new-name-label=s"], re.compile(rf"\A{UUID}\n\Z")).strip()
        self.does(["snapshot-reset-powerstate", f"uuid={snapshot}"], "", DANGEROUS, 1)
        self.does(["snapshot-reset-powerstate", f"uuid={snapshot}", "--force"])
        self.does(["snapshot-uninstall", f"uuid={snapshot}", "--force"], re.compile(r"All objects destroyed\n\Z"))
        blob = self.does(["blob-create", "name=b", f"vm-uuid={uuid}"], re.compile(rf"\A{UUID}\n\Z")).strip()
        self.does(["blob-create", "name=b"], "", "Error: Need one of: vm-uuid, host-uuid, network-uuid, sr-uuid or pool-uuid\n", 1)
        content = os.urandom(100_000)
        self.does(["blob-put", f"uuid={blob}", f"filename={self.file('in', content)}"], "Blob put succeeded\n")
        self.does(["blob-get", f"uuid={blob}", f"filename={self.file('out')}"], "Blob get succeeded\n")
        self.assertEqual(self.client.files["out"], content)
        path = os.path.join(POOL.folder, "blob")
        for code, out, err in ((0, "Blob get succeeded\n", ""), (1, "", f"Error: {path} exists already\n")):
            r = own_xe("blob-get", f"uuid={blob}", f"filename={path}")
            self.assertEqual((r.returncode, r.stdout, r.stderr), (code, out, err))
        self.does(["vm-uninstall", f"uuid={uuid}", "--force"], re.compile(r"All objects destroyed\n\Z"))

    def test_a_vm_that_cannot_move(self):
        vm = self.api.VM.create(vms.record("fixed"))
        self.api.VM.start(vm, False, False)
        self.does(["host-get-vms-which-prevent-evacuation", f"uuid={self.api.host.get_uuid(self.host)}"],
                  block(("uuid ( RO)", self.api.VM.get_uuid(vm)), ("name-label ( RW)", "fixed"), ("reason ( RO)", "NO_HOSTS_AVAILABLE")))
        self.api.VM.hard_shutdown(vm)
        self.api.VM.destroy(vm)

    def test_storage_and_network(self):
        sr = self.api.SR.create(self.host, {"location": os.path.join(POOL.folder, "sr")}, 0, "disks", "", "file", "", False, {})
        uuid = self.api.SR.get_uuid(sr)
        self.does(["lvhd-enable-thin-provisioning", f"sr-uuid={uuid}", "initial-allocation=1GiB", "allocation-quantum=1MiB"], "",
                  f"This kind of SR cannot do that. (SR_OPERATION_NOT_SUPPORTED)\nsr: {uuid} (disks)\n", 1)
        self.does(["update-upload", f"file-name={self.file('u', b'u' * 5000)}", f"sr-uuid={uuid}"], "",
                  "The file is not a valid update; the info says why. (INVALID_UPDATE)\n"
                  "info: Updates of this server are packages of the distribution, not disks.\n", 1)
        self.assertEqual(self.api.SR.get_VDIs(sr), [], "what was uploaded in vain is gone")
        self.does(["update-upload", f"file-name={self.file('u')}"], "", "Error: the pool has no default SR; say sr=\n", 1)
        pif = next(p for p, r in self.api.PIF.get_all_records().items() if r["physical"])
        network = self.does(["network-create", "name-label=n"], re.compile(rf"\A{UUID}\n\Z")).strip()
        made = self.does(["vlan-create", f"pif-uuid={self.api.PIF.get_uuid(pif)}", "vlan=7", f"network-uuid={network}"],
                         re.compile(rf"\A{UUID}\n\Z")).strip()
        self.assertEqual(self.api.PIF.get_VLAN(self.api.PIF.get_by_uuid(made)), 7, "the PIF's uuid is what scripts go on with")
        self.does(["vlan-destroy", f"uuid={made}"])
        self.does(["vlan-destroy", f"uuid={made}"], "",
                  f"There is no object of this class with this uuid. (UUID_INVALID)\ntype: VLAN\nuuid: {made}\n", 1)
        self.does(["network-destroy", f"uuid={network}"])

    def test_repository(self):
        made = self.does(["repository-introduce-remote-pool", "name-label=r", "binary-url=https://192.0.2.1/repo",
                          f"certificate-file={self.file('ca', b'certificate')}"], re.compile(rf"\A{UUID}\n\Z")).strip()
        self.does(["repository-forget", f"uuid={made}"])
        self.does(["hostdriver-select", "uuid=x", "variant-name=y"], "",
                  "There is no object of this class with this uuid. (UUID_INVALID)\ntype: Host_driver\nuuid: x\n", 1)
        self.does(["host-crashdump-upload", "uuid=x"], "",
                  "There is no object of this class with this uuid. (UUID_INVALID)\ntype: host_crashdump\nuuid: x\n", 1)


class EveryClass(Case):
    """Each class is listed in full, and the blocks follow the rules of alignment."""

    def rendered(self, text):
        """The blocks of a listing, written anew."""
        out = ""
        for piece in text.split("\n\n\n")[:-1]:
            rows = [re.match(r"\s*(\S+ \([A-Z ]{3}\)(?: \[DEPRECATED\])?)\s*: (.*)\Z", line, re.S) for line in re.split(
                r"\n(?=\s*[^\s:]+ \([A-Z ]{3}\))", piece)]  # fmt: skip
            self.assertNotIn(None, rows, piece)
            out += block(*[row.groups() for row in rows])
        return out

    def test_lists(self):
        x = xe_gen.XeDescription(os.path.join(ROOT, "openapi"))
        client, listed = ThinClient(POOL), 0
        for name, cls in x.classes.items():
            if "list" not in cls["raw"]["generate"]:
                continue
            with self.subTest(cls=name):
                outcome = client.run(f"{name}-list", "params=all")
                self.assertEqual((outcome.code, outcome.err), (0, ""))
                self.assertEqual(outcome.out, self.rendered(outcome.out))
                minimal = client.run(f"{name}-list", "params=uuid", "--minimal")
                self.assertEqual((minimal.code, minimal.err), (0, ""))
                uuids = [u for u in minimal.out.strip("\n").split(",") if u]
                self.assertEqual(len(uuids), outcome.out.count("\n\n\n"))
                if not uuids or "uuid" not in cls["fields"]:
                    continue
                listed += 1
                record = client.run(f"{name}-param-list", f"uuid={uuids[0]}")
                self.assertEqual((record.code, record.err), (0, ""))
                self.assertEqual(record.out, self.rendered(record.out))
                one = client.run(f"{name}-param-get", f"uuid={uuids[0]}", "param-name=uuid")
                self.assertEqual((one.code, one.out, one.err), (0, uuids[0] + "\n", ""))
        self.assertGreater(listed, 10)


if __name__ == "__main__":
    unittest.main()
