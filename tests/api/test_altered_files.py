"""Files that somebody altered: in each kind that an importer reads every field missing, null, of another type and out of
range, in turn. Each is refused as what it is or means something; nothing stays of it, nobody's memory grows with what a
file says of itself, and the daemons live on.

CORRAL_ALTERED=all tries every one; otherwise a sample of each kind, which CORRAL_ALTERED_SEED (1) chooses."""
import collections
import copy
import gzip
import html
import io
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import unittest
import urllib.parse
import xmlrpc.client

from pool import NULL, disk_files, module_pool, program, until
from test_events import vm_record

ALL = os.environ.get("CORRAL_ALTERED") == "all"
SAMPLE = 60
RNG = random.Random(int(os.environ.get("CORRAL_ALTERED_SEED", "1")))
MISSING = object()
HUGE = "9" * 40
GROWTH_MIB = 128  # how much a daemon or xe may grow, with its sanitizer; with the longest ova.xml twice that
POOL = None


def setUpModule():
    global POOL
    os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=16")  # what is freed is to count as free
    POOL = module_pool(hosts=1)


def some(cases):
    cases = list(cases)
    return cases if ALL or len(cases) <= SAMPLE else RNG.sample(cases, SAMPLE)


def paths(value, path=()):
    """Of all members of structs and arrays."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from paths(value[key], (*path, key))


def replaced(tree, path, by):
    """A copy with another value there; MISSING: without it."""
    out = copy.deepcopy(tree)
    at = out
    for key in path[:-1]:
        at = at[key]
    if by is MISSING:
        del at[path[-1]]
    else:
        at[path[-1]] = by
    return out


def others(value):
    """What else may stand in its place."""
    yield from (MISSING, None)
    yield [value] if not isinstance(value, list) else {}
    if not isinstance(value, (dict, list)):
        yield from ("", "-1", HUGE, {"a": "b"}, not value if isinstance(value, bool) else True, "\u00e4\n\"<" * 50)


def altered(tree):
    return ((path, by) for path in paths(tree) for by in others(at_path(tree, path)))


def at_path(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def resident(daemon):
    with open(f"/proc/{daemon.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmRSS"))


class Case(unittest.TestCase):
    def setUp(self):
        self.api = POOL.login()
        self.host = self.api.host.get_all()[0]
        self.path = os.path.join(POOL.folder, self.id().rpartition(".")[2])
        self.sr = self.api.SR.create(self.host, {"location": self.path}, 0, self.id(), "", "file", "", False, {})

    def upload(self, target, body, **query):
        """With a task: its record at the end."""
        task = self.api.task.create("import", "")
        query = urllib.parse.urlencode({"task_id": task, **query})
        POOL.http("PUT", f"{target}?{query}", body, {"Cookie": f"session_id={self.api.session}"}, 120)
        until("the task ends", lambda: self.api.task.get_status(task) != "pending", 60, 0.002)
        record = self.api.task.get_record(task)
        self.api.task.destroy(task)
        return record

    def rows(self):
        return {cls: sorted(getattr(self.api, cls).get_all())
                for cls in ("VM", "VDI", "VBD", "VIF", "VTPM", "network", "VM_metrics", "VGPU", "PCI")}

    def alive(self):
        self.assertTrue(POOL.poold.running and POOL.hosts[0].running)
        self.assertEqual(POOL.live_hosts(self.api), 1)


class Xva(Case):
    """ova.xml, as this server writes it of a VM that has one of everything."""

    def furnished(self):
        api = self.api
        vm = api.VM.create({**vm_record("altered"), "HVM_boot_policy": "BIOS order", "HVM_boot_params": {"firmware": "uefi"}})
        disk = api.VDI.create({"SR": self.sr, "virtual_size": 1 << 20, "type": "user", "sharable": False, "read_only": False,
                               "other_config": {"a": "b"}, "name_label": "disk"})
        for device, vdi, kind in (("0", disk, "Disk"), ("3", NULL, "CD")):
            api.VBD.create({"VM": vm, "VDI": vdi, "userdevice": device, "bootable": False, "mode": "RW" if kind == "Disk" else "RO",
                            "type": kind, "unpluggable": True, "empty": vdi == NULL, "other_config": {"owner": ""},
                            "qos_algorithm_type": "", "qos_algorithm_params": {}})
        network, = api.network.get_by_name_label("User-mode network (NAT)")
        api.VIF.create({"device": "0", "network": network, "VM": vm, "MAC": "", "MTU": 1500, "other_config": {},
                        "qos_algorithm_type": "", "qos_algorithm_params": {}})
        api.VTPM.create(vm, False)
        api.VM.snapshot(vm, "altered too")
        return vm

    def exported(self, vm):
        query = urllib.parse.urlencode({"ref": vm, "include_vhd_parents": "false", "export_snapshots": "true"})
        status, _, body = POOL.http("GET", f"/export_metadata?{query}", None, {"Cookie": f"session_id={self.api.session}"}, 60)
        self.assertEqual(status, 200)
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            text = tar.extractfile("ova.xml").read().decode()
        (value,), _ = xmlrpc.client.loads(f"<params><param>{text}</param></params>")
        return value

    @staticmethod
    def archive(value):
        text = xmlrpc.client.dumps((value,), allow_none=True)
        text = text[text.index("<value>"):text.rindex("</value>") + len("</value>")].encode()
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            info = tarfile.TarInfo("ova.xml")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
        return out.getvalue()

    def remove(self, before):
        for vm in set(self.api.VM.get_all()) - set(before["VM"]):
            self.api.VM.destroy(vm)

    def test_each_field(self):
        good = self.exported(self.furnished())
        self.assertEqual({o["class"] for o in good["objects"]} >= {"VM", "VDI", "VBD", "VIF", "VTPM", "network", "SR"}, True)
        before = self.rows()
        self.assertEqual(self.upload("/import_metadata", self.archive(good))["error_info"], [])
        self.remove(before)
        outcomes = collections.Counter()
        for path, by in some(altered(good)):
            with self.subTest(path=path, by=by):
                record = self.upload("/import_metadata", self.archive(replaced(good, path, by)))
                outcomes[record["status"]] += 1
                if record["error_info"]:
                    self.assertNotIn(record["error_info"][0], ("INTERNAL_ERROR", "SERVER_ERROR"), record["error_info"])
                self.remove(before)
                self.assertEqual(self.rows(), before)
        self.assertTrue(outcomes["success"] and outcomes["failure"], outcomes)
        self.alive()



class Dump(Case):
    """The database as XML: each attribute of one row of each class, and what stands around the rows."""

    VALUES = ("", "-1", HUGE, "OpaqueRef:x", "(('a' 'b'", "((", "&#x0;", "\u00e4'\\" * 50)

    def cases(self, text):
        """From where to where there is something else."""
        seen = set()
        for table in re.finditer(r'<table name="(\w+)">\s*(<row [^>]*/>)', text):
            for attribute in re.finditer(r' [\w:]+="([^"]*)"', table[2]):
                at = table.start(2) + attribute.start()
                value = at + attribute[0].index('"') + 1
                seen.add(table[1])
                yield at, at + len(attribute[0]), ""
                for by in self.VALUES:
                    yield value, value + len(attribute[1]), html.escape(by).replace("&amp;#", "&#")
        self.assertGreaterEqual(seen, {"VM", "VDI", "host", "pool", "PBD", "SR"})
        for tag in re.finditer(r"<[^r][^>]*>", text):
            yield tag.start(), tag.end(), ""

    def test_each_attribute(self):
        vm = self.api.VM.create(vm_record("altered"))
        self.addCleanup(self.api.VM.destroy, vm)
        self.api.VDI.create({"SR": self.sr, "virtual_size": 1 << 20, "type": "user", "sharable": False, "read_only": False,
                             "other_config": {"a": "b"}, "name_label": "disk"})
        status, _, body = POOL.http("GET", "/pool/xmldbdump", None, {"Cookie": f"session_id={self.api.session}"})
        self.assertEqual(status, 200)
        before, outcomes = self.rows(), collections.Counter()
        good = body.decode()
        for begin, end, by in some(self.cases(good)):
            record = self.upload("/pool/xmldbdump", (good[:begin] + by + good[end:]).encode(), dry_run="true")
            with self.subTest(good[begin - 60:end], by=by, error=record["error_info"]):
                self.assertNotIn((record["error_info"] or [""])[0], ("INTERNAL_ERROR", "SERVER_ERROR"))
                outcomes[record["status"]] += 1
        self.assertTrue(outcomes["success"] and outcomes["failure"], outcomes)
        self.assertEqual(self.rows(), before)
        self.alive()


@unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img")
class Images(Case):
    """Disks as files of other products: each number of their heads."""

    KINDS = (("vhd", "vpc", "subformat=dynamic", 2048), ("vmdk", "vmdk", "subformat=monolithicSparse", 512),
             ("vmdk", "vmdk", "subformat=streamOptimized", 512), ("qcow2", "qcow2", "compat=1.1", 512))
    WORDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

    def setUp(self):
        super().setUp()
        self.vdi = self.api.VDI.create({"SR": self.sr, "virtual_size": 4 << 20, "type": "user", "sharable": False,
                                        "read_only": False, "other_config": {}, "name_label": "disk"})

    def content(self):
        status, _, body = POOL.http("GET", f"/export_raw_vdi?vdi={self.vdi}", None, {"Cookie": f"session_id={self.api.session}"})
        self.assertEqual(status, 200)
        return body

    def image(self, driver, option):
        raw, path = (os.path.join(POOL.folder, name) for name in ("altered.raw", "altered.image"))
        with open(raw, "wb") as file:
            file.write(random.Random(1).randbytes(1 << 20))
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", driver, "-o", option, raw, path], check=True, timeout=60)
        with open(path, "rb") as file:
            return file.read()

    def test_each_number_of_a_head(self):
        agent = POOL.hosts[0]
        for kind, driver, option, head in self.KINDS:
            good, outcomes, most = self.image(driver, option), collections.Counter(), resident(agent) + GROWTH_MIB
            self.assertEqual(self.upload("/import_raw_vdi", good, vdi=self.vdi, format=kind)["error_info"], [])
            content, files = self.content(), disk_files(self.path)
            for at, word in some((at, word) for at in range(0, head, 4) for word in self.WORDS):
                with self.subTest(kind, option=option, at=at, word=hex(word)):
                    body = good[:at] + word.to_bytes(4, "big") + good[at + 4:]
                    record = self.upload("/import_raw_vdi", body, vdi=self.vdi, format=kind)
                    self.assertIn((record["error_info"] or ["IMPORT_ERROR"])[0], ("IMPORT_ERROR",), record["error_info"])
                    outcomes[record["status"]] += 1
                    self.assertEqual(disk_files(self.path), files)
                    if record["status"] == "failure":
                        self.assertEqual(self.content(), content, "a refusal leaves the disk as it was")
                    else:
                        content = self.content()
                    self.assertLess(resident(agent), most)
            self.assertTrue(outcomes["success"] and outcomes["failure"], outcomes)
        self.alive()


@unittest.skipUnless(program("xe"), "no xe")
class Guests(Case):
    """VMs of other toolstacks, which xe reads: each line, element, attribute and text."""

    XL = """name = "xl guest"
