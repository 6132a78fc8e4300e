"""Questions about VMs, the groups that they belong to, and settings with rules of their own."""
import sys
import unittest

from pool import NULL, until
from vms import MIB, VmCase


def setUpModule():
    VmCase.open_pool()


class Questions(VmCase):
    def test_operations(self):
        vm = self.make()
        self.api.VM.assert_operation_valid(vm, "start")
        self.fails("VM_BAD_POWER_STATE", [vm, "running", "halted"], "VM.assert_operation_valid", vm, "suspend")
        self.fails("HANDLE_INVALID", None, "VM.assert_operation_valid", NULL, "start")
        before = self.api.VM.get_allowed_operations(vm)
        self.api.VM.update_allowed_operations(vm)
        self.assertEqual(self.api.VM.get_allowed_operations(vm), before)
        for operation in before:
            self.api.VM.assert_operation_valid(vm, operation)

    def test_placement(self):
        vm, _ = self.with_disk()
        self.assertEqual(self.api.VM.get_possible_hosts(vm), [self.host])
        self.api.VM.assert_can_boot_here(vm, self.host)
        self.fails("HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", [self.sr], "VM.assert_agile", vm)
        self.api.VM.assert_agile(self.make())
        self.assertEqual(int(self.api.VM.maximise_memory(vm, 100 * MIB + 5, False)), (100 - 65) * MIB)
        self.assertEqual(int(self.api.VM.maximise_memory(vm, 0, False)), 0)
        for static_max, vcpus, videoram, overhead in ((64, 1, None, 65), (256, 1, None, 66), (1 << 20, 1, None, 4161),
                                                      (64, 8, None, 72), (64, 1, "8", 65), (64, 1, "64", 113)):
            with self.subTest(static_max=static_max, vcpus=vcpus, videoram=videoram):
                other = self.make(memory_static_max=static_max * MIB, VCPUs_max=vcpus,
                                  platform={"videoram": videoram} if videoram else {})
                self.assertEqual(int(self.api.VM.compute_memory_overhead(other)), overhead * MIB)
                self.assertEqual(int(self.api.VM.get_memory_overhead(other)), overhead * MIB)
        self.api.VM.set_VCPUs_max(vm, 2)
        self.assertEqual(int(self.api.VM.get_memory_overhead(vm)), 66 * MIB)
        self.api.VM.set_VCPUs_max(vm, 1)
        self.assertEqual(self.api.VM.get_cooperative(vm), True)
        self.api.host.disable(self.host)
        try:
            self.fails("HOST_DISABLED", [self.host], "VM.assert_can_boot_here", vm, self.host)
            self.assertEqual(self.api.VM.get_possible_hosts(vm), [])
        finally:
            self.api.host.enable(self.host)

    def test_boot_record(self):
        vm = self.make()
        self.fails("VM_BAD_POWER_STATE", None, "VM.get_boot_record", vm)
        self.start(vm)
        self.api.VM.set_name_description(vm, "later")
        record = self.api.VM.get_boot_record(vm)
        self.assertEqual((record["uuid"], record["PV_kernel"]), (self.api.VM.get_uuid(vm), "vmlinuz"))

    def test_what_no_guest_here_can(self):
        vm = self.make()
        self.start(vm)
        self.fails("XENAPI_MISSING_PLUGIN", ["p"], "VM.call_plugin", vm, "p", "f", {})
        self.fails("XENAPI_MISSING_PLUGIN", ["p"], "VM.call_host_plugin", vm, "p", "f", {})
        self.assertNotIn("sysprep", self.api.VM.get_allowed_operations(vm))
        self.fails("SYSPREP", None, "VM.sysprep", vm, "<unattend/>", 1.0)
        self.fails("NOT_IMPLEMENTED", None, "VM.s3_suspend", vm)

    def test_secure_boot(self):
        for params, platform, wanted in (({}, {}, "not_supported"), ({"firmware": "bios"}, {}, "not_supported"),
                                         ({"firmware": "uefi"}, {}, "disabled"),
                                         ({"firmware": "uefi"}, {"secureboot": "true"}, "first_boot")):
            vm = self.make(HVM_boot_params=params, platform=platform)
            self.assertEqual(self.api.VM.get_secureboot_readiness(vm), wanted)
        self.api.VM.set_NVRAM(vm, {"EFI-variables": "x"})
        self.assertEqual(self.api.VM.get_secureboot_readiness(vm), "setup_mode")
        self.api.VM.remove_from_NVRAM(vm, "EFI-variables")
        self.api.VM.add_to_NVRAM(vm, "a", "b")
        self.assertEqual(self.api.VM.get_NVRAM(vm), {"a": "b"})

    def test_settings(self):
        vm = self.make()
        self.api.VM.set_HVM_shadow_multiplier(vm, 2.0)
        self.assertEqual(self.api.VM.get_HVM_shadow_multiplier(vm), 2.0)
        self.fails("INVALID_VALUE", None, "VM.set_HVM_shadow_multiplier", vm, 0.5)
        self.start(vm)
        self.api.VM.set_shadow_multiplier_live(vm, 3.0)
        self.fails("VM_BAD_POWER_STATE", None, "VM.set_HVM_shadow_multiplier", vm, 2.0)
        self.api.VM.set_ha_restart_priority(vm, "restart")
        self.assertEqual(self.api.VM.get_ha_always_run(vm), True)
        self.fails("INVALID_VALUE", ["ha_restart_priority", "never"], "VM.set_ha_restart_priority", vm, "never")
        self.api.VM.set_ha_restart_priority(vm, "")
        self.assertEqual(self.api.VM.get_ha_always_run(vm), False)
        self.api.VM.set_ha_always_run(vm, True)
        self.api.VM.set_ha_always_run(vm, False)
        self.api.VM.hard_shutdown(vm)
        self.api.VM.copy_bios_strings(vm, self.host)
        self.assertEqual(self.api.VM.get_bios_strings(vm), self.api.host.get_bios_strings(self.host))
        self.api.VM.set_is_a_template(vm, True)
        self.fails("VM_IS_TEMPLATE", [vm, "set_ha_restart_priority"], "VM.set_ha_restart_priority", vm, "restart")
        self.api.VM.set_is_default_template(vm, True)
        self.assertNotIn("destroy", self.api.VM.get_allowed_operations(vm))
        self.fails("VM_IS_TEMPLATE", [vm, "destroy"], "VM.destroy", vm)
        self.api.VM.set_is_default_template(vm, False)

    def test_disks_of_this_pool(self):
        vdi = self.disk()
        for message, arguments in (("VDI.set_on_boot", ("reset",)), ("VDI.resize_online", (2 * MIB,))):
            self.fails("SR_OPERATION_NOT_SUPPORTED", [self.sr], message, vdi, *arguments)
        self.api.VDI.set_allow_caching(vdi, True)
        self.assertTrue(self.api.VDI.get_allow_caching(vdi))
        # Some state in which rules differ is only made by storage.
        self.api.VDI.set_managed(vdi, False)
        vbd = self.drive(self.make(), vdi)
        self.fails("VDI_NOT_MANAGED", [vdi], "VBD.assert_attachable", vbd)
        self.api.VDI.set_managed(vdi, True)
        self.api.VBD.assert_attachable(vbd)


