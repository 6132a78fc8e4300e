"""Hosts that go and come: off, anew, on from afar; what would become of their VMs; their logs and names."""
import os
import socket
import stat
import unittest

from pool import NULL, Failure, module_pool, until
from test_events import vm_record

POOL = None
GONE = "OpaqueRef:00000000-0000-4000-8000-000000000000"


def write_program(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path, stat.S_IRWXU)


def setUpModule():
    global POOL
    POOL = module_pool(hosts=0)
    power = os.path.join(POOL.folder, "power")
    # Notes what it was asked, and ends the agent as a machine's end would.
    write_program(power, f'echo "$1" >> {POOL.folder}/asked\n(sleep 0.3; kill -KILL $PPID) >/dev/null 2>&1 &\n')
    POOL.host_options += ["--power-command", power]
    POOL.add_host()
    POOL.host_options.clear()
    POOL.add_host()


class HostPowerTest(unittest.TestCase):
    def setUp(self):
        self.api = POOL.login()
        self.by_number = {}
        for host, record in self.api.host.get_all_records().items():
            for number in (1, 2):
                if POOL.read(f"../host{number}/pki/host-uuid") == record["uuid"]:
                    self.by_number[number] = host
        for host in self.by_number.values():
            self.api.host.enable(host)

    def refused(self, error, call, *args):
        with self.assertRaises(Failure) as caught:
            call(*args)
        self.assertEqual([caught.exception.code, *caught.exception.params], error)

    def live(self, host):
        return self.api.host_metrics.get_live(self.api.host.get_metrics(host))

    def start_again(self, number):
        host = POOL.hosts[number - 1]
        host.kill()
        host.start("hostd.port")
        until("the host is live", lambda: self.live(self.by_number[number]), 60)

    def vm_on(self, host, name, **fields):
        vm = self.api.VM.create({**vm_record(name), "PV_kernel": "vmlinuz", "HVM_boot_policy": "", **fields})
        self.addCleanup(lambda: self.api.VM.destroy(vm))
        self.api.VM.start_on(vm, host, False, False)
        self.addCleanup(lambda: self.api.VM.hard_shutdown(vm))
        return vm

    def end(self, number, action):
        host = self.by_number[number]
        self.refused(["HOST_NOT_DISABLED"], getattr(self.api.host, action), host)
        self.api.host.disable(host)
        self.assertIn(action, self.api.host.get_allowed_operations(host))
        getattr(self.api.host, action)(host)
        self.assertEqual(POOL.read("../asked").split()[-1], action)
        self.assertFalse(self.live(host))
        until("the machine is off", lambda: not POOL.hosts[number - 1].running)

    def test_off_and_on_from_afar(self):
        self.refused(["HOST_IS_LIVE", self.by_number[1]], self.api.host.power_on, self.by_number[1])
        self.end(1, "shutdown")
        self.wake(self.by_number[1])
        self.start_again(1)

    def test_anew(self):
        self.end(1, "reboot")
        self.start_again(1)

    def test_a_host_in_use_stays(self):
        host = self.by_number[1]
        vm = self.vm_on(host, "stays")
        self.api.host.disable(host)
        self.refused(["HOST_IN_USE", host, "VM", vm], self.api.host.shutdown, host)
        self.refused(["HOST_IN_USE", host, "VM", vm], self.api.host.reboot, host)
        self.assertTrue(self.live(host))

    def test_an_agent_without_a_command_says_so(self):
        host = self.by_number[2]
        self.api.host.disable(host)
        with self.assertRaises(Failure) as caught:
            self.api.host.shutdown(host)
        self.assertEqual(caught.exception.code, "OPERATION_NOT_ALLOWED")
        self.assertIn("--power-command", caught.exception.params[0])
        self.assertTrue(self.live(host))

    def test_the_agent_starts_anew_and_guests_run_on(self):
        host = self.by_number[2]
        vm = self.vm_on(host, "runs on")
        domid = self.api.VM.get_domid(vm)
        pid = POOL.hosts[1].pid
        readies = POOL.hosts[1].log().count(" main: ready")
        self.api.host.restart_agent(host)
        until("the agent has started anew", lambda: POOL.hosts[1].log().count(" main: ready") > readies, 60)
        self.assertEqual(POOL.hosts[1].pid, pid)
        self.assertTrue(POOL.hosts[1].running)
        until("the host answers again", lambda: self.answers(host), 60)
        self.assertEqual((self.api.VM.get_power_state(vm), self.api.VM.get_domid(vm)), ("Running", domid))

    def answers(self, host):
        try:
            return self.api.host.get_log(host)
        except Failure:
            return None

    def wake(self, host):
        self.refused(["HOST_POWER_ON_MODE_DISABLED"], self.api.host.power_on, host)
        self.api.host.set_power_on_mode(host, "carrier pigeon", {})
        self.refused(["XENAPI_MISSING_PLUGIN", "carrier pigeon"], self.api.host.power_on, host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(30)
            config = {"mac": "02:00:00:aB:cd:ef", "broadcast_address": "127.0.0.1", "port": str(sock.getsockname()[1])}
            self.api.host.set_power_on_mode(host, "wake-on-lan", config)
            self.assertEqual(self.api.host.get_power_on_config(host), config)
            self.api.host.power_on(host)
            self.assertEqual(sock.recv(200), b"\xff" * 6 + bytes.fromhex("020000abcdef") * 16)
        for key, value in (("mac", "02:00:00:ab:cd"), ("broadcast_address", "example.org"), ("port", "0")):
            self.api.host.set_power_on_mode(host, "wake-on-lan", {**config, key: value})
            with self.assertRaises(Failure) as caught:
                self.api.host.power_on(host)
            self.assertEqual([caught.exception.code, *caught.exception.params[:2]],
                             ["VALUE_NOT_SUPPORTED", "power_on_config:" + key, value])
        secret = self.api.secret.create({"value": "hush", "other_config": {}})
        board = {"power_on_ip": "-oProxy", "power_on_user": "root",
                 "power_on_password_secret": self.api.secret.get_uuid(secret)}
        self.api.host.set_power_on_mode(host, "IPMI", board)
        with self.assertRaises(Failure) as caught:
            self.api.host.power_on(host)
        self.assertEqual(caught.exception.params[0], "power_on_config:power_on_ip")
        self.api.host.set_power_on_mode(host, "", {})

    def test_who_could_move(self):
        here, there = self.by_number[1], self.by_number[2]
        vm = self.vm_on(here, "movable")
        self.api.host.assert_can_evacuate(here)
        self.assertEqual(self.api.host.get_vms_which_prevent_evacuation(here), {})
        self.assertEqual(self.api.host.get_uncooperative_resident_VMs(here), [])
        self.api.host.disable(there)
        self.assertEqual(self.api.host.get_vms_which_prevent_evacuation(here), {vm: ["HOST_DISABLED", there]})
        self.refused(["CANNOT_EVACUATE_HOST", f"HOST_DISABLED,{there}"], self.api.host.assert_can_evacuate, here)

    def test_logs(self):
        host = self.by_number[1]
        self.assertIn("main: ready", self.api.host.get_log(host))
        self.assertIn("Linux version", self.api.host.dmesg(host))
        self.assertIn("Linux version", self.api.host.dmesg_clear(host))
        self.api.host.sync_data(host)

    def test_name(self):
        host = self.by_number[2]
        self.api.host.set_hostname_live(host, "north-2.example")
        record = self.api.host.get_record(host)
        self.assertEqual((record["hostname"], record["software_version"]["hostname"]), ("north-2.example",) * 2)
        for name in ("", "-x", "a b", "x" * 64, "\u00e4"):
            with self.assertRaises(Failure) as caught:
                self.api.host.set_hostname_live(host, name)
            self.assertEqual(caught.exception.code, "HOST_NAME_INVALID")

    def test_no_such_host(self):
        for call, args in ((self.api.host.shutdown, []), (self.api.host.power_on, []),
                           (self.api.host.restart_agent, []), (self.api.host.dmesg, []), (self.api.host.sync_data, []),
                           (self.api.host.set_hostname_live, ["x"]), (self.api.host.set_power_on_mode, ["", {}]),
                           (self.api.host.assert_can_evacuate, []), (self.api.host.get_uncooperative_resident_VMs, [])):
            self.refused(["HANDLE_INVALID", "host", GONE], call, GONE, *args)

    def test_z_the_server_ends_when_asked(self):
        host = self.by_number[2]
        vm = self.vm_on(host, "unimpressed")
        process = POOL.poold.process
        self.api.host.shutdown_agent()
        self.assertEqual(process.wait(60), 0)
        POOL.close_clients()
        POOL.start()
        self.api = POOL.login()
        self.assertEqual(self.api.VM.get_power_state(vm), "Running")
        self.assertNotEqual(self.api.VM.get_resident_on(vm), NULL)


if __name__ == "__main__":
    unittest.main()
