"""Disks and network cards that come and go while their VM runs, and what else VBD and VIF messages do."""
import glob
import json
import os
import re
import sys
import unittest

from pool import NULL, Failure, until
from vms import MIB, VmCase


def setUpModule():
    VmCase.open_pool()


class Disks(VmCase):
    def test_plug_and_unplug(self):
        vm, vdi = self.with_disk()
        self.up(vm)
        added = self.disk(b"new")
        vbd = self.drive(vm, added)
        self.assertEqual(self.api.VBD.get_currently_attached(vbd), False)
        self.assertEqual(sorted(self.api.VBD.get_allowed_operations(vbd)), ["attach", "plug"])
        self.fails("DEVICE_ALREADY_DETACHED", [vbd], "VBD.unplug", vbd)
        self.api.VBD.plug(vbd)
        record = self.api.VBD.get_record(vbd)
        self.assertEqual((record["currently_attached"], record["device"]), (True, "xvdb"))
        self.assertEqual(sorted(record["allowed_operations"]), ["attach", "unplug", "unplug_force"])
        self.fails("DEVICE_ALREADY_ATTACHED", [vbd], "VBD.plug", vbd)
        self.fails("VDI_IN_USE", [added, "destroy"], "VDI.destroy", added)
        self.fails("OPERATION_NOT_ALLOWED", None, "VBD.destroy", vbd)
        self.api.VBD.unplug(vbd)
        self.assertFalse(self.api.VBD.get_currently_attached(vbd))
        self.api.VBD.destroy(vbd)
        self.api.VDI.destroy(added)
        self.assertEqual(self.api.VBD.get_currently_attached(self.api.VM.get_VBDs(vm)[0]), True)

    def test_it_outlives_suspend_and_reboot(self):
        vm, _ = self.with_disk()
        self.api.VM.set_suspend_SR(vm, self.sr)
        self.up(vm)
        plugged, left = self.drive(vm, self.disk()), self.drive(vm, self.disk())
        self.api.VBD.plug(plugged)
        self.api.VM.suspend(vm)
        self.assertTrue(self.api.VBD.get_currently_attached(plugged))
        self.api.VM.resume(vm, False, False)
        self.assertEqual([self.api.VBD.get_currently_attached(v) for v in (plugged, left)], [True, False])
        self.api.VBD.unplug(plugged)

    def test_limits(self):
        vm, _ = self.with_disk()
        vbd = self.api.VM.get_VBDs(vm)[0]
        self.assertEqual(self.api.VBD.get_qos_supported_algorithms(vbd), ["throttle"])
        self.fails("VALUE_NOT_SUPPORTED", None, "VBD.set_qos_algorithm_type", vbd, "ionice")
        self.api.VBD.set_qos_algorithm_type(vbd, "throttle")
        for bad in ({"iops": "-1"}, {"iops": "many"}, {"kbps": "1\n2"}, {"kbps": "9" * 10000}, {"sched": "rt"}, {"iops": ""}):
            self.fails("VALUE_NOT_SUPPORTED", None, "VBD.set_qos_algorithm_params", vbd, bad)
        self.assertEqual(self.api.VBD.get_qos_algorithm_params(vbd), {})
        self.api.VBD.set_qos_algorithm_params(vbd, {"iops": "500"})

        def limits():
            with open(os.path.join(self.pool.hosts[0].folder, "run", self.api.VM.get_uuid(vm), "config.json"),
                      encoding="utf-8") as file:
                found = re.findall(r'"max_(?:iops|kbytes)": ?(\d+)', file.read())
            return [int(n) for n in found]

        self.start(vm)
        self.assertEqual(limits(), [500, 0])
        self.api.VBD.set_qos_algorithm_params(vbd, {"iops": "50", "kbps": "7"})
        self.assertEqual(limits(), [50, 7])
        self.api.VBD.set_qos_algorithm_type(vbd, "")
        self.assertEqual(limits(), [0, 0])

    def test_a_reboot_plugs_what_was_added(self):
        vm, _ = self.with_disk()
        self.up(vm)
        other, _ = self.with_disk(b"two")
        self.start(other)
        left, taken = self.drive(vm, self.disk(b"new")), self.drive(vm, self.disk_of(other))
        self.assertFalse(self.api.VBD.get_currently_attached(left))
        self.api.VM.hard_reboot(vm)
        until("the disk is plugged in", lambda: self.api.VBD.get_currently_attached(left), 60)
        self.assertEqual(self.api.VBD.get_device(left), "xvdb")
        self.assertFalse(self.api.VBD.get_currently_attached(taken), "another VM has that disk")

        def once_up(method, *params):
            try:
                self.api.call(method, self.api.session, *params)
            except Failure as failure:  # the guest still boots
                if failure.code not in ("DEVICE_DETACH_REJECTED", "VM_MISSING_PV_DRIVERS", "VM_LACKS_FEATURE"):
                    raise
                return False
            return True

        until("the guest lets go of it", lambda: once_up("VBD.unplug", left), 60)
        until("the guest reboots", lambda: once_up("VM.clean_reboot", vm), 60)
        until("it is plugged in again", lambda: self.api.VBD.get_currently_attached(left), 60)

    def test_what_is_refused(self):
        vm, vdi = self.with_disk()
        vbd = self.api.VM.get_VBDs(vm)[0]
        self.fails("VM_BAD_POWER_STATE", [vm, "running", "halted"], "VBD.plug", vbd)
        self.api.VBD.assert_attachable(vbd)
        self.start(vm)
        other = self.make()
        self.start(other)
        theirs = self.drive(other, vdi)
        self.fails("VDI_IN_USE", [vdi], "VBD.plug", theirs)
        self.fails("VDI_IN_USE", [vdi], "VBD.assert_attachable", theirs)
        self.assertNotIn("plug", self.api.VBD.get_allowed_operations(theirs))
        cd = self.drive(vm, NULL, "CD")
        self.fails("OPERATION_NOT_ALLOWED", None, "VBD.plug", cd)
        fixed = self.drive(vm, self.disk(), unpluggable=False)
        self.api.VBD.plug(fixed)
        self.fails("VBD_NOT_UNPLUGGABLE", [fixed], "VBD.unplug", fixed)
        self.fails("VBD_NOT_UNPLUGGABLE", [fixed], "VBD.unplug_force", fixed)
        self.fails("VM_BAD_POWER_STATE", [vm, "halted", "running"], "VBD.set_mode", vbd, "RO")

    def test_a_start_does_not_share_a_disk(self):
        vm, vdi = self.with_disk()
        self.start(vm)
        other = self.make()
        self.drive(other, vdi)
        self.fails("VDI_IN_USE", [vdi], "VM.start", other, False, False)
        self.assertEqual(self.state(other), "Halted")

    def test_a_guest_that_does_not_let_go(self):
        vm, _ = self.with_disk(words="sim.refuse_unplug")
        self.up(vm)
        vbd = self.drive(vm, self.disk())
        self.api.VBD.plug(vbd)
        self.fails("DEVICE_DETACH_REJECTED", None, "VBD.unplug", vbd)
        self.assertTrue(self.api.VBD.get_currently_attached(vbd))
        self.api.VBD.unplug_force(vbd)
        self.assertFalse(self.api.VBD.get_currently_attached(vbd))
        vif = self.api.VM.get_VIFs(vm)[0]
        self.fails("DEVICE_DETACH_REJECTED", None, "VIF.unplug", vif)
        self.api.VIF.unplug_force(vif)
        self.assertFalse(self.api.VIF.get_currently_attached(vif))