class Appliances(VmCase):
    def test_order_and_partial_failure(self):
        appliance = self.api.VM_appliance.create({"name_label": "a", "name_description": ""})
        self.assertEqual(self.api.VM_appliance.get_allowed_operations(appliance), [])
        self.fails("OPERATION_NOT_ALLOWED", None, "VM_appliance.start", appliance, False)
        vms = [self.make() for _ in range(3)]
        for order, vm in zip((2, 0, 1), vms):
            self.api.VM.set_order(vm, order)
            self.api.VM.set_appliance(vm, appliance)
        self.assertEqual(sorted(self.api.VM_appliance.get_VMs(appliance)), sorted(vms))
        self.fails("VM_IS_PART_OF_AN_APPLIANCE", [vms[0], appliance], "VM.set_is_a_template", vms[0], True)
        self.assertEqual(self.api.VM_appliance.get_allowed_operations(appliance), ["start"])
        self.api.VM_appliance.start(appliance, False)
        self.assertEqual([self.state(v) for v in vms], ["Running"] * 3)
        started = [int(self.api.VM.get_domid(v)) for v in vms]
        self.assertEqual(sorted(started), [started[1], started[2], started[0]])
        self.assertEqual(sorted(self.api.VM_appliance.get_allowed_operations(appliance)),
                         ["clean_shutdown", "hard_shutdown", "shutdown"])
        # One that is up already, one that cannot: the rest are done all the same.
        self.api.VM_appliance.hard_shutdown(appliance)
        self.api.VM.add_to_blocked_operations(vms[1], "start", "not this one")
        self.fails("OPERATION_PARTIALLY_FAILED", ["VM_appliance.start"], "VM_appliance.start", appliance, True)
        self.assertEqual([self.state(v) for v in vms], ["Paused", "Halted", "Paused"])
        self.api.VM.unpause(vms[0])
        self.api.VM.unpause(vms[2])
        self.api.VM_appliance.clean_shutdown(appliance)
        self.assertEqual([self.state(v) for v in vms], ["Halted"] * 3)
        self.api.VM.remove_from_blocked_operations(vms[1], "start")
        self.start(vms[1])
        self.api.VM_appliance.shutdown(appliance)
        self.assertEqual(self.state(vms[1]), "Halted")
        self.api.VM.set_appliance(vms[0], NULL)
        self.assertNotIn(vms[0], self.api.VM_appliance.get_VMs(appliance))

    def test_delays_and_cancelling(self):
        appliance = self.api.VM_appliance.create({"name_label": "slow", "name_description": ""})
        first, second = self.make(), self.make()
        for order, vm in enumerate((first, second)):
            self.api.VM.set_order(vm, order)
            self.api.VM.set_start_delay(vm, 3600)
            self.api.VM.set_appliance(vm, appliance)
        task = self.api.call("Async.VM_appliance.start", self.api.session, appliance, False)
        until("the first runs", lambda: self.state(first) == "Running")
        self.api.task.cancel(task)
        self.task_ends(task, "cancelled")
        self.assertEqual(self.state(second), "Halted")
        self.assertEqual(self.api.VM_appliance.get_current_operations(appliance), {})

    def test_one_order_at_once_and_cancelling_what_runs(self):
        appliance = self.api.VM_appliance.create({"name_label": "stubborn", "name_description": ""})
        vms = [self.make("sim.ignore_shutdown") for _ in range(3)]
        for vm in vms:
            self.api.VM.set_appliance(vm, appliance)
        self.api.VM_appliance.start(appliance, False)
        until("all are up", lambda: all("clean_shutdown" in self.api.VM.get_allowed_operations(v) for v in vms))
        task = self.api.call("Async.VM_appliance.clean_shutdown", self.api.session, appliance)
        until("all are asked", lambda: all("clean_shutdown" in self.api.VM.get_current_operations(v).values() for v in vms))
        self.api.task.cancel(task)
        self.task_ends(task, "cancelled")
        self.assertEqual([(self.state(v), self.api.VM.get_current_operations(v)) for v in vms], [("Running", {})] * 3)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
