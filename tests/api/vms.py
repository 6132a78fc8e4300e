"""What tests of VMs share: simulated guests with disks whose bytes the test reads and writes."""
import os
import unittest

from pool import NULL, Failure, module_pool, until

MIB = 1 << 20


def record(name, words="", **more):
    """A VM whose guest behaves as the words say (hv/sim/sim.h)."""
    return {"name_label": name, "name_description": "", "user_version": 1, "is_a_template": False, "affinity": NULL,
            "memory_static_max": 64 * MIB, "memory_dynamic_max": 64 * MIB, "memory_dynamic_min": 64 * MIB,
            "memory_static_min": 0, "VCPUs_params": {}, "VCPUs_max": 1, "VCPUs_at_startup": 1,
            "actions_after_shutdown": "destroy", "actions_after_reboot": "restart", "actions_after_crash": "destroy",
            "PV_bootloader": "", "PV_kernel": "vmlinuz", "PV_ramdisk": "", "PV_args": words, "PV_bootloader_args": "",
            "PV_legacy_args": "", "HVM_boot_policy": "", "HVM_boot_params": {"order": "cd"}, "platform": {}, "PCI_bus": "",
            "other_config": {}, "recommendations": "", **more}


class VmCase(unittest.TestCase):
    """A test with a pool of its module, an SR of its own and VMs that go at the end."""

    pool = None
    api = None

    @staticmethod
    def open_pool(hosts=1, host_options=("--sim-boot-ms", "50"), **settings):
        """For setUpModule: the pool of all cases of the module, and a client of it."""
        VmCase.pool = module_pool(hosts=hosts, host_options=host_options, **settings)
        VmCase.api = VmCase.pool.login()

    def setUp(self):
        self.host = self.api.host.get_all()[0]
        self.vms = []
        self.sr_path = os.path.join(self.pool.folder, "-".join(self.id().split(".")[-2:]))
        self.sr = self.api.SR.create(self.host, {"location": self.sr_path}, 0, self.id(), "", "file", "", False, {})
        # The one that needs nothing of the host.
        self.network = next(ref for ref, network in self.api.network.get_all_records().items()
                            if network["other_config"].get("corral:kind") == "user")

    def tearDown(self):
        for vm in list(self.vms):
            self.destroy(vm)

    def destroy(self, vm):
        def gone():
            try:
                if self.api.VM.get_power_state(vm) != "Halted":
                    self.api.VM.hard_shutdown(vm)
                self.api.VM.destroy(vm)
            except Failure as failure:
                if failure.code == "HANDLE_INVALID":
                    return True
                if failure.code not in ("VM_BAD_POWER_STATE", "OTHER_OPERATION_IN_PROGRESS"):
                    raise
                return False
            return True
        until("the end of a VM", gone, 60)
        if vm in self.vms:
            self.vms.remove(vm)

    # ---- making things ----

    def make(self, words="", **more):
        vm = self.api.VM.create(record(self.id().rpartition(".")[2], words, **more))
        self.vms.append(vm)
        return vm

    def keep(self, vm):
        """Another VM that goes at the end."""
        self.vms.append(vm)
        return vm

    def disk(self, content=b"", size=MIB, **more):
        vdi = self.api.VDI.create({"SR": self.sr, "virtual_size": size, "type": "user", "sharable": False,
                                   "read_only": False, "other_config": {}, "name_label": "disk", **more})
        self.write(vdi, content)
        return vdi

    def drive(self, vm, vdi, kind="Disk", **more):
        return self.api.VBD.create({"VM": vm, "VDI": vdi, "userdevice": "autodetect", "bootable": False,
                                    "mode": "RO" if kind == "CD" else "RW", "type": kind, "unpluggable": True,
                                    "empty": vdi == NULL, "other_config": {}, "qos_algorithm_type": "",
                                    "qos_algorithm_params": {}, **more})

    def nic(self, vm, device="0", **more):
        return self.api.VIF.create({"device": device, "network": self.network, "VM": vm, "MAC": "", "MTU": 1500,
                                    "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}, **more})

    def with_disk(self, content=b"one", words="", **more):
        """A VM with one disk and one nic."""
        vm = self.make(words, **more)
        vdi = self.disk(content)
        self.drive(vm, vdi)
        self.nic(vm)
        return vm, vdi

    def start(self, vm):
        self.api.VM.start(vm, False, False)

    def up(self, vm):
        """Starts it and waits until its guest works."""
        self.start(vm)
        until("the guest is up", lambda: "clean_reboot" in self.api.VM.get_allowed_operations(vm))

    # ---- the bytes of a disk, as its guest would see and write them ----

    def path(self, vdi):
        uuid = self.api.VDI.get_uuid(vdi)
        return os.path.join(self.sr_path, next(f for f in os.listdir(self.sr_path)
                                              if f.startswith(uuid) and not f.endswith(".cbt")))

    def write(self, vdi, content):
        with open(self.path(vdi), "r+b") as file:
            file.write(content)

    def read(self, vdi, size=3):
        with open(self.path(vdi), "rb") as file:
            return file.read(size)

    def disks_on_storage(self):
        return sorted(f for f in os.listdir(self.sr_path) if not f.startswith("."))

    def disk_of(self, vm, device="0"):
        for vbd in self.api.VM.get_VBDs(vm):
            if self.api.VBD.get_userdevice(vbd) == device:
                return self.api.VBD.get_VDI(vbd)
        return None

    # ---- looking ----

    def state(self, vm):
        return self.api.VM.get_power_state(vm)

    def fails(self, code, params, method, *arguments):
        with self.assertRaises(Failure) as caught:
            self.api.call(method, self.api.session, *arguments)
        self.assertEqual(caught.exception.code, code, caught.exception)
        if params is not None:
            self.assertEqual(caught.exception.params, params)
        return caught.exception.params

    def alerts(self, vm):
        """Names of the messages about a VM."""
        uuid = self.api.VM.get_uuid(vm)
        return sorted(m["name"] for m in self.api.message.get_all_records().values() if m["obj_uuid"] == uuid)

    def task_ends(self, task, status, limit_s=60):
        until(f"the task is {status}", lambda: self.api.task.get_status(task) not in ("pending", "cancelling"), limit_s)
        record = self.api.task.get_record(task)
        self.assertEqual(record["status"], status, record)
        self.api.task.destroy(task)
        return record