class Cards(VmCase):
    def test_plug_and_unplug(self):
        vm, _ = self.with_disk()
        self.up(vm)
        vif = self.nic(vm, "1")
        self.assertFalse(self.api.VIF.get_currently_attached(vif))
        self.assertIn("plug", self.api.VIF.get_allowed_operations(vif))
        self.api.VIF.plug(vif)
        self.assertTrue(self.api.VIF.get_currently_attached(vif))
        self.fails("DEVICE_ALREADY_ATTACHED", [vif], "VIF.plug", vif)
        self.fails("OPERATION_NOT_ALLOWED", None, "VIF.destroy", vif)
        self.api.VIF.unplug(vif)
        self.fails("DEVICE_ALREADY_DETACHED", [vif], "VIF.unplug", vif)
        self.api.VIF.destroy(vif)
        self.api.VM.hard_shutdown(vm)
        first = self.api.VM.get_VIFs(vm)[0]
        self.fails("VM_BAD_POWER_STATE", [vm, "running", "halted"], "VIF.plug", first)

    def test_settings(self):
        vm = self.make()
        vif = self.nic(vm)
        network = self.api.network.create({"name_label": "other", "name_description": "", "MTU": 1500,
                                           "other_config": {}, "bridge": "", "managed": True, "tags": []})
        self.fails("HANDLE_INVALID", None, "VIF.move", vif, NULL)
        self.api.VIF.move(vif, network)
        self.assertEqual(self.api.VIF.get_network(vif), network)
        self.assertEqual(self.api.network.get_VIFs(network), [vif])
        self.api.VIF.set_locking_mode(vif, "locked")
        self.api.VIF.move(vif, self.network)
        self.api.VIF.set_ipv4_allowed(vif, ["192.0.2.1"])
        self.api.VIF.add_ipv4_allowed(vif, "192.0.2.2")
        self.api.VIF.remove_ipv4_allowed(vif, "192.0.2.1")
        self.api.VIF.set_ipv6_allowed(vif, ["2001:db8::1"])
        self.api.VIF.add_ipv6_allowed(vif, "2001:db8::2")
        self.api.VIF.remove_ipv6_allowed(vif, "2001:db8::1")
        self.fails("INVALID_IP_ADDRESS_SPECIFIED", ["ipv4_allowed"], "VIF.set_ipv4_allowed", vif, ["2001:db8::1"])
        self.fails("INVALID_IP_ADDRESS_SPECIFIED", ["ipv6_allowed"], "VIF.add_ipv6_allowed", vif, "x")
        self.api.VIF.configure_ipv4(vif, "Static", "192.0.2.5/24", "192.0.2.254")
        self.api.VIF.configure_ipv6(vif, "Static", "2001:db8::5/64", "")
        record = self.api.VIF.get_record(vif)
        self.assertEqual((record["locking_mode"], record["ipv4_allowed"], record["ipv6_allowed"]),
                         ("locked", ["192.0.2.2"], ["2001:db8::2"]))
        self.assertEqual((record["ipv4_configuration_mode"], record["ipv4_addresses"], record["ipv4_gateway"]),
                         ("Static", ["192.0.2.5/24"], "192.0.2.254"))
        self.assertEqual(record["ipv6_addresses"], ["2001:db8::5/64"])
        for address in ("192.0.2.5", "192.0.2.5/33", "192.0.2.5/", "x/24", ""):
            self.fails("INVALID_CIDR_ADDRESS_SPECIFIED", ["address"], "VIF.configure_ipv4", vif, "Static", address, "")
        self.fails("INVALID_IP_ADDRESS_SPECIFIED", ["gateway"], "VIF.configure_ipv4", vif, "Static", "192.0.2.5/24", "x")
        self.api.VIF.configure_ipv4(vif, "None")
        self.assertEqual(self.api.VIF.get_ipv4_addresses(vif), [])
        self.start(vm)
        self.fails("OPERATION_NOT_ALLOWED", None, "VIF.set_locking_mode", vif, "disabled")
        self.api.VIF.set_locking_mode(vif, "unlocked")

    def test_while_the_guest_runs(self):
        """What a card may do and where it leads changes without its guest's noticing; the agent keeps it."""
        networks = [self.api.network.create({"name_label": f"net {n}", "name_description": "", "MTU": 1500,
                                             "other_config": {}, "bridge": "", "managed": True, "tags": []}) for n in range(2)]
        vm = self.make()
        vif = self.nic(vm)
        self.api.VIF.move(vif, networks[0])
        self.start(vm)
        nic = lambda: next(self.agent_config(vm, "nics"))  # noqa: E731
        bridges = [self.api.network.get_bridge(n) for n in networks]
        self.assertEqual((nic()["bridge"], nic().get("locking", "open")), (bridges[0], "open"))
        self.fails("HANDLE_INVALID", None, "VIF.move", vif, NULL)
        self.api.VIF.move(vif, networks[1])
        self.assertEqual((nic()["bridge"], self.api.VIF.get_network(vif)), (bridges[1], networks[1]))
        self.fails("OPERATION_NOT_ALLOWED", None, "VIF.move", vif, self.network)  # of another kind
        self.assertEqual((nic()["bridge"], self.api.VIF.get_network(vif)), (bridges[1], networks[1]))
        self.api.VIF.set_ipv4_allowed(vif, ["192.0.2.1"])
        self.api.VIF.set_locking_mode(vif, "locked")
        self.api.VIF.add_ipv6_allowed(vif, "2001:db8::1")
        self.assertEqual((nic()["locking"], nic()["ipv4_allowed"], nic()["ipv6_allowed"]),
                         ("locked", ["192.0.2.1"], ["2001:db8::1"]))
        self.api.VIF.set_qos_algorithm_type(vif, "ratelimit")
        self.api.VIF.set_qos_algorithm_params(vif, {"kbps": "100"})
        self.assertEqual(nic()["rate_kbytes"], 100)
        self.fails("MAP_DUPLICATE_KEY", None, "VIF.add_to_qos_algorithm_params", vif, "kbps", "200")
        self.api.VIF.remove_from_qos_algorithm_params(vif, "kbps")
        self.assertEqual(nic().get("rate_kbytes", 0), 0)
        self.api.VIF.add_to_qos_algorithm_params(vif, "kbps", "200")
        self.assertEqual(nic()["rate_kbytes"], 200)
        self.api.VIF.set_locking_mode(vif, "disabled")
        self.assertEqual(nic()["locking"], "closed")
        self.api.VIF.set_locking_mode(vif, "network_default")
        self.assertEqual(nic().get("locking", "open"), "open")
        self.fails("VIF_IN_USE", [networks[1], vif], "network.set_default_locking_mode", networks[1], "disabled")
        self.api.VM.hard_shutdown(vm)
        self.api.network.set_default_locking_mode(networks[1], "disabled")
        self.start(vm)
        self.assertEqual((nic()["locking"], nic()["rate_kbytes"]), ("closed", 200))

    def agent_config(self, vm, part):
        """What the host keeps of a running VM."""
        uuid = self.api.VM.get_uuid(vm)
        paths = glob.glob(os.path.join(self.pool.folder, "**", "run", uuid, "config.json"), recursive=True)
        self.assertEqual(len(paths), 1)
        with open(paths[0], encoding="utf-8") as file:
            yield from json.load(file)["config"][part]