type = "hvm"
memory = 64
maxmem = 128
vcpus = 2
disk = [ 'format=raw, vdev=xvda, access=rw, target=DISK', "DISK,raw,xvdb,r" ]
vif = [ 'mac=00:16:3e:12:34:56,bridge=xenbr0', '' ]
on_crash = "restart"
boot = "dc"
"""
    LIBVIRT = """<domain type='kvm'><name>virt</name><memory unit='MiB'>64</memory><currentMemory unit='MiB'>64</currentMemory>
<vcpu current='1'>2</vcpu><os><type>hvm</type><boot dev='hd'/></os><features><acpi/></features><on_crash>restart</on_crash>
<devices><disk type='file' device='disk'><driver type='raw'/><source file='DISK'/><target dev='vda'/></disk>
<disk type='file' device='cdrom'><target dev='hdc'/></disk>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
<graphics type='vnc'/></devices></domain>"""
    OVF = """<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References><File ovf:href="disk1.vmdk" ovf:id="file1" ovf:size="SIZE"/></References>
<DiskSection><Disk ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d1" ovf:fileRef="file1"/>
<Disk ovf:capacity="1048576" ovf:diskId="blank"/></DiskSection>
<NetworkSection><Network ovf:name="n"/></NetworkSection>
<VirtualSystem ovf:id="web"><Name>ovf guest</Name><VirtualHardwareSection>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
<rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
<Item><rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:HostResource>ovf:/disk/blank</rasd:HostResource><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:Address>02:00:00:00:00:09</rasd:Address><rasd:Connection>n</rasd:Connection><rasd:InstanceID>7</rasd:InstanceID>
<rasd:ResourceType>10</rasd:ResourceType></Item></VirtualHardwareSection></VirtualSystem></Envelope>"""
    VALUES = ("", "-1", HUGE, "\u00e4;$(id)" * 20)

    def setUp(self):
        super().setUp()
        self.disk = os.path.join(POOL.folder, "guest.raw")
        with open(self.disk, "wb") as file:
            file.write(bytes(1 << 20))
        self.folder = self.path + "-files"
        os.mkdir(self.folder)

    def xe(self, *words):
        return subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(POOL.port), "-u", "root", "-pw", POOL.password, "--ca",
                               POOL.ca, *words], text=True, stdin=subprocess.DEVNULL, check=False, capture_output=True, timeout=120)

    def lines(self, text):
        """Without a line, and with something else behind its sign."""
        lines = text.splitlines(keepends=True)
        for i, line in enumerate(lines):
            for by in ("", *(line[:line.index("=") + 1] + value + "\n" for value in ("", "[", "None", "-1", HUGE, "'x'", "[['a']]"))):
                yield "".join([*lines[:i], by, *lines[i + 1:]])

    def elements(self, text):
        """Without a tag, an attribute or a text, and with others."""
        for part in re.finditer(r"<[^>]*>|(?<==)(?:'[^']*'|\"[^\"]*\")| [\w:]+=(?:'[^']*'|\"[^\"]*\")|(?<=>)[^<>\s][^<>]*(?=<)", text):
            yield text[:part.start()] + text[part.end():]
            if part[0][0] in "'\"":
                for value in self.VALUES:
                    yield text[:part.start() + 1] + value + text[part.end() - 1:]
            elif part[0][0] not in "< ":
                for value in self.VALUES:
                    yield text[:part.start()] + value + text[part.end():]

    def each(self, kind, cases, command):
        sr, before, outcomes = self.api.SR.get_uuid(self.sr), self.rows(), collections.Counter()
        for number, text in enumerate(cases):
            path = os.path.join(self.folder, f"{kind}-{number}")
            command_words = command(path, text)
            run = self.xe(*command_words, f"sr={sr}" if kind != "ovf" else f"sr-uuid={sr}")
            with self.subTest(kind, file=text, err=run.stderr):
                self.assertIn(run.returncode, (0, 1))
                self.assertNotRegex(run.stderr, "Sanitizer|runtime error|INTERNAL_ERROR")
                self.assertTrue(run.returncode == 0 or run.stderr.strip(), "a refusal has words")
                outcomes[run.returncode] += 1
                for vm in set(self.api.VM.get_all()) - set(before["VM"]):
                    self.assertEqual(run.returncode, 0, "what was made goes when a step fails")
                    disks = [self.api.VBD.get_VDI(v) for v in self.api.VM.get_VBDs(vm) if self.api.VBD.get_type(v) == "Disk"]
                    self.api.VM.destroy(vm)
                    for disk in disks:
                        self.api.VDI.destroy(disk)
                self.assertEqual(self.rows(), before)
            os.unlink(path)
        self.assertTrue(outcomes[0] and outcomes[1], outcomes)
        self.alive()

    def plain(self, command):
        def words(path, text):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return command, f"file={path}"
        return words

    def test_xl(self):
        text = self.XL.replace("DISK", self.disk)
        self.each("xl", some([text, *self.lines(text)]), self.plain("vm-import-xl"))

    def test_libvirt(self):
        text = self.LIBVIRT.replace("DISK", self.disk)
        self.each("libvirt", some([text, *self.elements(text)]), self.plain("vm-import-libvirt"))

    @unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img")
    def test_ovf(self):
        image = os.path.join(self.folder, "disk1.vmdk")
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", self.disk, image],
                       check=True, timeout=60)

        def packed(path, text):
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                info = tarfile.TarInfo("web.ovf")
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
                tar.add(image, "disk1.vmdk")
            os.rename(path, path + ".ova")
            os.symlink(path + ".ova", path)
            return "vm-import", f"filename={path}.ova"
        text = self.OVF.replace("SIZE", str(os.path.getsize(image)))
        self.each("ovf", some([text, *self.elements(text)]), packed)


class Desired(Case):
    """Documents of desired state, with what cloud-init is to find."""

    def test_each_member(self):
        document = {
            "networks": {"altered net": {"description": "d", "mtu": 1500, "tags": ["a"], "other_config": {"k": "v"}}},
            "vms": {"altered vm": {
                "description": "d", "memory": 64 << 20, "vcpus": 1, "running": False, "kernel": "vmlinuz", "kernel_args": "quiet",
                "tags": ["a"], "other_config": {"k": "v"},
                "disks": [{"device": "0", "name": "disk", "sr": self.api.SR.get_name_label(self.sr), "size": 1 << 20}],
                "nics": [{"device": "0", "network": "altered net", "mac": "00:16:3e:00:00:01"}],
                "cloud_init": {"hostname": "h", "user": "u", "address": "192.0.2.2/24", "ssh_keys": "ssh-ed25519 AAAA a"}}}}
        basic = {**POOL.basic(), "Content-Type": "application/json"}
        before, outcomes = self.rows(), collections.Counter()
        status, body = self.plan(document, basic)
        self.assertEqual(status, 200, body)
        for path, by in some(altered(document)):
            with self.subTest(path=path, by=by):
                status, body = self.plan(replaced(document, path, by), basic)
                self.assertLess(status, 500, body)
                outcomes[status < 300] += 1
                self.assertEqual(self.rows(), before, "a plan changes nothing")
        self.assertTrue(outcomes[True] and outcomes[False], outcomes)
        self.alive()

    @staticmethod
    def plan(document, headers):
        status, _, body = POOL.http("POST", "/api/v1/apply?plan=true", json.dumps(document).encode(), headers)
        return status, body



class Sizes(Case):
    """What a file says of its size, or grows to: it is looked at before anything is taken."""

    def grows_little(self, daemon, call, most_mib=GROWTH_MIB):
        """In the most that it has meanwhile."""
        def peak():
            with open(f"/proc/{daemon.pid}/status", encoding="ascii") as file:
                return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM"))
        before = resident(daemon)
        with open(f"/proc/{daemon.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # the peak begins anew
        result = call()
        self.assertLess(peak(), before + most_mib)
        return result

    @staticmethod
    def member(name, size, data):
        """A tar member that is said to be so long."""
        info = tarfile.TarInfo(name)
        info.size = size
        return info.tobuf(tarfile.GNU_FORMAT) + data

    def test_archives(self):
        bomb = gzip.compress(self.member("ova.xml", 60 << 20, b"<value>" + b" " * (60 << 20)), 9)
        for name, body, code in (
                ("a long ova.xml", self.member("ova.xml", 65 << 20, b"<value>"), "IMPORT_ERROR"),
                ("a very long one", self.member("ova.xml", 1 << 62, b"<value>"), "IMPORT_ERROR"),
                ("one that does not come", self.member("ova.xml", 63 << 20, b"<value>"), "IMPORT_ERROR_PREMATURE_EOF"),
                ("a long one, packed", gzip.compress(self.member("ova.xml", 512 << 20, b"<value>" + bytes(512 << 20)), 1), "IMPORT_ERROR"),
                ("zeros, packed", gzip.compress(bytes(64 << 20), 9), "IMPORT_ERROR_PREMATURE_EOF"),
                ("the longest, packed", bomb, "IMPORT_ERROR")):
            for target in ("/import", "/import_metadata"):
                with self.subTest(name, target=target):
                    record = self.grows_little(POOL.poold, lambda body=body, target=target: self.upload(target, body, sr_id=self.sr),
                                               2 * GROWTH_MIB)
                    self.assertEqual(record["error_info"][0], code, record["error_info"])

    def test_dumps(self):
        for name, body in (("a long name", b"<database><" + b"x" * (40 << 20)),
                           ("a long value", b'<database><table name="VM"><row ref="' + b"x" * (40 << 20)),
                           ("tags in tags", b"<database>" + b"<table>" * 500000),
                           ("attributes", b'<database><table name="VM"><row ' + b'a="b" ' * 2000000),
                           ("an entity", b'<!DOCTYPE d [<!ENTITY a "' + b"x" * 1000 + b'"><!ENTITY b "' + b"&a;" * 1000 + b'">]><database>&b;')):
            with self.subTest(name):
                record = self.grows_little(POOL.poold, lambda body=body: self.upload("/pool/xmldbdump", body, dry_run="true"))
                self.assertEqual(record["error_info"][0], "COULD_NOT_IMPORT_DATABASE", record["error_info"])

    @unittest.skipUnless(program("xe"), "no xe")
    def test_guests(self):
        """xe takes no memory for a file that no configuration is as long as."""
        path = os.path.join(POOL.folder, "long")
        with open(path, "wb") as file:
            file.truncate(20 << 30)
        limit = f"ulimit -t 60; exec {program('xe')} -s 127.0.0.1 -p {POOL.port} -u root -pw '{POOL.password}' --ca {POOL.ca} "
        def most_of(words, code):
            run = subprocess.run(["sh", "-c", limit + words], text=True, stdin=subprocess.DEVNULL, check=False, capture_output=True,
                                 timeout=120)
            self.assertEqual(run.returncode, code, run.stderr)
            self.assertNotRegex(run.stderr, "Sanitizer|memory")
            return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10

        begin = most_of("host-list", 0)
        for words in (f"vm-import-xl file={path}", f"vm-import-libvirt file={path}", f"vm-import filename={path}.ova",
                      f"vm-import filename={path}.ovf", f"apply -f {path}"):
            if "filename" in words and not os.path.exists(words.rpartition("=")[2]):
                os.link(path, words.rpartition("=")[2])
            with self.subTest(words):
                self.assertLess(most_of(words, 1), begin + GROWTH_MIB)
        self.alive()


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