class Live(VmCase):
    def test_processors(self):
        vm = self.make(VCPUs_max=2)
        self.fails("VM_BAD_POWER_STATE", [vm, "running", "halted"], "VM.set_VCPUs_number_live", vm, 2)
        self.up(vm)
        self.assertIn("changing_VCPUs_live", self.api.VM.get_allowed_operations(vm))
        self.api.VM.set_VCPUs_number_live(vm, 2)
        self.assertEqual(int(self.api.VM_metrics.get_VCPUs_number(self.api.VM.get_metrics(vm))), 2)
        self.assertEqual(int(self.api.VM.get_VCPUs_at_startup(vm)), 2)
        for number in (0, 3):
            self.fails("INVALID_VALUE", None, "VM.set_VCPUs_number_live", vm, number)
        other = self.make("sim.refuse_vcpus", VCPUs_max=2, VCPUs_at_startup=2)
        self.up(other)
        self.fails("VM_LACKS_FEATURE", [other], "VM.set_VCPUs_number_live", other, 1)
        self.assertEqual(int(self.api.VM.get_VCPUs_at_startup(other)), 2)

    def test_memory(self):
        vm = self.make()
        self.api.VM.set_memory_dynamic_range(vm, 32 * MIB, 64 * MIB)
        self.up(vm)
        self.api.VM.set_memory_dynamic_range(vm, 32 * MIB, 48 * MIB)
        record = self.api.VM.get_record(vm)
        self.assertEqual([int(record[f]) for f in ("memory_dynamic_min", "memory_dynamic_max", "memory_target")],
                         [32 * MIB, 48 * MIB, 48 * MIB])
        metrics = record["metrics"]
        until("the guest gives memory back",
              lambda: int(self.api.VM_metrics.get_memory_actual(metrics)) == 48 * MIB, 20)
        self.api.VM.set_memory_target_live(vm, 40 * MIB)
        self.assertEqual(int(self.api.VM.get_memory_dynamic_min(vm)), 40 * MIB)
        self.api.VM.set_memory_dynamic_min(vm, 16 * MIB)
        self.api.VM.set_memory_dynamic_max(vm, 64 * MIB)
        self.fails("MEMORY_CONSTRAINT_VIOLATION", None, "VM.set_memory_dynamic_range", vm, MIB, 128 * MIB)
        for message, arguments in (("VM.set_memory", (64 * MIB,)), ("VM.set_memory_static_max", (64 * MIB,)),
                                   ("VM.set_memory_static_range", (0, 64 * MIB)), ("VM.set_VCPUs_max", (2,)),
                                   ("VM.set_memory_limits", (0, 64 * MIB, 0, 64 * MIB))):
            self.fails("VM_BAD_POWER_STATE", [vm, "halted", "running"], message, vm, *arguments)
        # What it was started with is what it is resumed with, and what its boot record says.
        self.api.VM.set_memory_dynamic_max(vm, 48 * MIB)
        self.assertEqual(int(self.api.VM.get_boot_record(vm)["memory_dynamic_max"]), 64 * MIB)
        self.api.VM.set_suspend_SR(vm, self.sr)
        self.api.VM.suspend(vm)
        self.api.VM.resume(vm, False, False)


class OfTheHost(VmCase):
    """Devices of the (simulated) host that VMs may be given."""

    def test_rows(self):
        pci = {r["pci_id"]: r for r in self.api.PCI.get_all_records().values() if r["host"] == self.host}
        self.assertEqual(sorted(pci), ["0000:00:02.0", "0000:00:03.0", "0000:01:00.0", "0000:01:00.1"])
        gpu = pci["0000:01:00.0"]
        self.assertEqual([gpu[k] for k in ("class_id", "class_name", "vendor_id", "vendor_name", "device_id", "device_name", "driver_name")],
                         ["0302", "3D controller", "1234", "Simulated Works", "3333", "Graphics processor", ""])
        self.assertEqual([self.api.PCI.get_pci_id(p) for p in gpu["dependencies"]], ["0000:01:00.1"])
        self.assertEqual(self.api.host.get_chipset_info(self.host)["iommu"], "true")
        screen, processor = self.pgpu("0000:00:02.0")[1], self.pgpu("0000:01:00.0")[1]
        passthrough = self.api.VGPU_type.get_all()
        self.assertEqual([self.api.VGPU_type.get_implementation(t) for t in passthrough], ["passthrough"])
        self.assertEqual([(r["is_system_display_device"], r["dom0_access"], r["enabled_VGPU_types"]) for r in (screen, processor)],
                         [(True, "enabled", []), (False, "enabled", passthrough)])
        group = self.api.GPU_group.get_record(processor["GPU_group"])
        self.assertEqual((group["name_label"], group["GPU_types"], group["enabled_VGPU_types"]),
                         ("Group of Simulated Works Graphics processor GPUs", ["1234/3333"], passthrough))
        # The keyboard is not to be passed on.
        self.api.PUSB.scan(self.host)
        usb = {r["path"]: r for r in self.api.PUSB.get_all_records().values()}
        self.assertEqual(sorted(usb), ["1-1", "2-1.4"])
        self.assertEqual([usb["1-1"][k] for k in ("vendor_id", "product_id", "product_desc", "version", "speed", "passthrough_enabled")],
                         ["1234", "0001", "Memory stick", "2.00", 480.0, False])
        self.fails("HANDLE_INVALID", "PUSB.scan", self.sr)

    def pgpu(self, bus):
        return next((ref, r) for ref, r in self.api.PGPU.get_all_records().items() if self.api.PCI.get_pci_id(r["PCI"]) == bus)

    def fails(self, code, name, *args):
        with self.assertRaises(Failure) as caught:
            self.api.call(name, self.api.session, *args)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return list(caught.exception.params)

    def test_graphics(self):
        api = self.api
        ref, processor = self.pgpu("0000:01:00.0")
        group, kind = processor["GPU_group"], api.VGPU_type.get_all()[0]
        one, two = self.make(), self.make()
        self.fails("INVALID_DEVICE", "VGPU.create", one, group, "x")
        card = api.VGPU.create(one, group, "0", {"a": "b"}, kind)
        self.assertEqual(self.fails("DEVICE_ALREADY_EXISTS", "VGPU.create", one, group, "0"), ["0"])
        self.assertEqual(api.VGPU.get_type(api.VGPU.create(two, group)), kind)
        self.assertEqual((api.PGPU.get_remaining_capacity(ref, kind), api.GPU_group.get_remaining_capacity(group, kind)), (1, 1))
        api.VM.start(one, False, False)
        record = api.VGPU.get_record(card)
        self.assertEqual((record["currently_attached"], record["resident_on"], record["PCI"]), (True, ref, processor["PCI"]))
        self.assertEqual(api.PGPU.get_resident_VGPUs(ref), [card])
        self.assertEqual((api.PGPU.get_remaining_capacity(ref, kind), api.GPU_group.get_remaining_capacity(group, kind)), (0, 0))
        self.assertEqual(self.fails("VM_REQUIRES_GPU", "VM.start", two, False, False), [two, group])
        self.assertNotIn("suspend", api.VM.get_allowed_operations(one))
        self.fails("VM_HAS_PCI_ATTACHED", "VM.suspend", one)
        self.fails("VM_BAD_POWER_STATE", "VGPU.destroy", card)
        self.fails("PGPU_IN_USE_BY_VM", "PGPU.set_GPU_group", ref, group)
        self.fails("PGPU_IN_USE_BY_VM", "PGPU.remove_enabled_VGPU_types", ref, kind)
        self.fails("PGPU_IN_USE_BY_VM", "PGPU.enable_dom0_access", ref)
        api.VM.hard_shutdown(one)
        record = api.VGPU.get_record(card)
        self.assertEqual((record["currently_attached"], record["resident_on"], record["PCI"]), (False, NULL, NULL))
        api.VM.start(two, False, False)
        api.VM.hard_shutdown(two)
        copy = self.keep(api.VM.clone(one, "copy"))
        self.assertEqual([api.VGPU.get_GPU_group(c) for c in api.VM.get_VGPUs(copy)], [group])
        api.VGPU.destroy(card)
        # By its place, with other words.
        api.VM.set_other_config(one, {"pci": "0/0000:01:00.0"})
        api.VM.start(one, False, False)
        self.assertEqual(self.fails("VM_REQUIRES_GPU", "VM.start", two, False, False), [two, group])
        api.VM.hard_shutdown(one)
        for words in ("0/0000:09:00.0", "nonsense", "0/0000:01:00.0,x=y"):
            api.VM.set_other_config(one, {"pci": words})
            self.fails("VALUE_NOT_SUPPORTED", "VM.start", one, False, False)

    def test_what_a_processor_serves(self):
        api = self.api
        ref, processor = self.pgpu("0000:01:00.0")
        group, kind = processor["GPU_group"], api.VGPU_type.get_all()[0]
        vm = self.make()
        api.VGPU.create(vm, group)
        api.PGPU.set_enabled_VGPU_types(ref, [])
        self.assertEqual((api.GPU_group.get_enabled_VGPU_types(group), api.PGPU.get_remaining_capacity(ref, kind)), ([], 0))
        self.fails("VM_REQUIRES_GPU", "VM.start", vm, False, False)
        api.PGPU.add_enabled_VGPU_types(ref, kind)
        api.PGPU.remove_enabled_VGPU_types(ref, kind)
        api.PGPU.set_enabled_VGPU_types(ref, [kind])
        for message in ("update_enabled_VGPU_types", "update_supported_VGPU_types"):
            getattr(api.GPU_group, message)(group)
        self.assertEqual(api.VGPU_type.get_enabled_on_GPU_groups(kind), [group])
        screen, row = self.pgpu("0000:00:02.0")
        self.fails("VGPU_TYPE_NOT_SUPPORTED", "PGPU.add_enabled_VGPU_types", screen, kind)
        self.assertEqual(self.fails("PGPU_NOT_COMPATIBLE_WITH_GPU_GROUP", "PGPU.set_GPU_group", ref, row["GPU_group"]),
                         ["1234/3333", "[1234/1111]"])
        empty = api.GPU_group.create("mine", "", {})
        api.PGPU.set_GPU_group(ref, empty)
        self.assertEqual((api.GPU_group.get_GPU_types(empty), api.GPU_group.get_GPU_types(group)), (["1234/3333"], []))
        api.PGPU.set_GPU_group(ref, group)
        api.GPU_group.destroy(empty)

    def test_set_aside(self):
        api = self.api
        ref, processor = self.pgpu("0000:01:00.0")
        screen, row = self.pgpu("0000:00:02.0")
        for pci, away, back in ((processor["PCI"], "disabled", "enabled"), (row["PCI"], "disable_on_reboot", "enabled")):
            self.assertEqual(api.PCI.get_dom0_access_status(pci), "enabled")
            self.assertEqual(api.PCI.disable_dom0_access(pci), away)
            self.assertEqual(api.PCI.get_dom0_access_status(pci), away)
            self.assertEqual(api.PCI.enable_dom0_access(pci), back)
        self.assertEqual(api.PGPU.disable_dom0_access(screen), "disable_on_reboot")
        # Now it may be passed on.
        self.assertEqual((api.PGPU.get_dom0_access(screen), len(api.PGPU.get_supported_VGPU_types(screen))), ("disable_on_reboot", 1))
        self.assertEqual(api.PGPU.enable_dom0_access(screen), "enabled")
        self.assertEqual(api.PGPU.get_enabled_VGPU_types(screen), [])
        self.fails("HANDLE_INVALID", "PCI.disable_dom0_access", ref)

    def test_usb(self):
        api = self.api
        stick = next(p for p, r in api.PUSB.get_all_records().items() if r["path"] == "1-1")
        group = api.PUSB.get_USB_group(stick)
        self.assertEqual(api.USB_group.get_name_label(group), "Group of Simulated Works Memory stick USBs")
        vm, other = self.make(), self.make()
        vusb = api.VUSB.create(vm, group, {})
        self.assertEqual(self.fails("USB_GROUP_CONFLICT", "VUSB.create", other, group, {}), [group])
        self.assertEqual(self.fails("VM_REQUIRES_VUSB", "VM.start", vm, False, False), [vm, group])
        api.PUSB.set_passthrough_enabled(stick, True)
        api.VM.start(vm, False, False)
        self.assertEqual((api.VUSB.get_currently_attached(vusb), api.VUSB.get_allowed_operations(vusb)), (True, ["attach", "unplug"]))
        self.assertEqual(self.fails("USB_ALREADY_ATTACHED", "PUSB.set_passthrough_enabled", stick, False), [stick, vm])
        self.fails("OPERATION_NOT_ALLOWED", "VUSB.destroy", vusb)
        self.fails("VM_HAS_VUSBS", "VM.suspend", vm)
        api.VUSB.unplug(vusb)
        self.assertEqual((api.VUSB.get_currently_attached(vusb), api.VUSB.get_current_operations(vusb)), (False, {}))
        self.assertEqual(self.fails("DEVICE_ALREADY_DETACHED", "VUSB.unplug", vusb), [vusb])
        api.PUSB.set_passthrough_enabled(stick, False)
        api.VM.hard_shutdown(vm)
        self.fails("VM_BAD_POWER_STATE", "VUSB.unplug", vusb)
        api.VUSB.destroy(vusb)
        again = api.VUSB.create(vm, group, {})
        api.VM.destroy(vm)
        self.assertNotIn(again, api.VUSB.get_all())


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
