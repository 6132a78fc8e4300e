"""High availability with simulated hosts: switching it on and off, the plan, what it refuses, hosts and agents that
die or stand still, storage that goes away, poold killed in the middle."""
import os
import signal
import subprocess
import unittest

from pool import Failure, program, until
from test_restore import dump_of, put
from vms import MIB, VmCase

HOSTS = 3
SETTINGS = {"lease_ms": "5000", "interval_ms": "200", "margin_ms": "500", "agent_ms": "4000", "restart_ms": "300"}
LIMIT = 90


def setUpModule():
    VmCase.open_pool(hosts=HOSTS, host_options=["--sim-boot-ms", "50", "--sim-memory", "1024", "--reserve-memory", "0"])
    api = VmCase.api
    HaCase.path_of_sr = os.path.join(VmCase.pool.folder, "shared")
    HaCase.shared = api.SR.create(api.host.get_all()[0], {"location": HaCase.path_of_sr}, 0, "shared", "", "file", "", True, {})


def watchdog(host):
    """What it says of itself, as hostd hears it, is not asked for here: its process is."""
    path = os.path.join(host.folder, "ha", "lock")
    if not os.path.exists(path):
        return None
    for pid in os.listdir("/proc"):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if b"--watchdog" in words and host.folder.encode() in words:
            return int(pid)
    return None


def tearDownModule():
    pool = VmCase.pool
    left = [pid for pid in map(watchdog, pool.hosts) if pid]
    try:
        pool.close()
    finally:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class HaCase(VmCase):
    shared = None
    path_of_sr = None

    def setUp(self):
        super().setUp()
        self.sr, self.sr_path = self.shared, self.path_of_sr
        self.self = self.api.pool.get_all()[0]
        self.daemons = {}
        for daemon in self.pool.hosts:
            with open(os.path.join(daemon.folder, "pki", "host-uuid"), encoding="ascii") as file:
                self.daemons[self.api.host.get_by_uuid(file.read().strip())] = daemon

    def tearDown(self):
        super().tearDown()
        if self.api.pool.get_ha_enabled(self.self):
            self.api.pool.disable_ha()
        self.api.pool.set_ha_host_failures_to_tolerate(self.self, 0)
        until("no watchdog is left", lambda: not any(map(watchdog, self.pool.hosts)), LIMIT)

    def enable(self):
        self.api.pool.enable_ha([self.shared], SETTINGS)

    def protected(self, priority="restart", mib=64, start_on=None, **more):
        vm, _ = self.with_disk(memory_static_max=mib * MIB, memory_dynamic_max=mib * MIB, memory_dynamic_min=mib * MIB, **more)
        self.api.VM.set_ha_restart_priority(vm, priority)
        if start_on:
            self.api.VM.start_on(vm, start_on, False, False)
        return vm

    def runs_on(self, vm):
        record = self.api.VM.get_record(vm)
        return record["resident_on"] if record["power_state"] == "Running" else None

    def others(self):
        """Hosts that are not the coordinator's."""
        master = self.api.pool.get_master(self.self)
        return [host for host in self.api.host.get_all() if host != master]

    def told(self, name, uuid=None):
        return [m for m in self.api.message.get_all_records().values()
                if m["name"] == name and uuid in (None, m["obj_uuid"])]

    def live(self, host):
        return self.api.host_metrics.get_live(self.api.host.get_metrics(host))

    def statefiles(self):
        return [v for v in self.api.VDI.get_all_records().values() if v["type"] == "ha_statefile"]

    def moved_from(self, vm, host):
        return until("the VM runs elsewhere", lambda: self.runs_on(vm) not in (None, host), LIMIT)

    def back(self, host):
        """Its agent works again: it becomes live, and armed."""
        until("the host is live again", lambda: self.live(host), LIMIT)
        until("its watchdog is at work", lambda: watchdog(self.daemons[host]), LIMIT)
        fenced = os.path.join(self.daemons[host].folder, "ha", "fenced")
        until("it is armed again", lambda: not os.path.exists(fenced), LIMIT)


class Switching(HaCase):
    def test_off_and_what_cannot_be_switched_on(self):
        api = self.api
        local = api.SR.create(self.host, {"location": self.path_of_sr + "-local"}, 0, "local", "", "file", "", False, {})
        self.fails("HA_NOT_ENABLED", [], "pool.disable_ha")
        self.fails("HA_NOT_ENABLED", [], "host.emergency_ha_disable", False)
        self.fails("CANNOT_CREATE_STATE_FILE", [], "pool.enable_ha", [local], {})
        self.fails("HANDLE_INVALID", None, "pool.enable_ha", [self.self], {})
        self.fails("SR_OPERATION_NOT_SUPPORTED", [local], "SR.assert_can_host_ha_statefile", local)
        api.SR.assert_can_host_ha_statefile(self.shared)
        for bad in ({"timeout": "x"}, {"timeout": "0"}, {"lease_ms": "1000", "interval_ms": "900"}):
            self.fails("INVALID_VALUE", None, "pool.enable_ha", [], bad)
        self.sr, self.sr_path = local, self.path_of_sr + "-local"
        bound = self.protected()
        self.fails("HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", [local], "pool.enable_ha", [self.shared], {})
        self.assertFalse(api.pool.get_ha_enabled(self.self))
        self.assertEqual(self.statefiles(), [])
        self.destroy(bound)
        self.assertTrue(api.host.ha_xapi_healthcheck())

    def test_on_what_it_refuses_and_off(self):
        api = self.api
        self.enable()
        record = api.pool.get_record(self.self)
        disk = self.statefiles()[0]
        self.assertTrue(record["ha_enabled"])
        self.assertEqual(record["ha_configuration"], SETTINGS)
        self.assertEqual(record["ha_statefiles"], [api.VDI.get_by_uuid(disk["uuid"])])
        self.assertEqual((disk["SR"], disk["sharable"]), (self.shared, True))
        uuids = sorted(api.host.get_uuid(host) for host in api.host.get_all())
        for host in api.host.get_all_records().values():
            self.assertEqual(host["ha_statefiles"], record["ha_statefiles"])
            self.assertEqual(sorted(host["ha_network_peers"]), uuids)
        self.assertTrue(all(map(watchdog, self.pool.hosts)))
        self.fails("HA_IS_ENABLED", [], "pool.enable_ha", [self.shared], {})
        self.fails("HA_IS_ENABLED", [], "VDI.destroy", record["ha_statefiles"][0])
        self.fails("HA_IS_ENABLED", [], "pool.eject", self.others()[0])
        for pbd in api.SR.get_PBDs(self.shared):
            self.fails("HA_IS_ENABLED", [], "PBD.unplug", pbd)
        # A VM that only one host can run cannot be promised.
        local = api.SR.create(self.host, {"location": self.path_of_sr + "-other"}, 0, "local", "", "file", "", False, {})
        self.sr, self.sr_path = local, self.path_of_sr + "-other"
        vm, _ = self.with_disk()
        self.fails("HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", [local], "VM.set_ha_restart_priority", vm, "restart")
        api.VM.set_ha_restart_priority(vm, "best-effort")
        self.start(vm)
        agile = self.make()
        api.VM.set_ha_restart_priority(agile, "restart")
        self.fails("HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", [local], "VBD.create", {
            "VM": agile, "VDI": self.disk(), "userdevice": "0", "bootable": False, "mode": "RW", "type": "Disk",
            "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
        self.nic(agile)
        # Its agent's end changes nothing as long as it comes back.
        host = self.others()[0]
        pid = watchdog(self.daemons[host])
        self.daemons[host].kill()
        self.daemons[host].start("hostd.port")
        self.assertEqual(watchdog(self.daemons[host]), pid)
        os.kill(pid, signal.SIGKILL)
        until("another watchdog is at work", lambda: watchdog(self.daemons[host]) not in (None, pid), LIMIT)
        # The coordinator's host by hand.
        api.host.emergency_ha_disable(False)
        master = api.pool.get_master(self.self)
        self.assertIsNone(watchdog(self.daemons[master]))
        self.assertEqual(api.host.get_ha_statefiles(master), [])
        self.assertEqual(self.state(vm), "Running")
        api.pool.disable_ha()
        self.assertEqual(self.state(vm), "Running")
        record = api.pool.get_record(self.self)
        self.assertEqual((record["ha_enabled"], record["ha_statefiles"], record["ha_configuration"]), (False, [], {}))
        self.assertEqual(self.statefiles(), [])
        self.assertEqual([h["ha_statefiles"] for h in api.host.get_all_records().values()], [[]] * HOSTS)

    def test_poold_dies_in_the_middle(self):
        """Afterwards it is on or off, and hosts and storage are accordingly."""
        for failpoint, call, on in (("ha-step:armed", "enable", False), ("ha-step:recorded", "enable", True),
                                    ("ha-step:off", "disable", False)):
            with self.subTest(failpoint=failpoint):
                self.assertEqual(self.api.pool.get_ha_enabled(self.self), call == "disable")
                self.pool.restart(failpoint=failpoint)
                VmCase.api = self.pool.login()
                until("all are live", lambda: self.pool.live_hosts(self.api) == HOSTS, LIMIT)
                with self.assertRaises(Exception):
                    if call == "enable":
                        self.enable()
                    else:
                        self.api.pool.disable_ha()
                until("it died", lambda: not self.pool.poold.running, LIMIT)
                self.pool.kill()
                self.pool.start()
                VmCase.api = self.pool.login()
                self.assertEqual(self.api.pool.get_ha_enabled(self.self), on)
                until("the watchdogs are as they should be",
                      lambda: [bool(watchdog(h)) for h in self.pool.hosts] == [on] * HOSTS, LIMIT)
                until("the disk is as it should be", lambda: len(self.statefiles()) == int(on), LIMIT)
                until("all are live", lambda: self.pool.live_hosts(self.api) == HOSTS, LIMIT)


class Plan(HaCase):
    def test_what_the_plan_says_and_refuses(self):
        api, hosts = self.api, self.api.host.get_all()
        overhead = api.VM.compute_memory_overhead(self.make())
        self.assertEqual(api.pool.ha_compute_max_host_failures_to_tolerate(), 2)
        a = self.protected(mib=600, start_on=hosts[0])
        b = self.protected("", mib=600, start_on=hosts[1])
        c = self.protected(mib=250)
        self.assertLess(overhead, 100 * MIB)
        self.assertEqual(api.pool.ha_compute_max_host_failures_to_tolerate(), 1)
        self.assertEqual([api.pool.ha_failover_plan_exists(n) for n in (-1, 0, 1, 2, 9)], [False, True, True, False, False])
        self.assertEqual(api.pool.ha_compute_hypothetical_max_host_failures_to_tolerate({b: "restart"}), 1)
        self.assertEqual(api.pool.ha_compute_hypothetical_max_host_failures_to_tolerate({a: ""}), 2)
        self.fails("INVALID_VALUE", None, "pool.ha_compute_hypothetical_max_host_failures_to_tolerate", {a: "x"})
        self.assertEqual(api.pool.ha_compute_vm_failover_plan([hosts[0]], []), {a: {"host": hosts[2]}})
        self.assertEqual(api.pool.ha_compute_vm_failover_plan([], [a]), {a: {"host": hosts[2]}} | api.pool.ha_compute_vm_failover_plan([], [a]))
        self.assertEqual(api.pool.ha_compute_vm_failover_plan(hosts, []), {a: {"error_code": "NO_HOSTS_AVAILABLE"}})
        self.fails("INVALID_VALUE", None, "pool.set_ha_host_failures_to_tolerate", self.self, -1)
        self.enable()
        self.fails("HA_NO_PLAN", [], "pool.set_ha_host_failures_to_tolerate", self.self, 2)
        api.pool.set_ha_host_failures_to_tolerate(self.self, 1)
        until("the plan is known", lambda: api.pool.get_ha_plan_exists_for(self.self) == 1, LIMIT)
        broken = "HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN"
        # c and a do not fit together beside b, nor with only two hosts that take VMs.
        big = self.protected("", mib=600)
        self.fails(broken, [], "VM.start_on", big, hosts[2], False, False)
        self.fails(broken, [], "host.disable", hosts[2])
        api.VM.start_on(c, hosts[2], False, False)
        self.assertTrue(api.VM.get_ha_always_run(c))
        # Allowed, and told.
        api.pool.set_ha_allow_overcommit(self.self, True)
        api.VM.hard_shutdown(c)
        self.assertFalse(api.VM.get_ha_always_run(c))
        api.VM.start_on(big, hosts[2], False, False)
        until("the pool is overcommitted", lambda: api.pool.get_ha_overcommitted(self.self), LIMIT)
        self.assertEqual(api.pool.get_ha_plan_exists_for(self.self), 0)
        uuid = api.pool.get_uuid(self.self)
        self.assertTrue(self.told("HA_POOL_OVERCOMMITTED", uuid))
        self.assertTrue(self.told("HA_POOL_DROP_IN_PLAN_EXISTS_FOR", uuid))
        api.pool.set_ha_allow_overcommit(self.self, False)
        api.VM.hard_shutdown(big)
        until("there is room again", lambda: not api.pool.get_ha_overcommitted(self.self), LIMIT)

    def test_command_line(self):
        def xe(*words):
            run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(self.pool.port), "-u", "root", "-pw", self.pool.password,
                                  "--ca", self.pool.ca, *words], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, check=False, timeout=LIMIT)
            self.assertEqual(run.returncode, 0, (words, run.stdout))
            return run.stdout.strip()
        config = [f"ha-config:{key}={value}" for key, value in SETTINGS.items()]
        xe("pool-ha-enable", f"heartbeat-sr-uuids={self.api.SR.get_uuid(self.shared)}", *config)
        self.assertTrue(self.api.pool.get_ha_enabled(self.self))
        self.assertEqual(xe("pool-ha-compute-max-host-failures-to-tolerate"), "2")
        xe("pool-ha-prevent-restarts-for", "seconds=0")
        xe("pool-ha-disable")
        self.assertFalse(self.api.pool.get_ha_enabled(self.self))


class Failures(HaCase):
    def test_an_agent_dies(self):
        api = self.api
        first, second = self.others()
        vm = self.protected(start_on=first, order=1, start_delay=1)
        late = self.protected(start_on=first, order=2)
        effort = self.protected("best-effort", start_on=first)
        plain = self.protected("", start_on=first)
        self.enable()
        uuid = api.host.get_uuid(first)
        # kill -9: nobody watches over its guests but the watchdog.
        self.daemons[first].kill()
        self.moved_from(vm, first)
        self.moved_from(late, first)
        self.moved_from(effort, first)
        self.assertEqual(self.state(plain), "Halted")
        self.assertFalse(self.live(first))
        self.assertTrue(self.told("HA_HOST_WAS_FENCED", uuid))
        metrics = [api.VM_metrics.get_start_time(api.VM.get_metrics(one)) for one in (vm, late)]
        self.assertLessEqual(metrics[0], metrics[1])
        # Off while it is away, which nobody can switch on again then. When it is back it is disarmed.
        api.pool.disable_ha()
        self.assertEqual(api.host.get_ha_statefiles(second), [])
        self.fails("HOST_OFFLINE", [first], "pool.enable_ha", [self.shared], SETTINGS)
        self.daemons[first].start("hostd.port")
        until("it is live", lambda: self.live(first), LIMIT)
        until("nothing is left", lambda: not self.statefiles() and not watchdog(self.daemons[first]), LIMIT)
        self.start(plain)
        self.enable()
        # Ends by itself on a host that is well: again; on purpose: not.
        api.VM.hard_shutdown(late)
        self.assertEqual(self.told("HA_PROTECTED_VM_RESTART_FAILED"), [])
        dies = self.protected(PV_args="sim.poweroff_ms=1500")
        self.start(dies)
        start = api.VM_metrics.get_start_time(api.VM.get_metrics(dies))
        until("it was started again", lambda: self.runs_on(dies) and
              api.VM_metrics.get_start_time(api.VM.get_metrics(dies)) > start, LIMIT)
        until("its ends are told", lambda: self.told("HA_PROTECTED_VM_RESTART_FAILED", api.VM.get_uuid(dies)), LIMIT)
        api.VM.set_ha_restart_priority(dies, "")
        self.assertEqual(self.state(late), "Halted")

    def test_host_and_watchdog_die_together(self):
        """As when a machine loses its power: nothing says so, until lease and margin are over."""
        first = self.others()[0]
        vm = self.protected(start_on=first)
        self.enable()
        pid = watchdog(self.daemons[first])
        self.daemons[first].kill()
        os.kill(pid, signal.SIGKILL)
        self.moved_from(vm, first)
        for name in ["HA_HEARTBEAT_APPROACHING_TIMEOUT", "HA_HOST_FAILED"]:
            self.assertTrue(self.told(name, self.api.host.get_uuid(first)), name)
        # poold is started anew meanwhile, and the host comes back: it has guests by its own word, and ends them.
        self.pool.restart()
        VmCase.api = self.pool.login()
        self.daemons[first].start("hostd.port")
        self.back(first)
        self.assertNotIn(self.runs_on(vm), (None, first))
        self.assertEqual(self.api.host.get_resident_VMs(first), [self.api.host.get_control_domain(first)])

    def test_poold_dies_as_it_notes_a_failure(self):
        """Nothing says so in its rows: the next one counts the signs of life anew, and comes to the same."""
        first = self.others()[0]
        vm = self.protected(start_on=first)
        self.enable()
        uuid = self.api.host.get_uuid(first)
        before = len(self.told("HA_HOST_FAILED", uuid))
        self.pool.restart(failpoint="ha-step:failed")
        VmCase.api = self.pool.login()
        until("all are live", lambda: self.pool.live_hosts(self.api) == HOSTS, LIMIT)
        pid = watchdog(self.daemons[first])
        self.daemons[first].kill()
        os.kill(pid, signal.SIGKILL)
        until("it died", lambda: not self.pool.poold.running, LIMIT)
        self.assertEqual(self.pool.poold.process.returncode, -9)
        self.pool.kill()
        self.pool.start()
        VmCase.api = self.pool.login()
        self.assertEqual(self.runs_on(vm), first)
        self.moved_from(vm, first)
        self.assertEqual(len(self.told("HA_HOST_FAILED", uuid)), before + 1)
        self.daemons[first].start("hostd.port")
        self.back(first)
        self.assertNotIn(self.runs_on(vm), (None, first))

    def test_the_server_stands_still(self):
        """For longer than leases last: what it has not heard meanwhile says nothing of the hosts, which live on by their disk."""
        api = self.api
        vms = [self.protected(start_on=host) for host in api.host.get_all()]
        self.enable()
        domids = [api.VM.get_domid(vm) for vm in vms]
        before = len(self.told("HA_HOST_FAILED") + self.told("HA_HOST_WAS_FENCED"))
        self.pool.poold.signal(signal.SIGSTOP)
        try:
            until("leases would be over", self.lease_is_over(), LIMIT)
        finally:
            self.pool.poold.signal(signal.SIGCONT)
        until("another lease", self.lease_is_over(), LIMIT)
        self.assertEqual([api.VM.get_domid(vm) for vm in vms], domids)
        self.assertEqual([self.state(vm) for vm in vms], ["Running"] * HOSTS)
        self.assertEqual(len(self.told("HA_HOST_FAILED") + self.told("HA_HOST_WAS_FENCED")), before)
        self.assertTrue(all(map(watchdog, self.pool.hosts)))

    def test_the_heartbeat_disk_is_lost(self):
        """No host reaches it: all live on by their answers to the server, for longer than a lease."""
        api = self.api
        vms = [self.protected(start_on=host) for host in api.host.get_all()]
        self.enable()
        domids = [api.VM.get_domid(vm) for vm in vms]
        since = [m["uuid"] for m in self.told("HA_STATEFILE_LOST")]
        os.rename(self.path_of_sr, self.path_of_sr + "-away")
        try:
            until("the loss is told", lambda: len(self.told("HA_STATEFILE_LOST")) >= len(since) + HOSTS, LIMIT)
            ticks = until("a lease is over", self.lease_is_over(), LIMIT)
            self.assertTrue(ticks)
        finally:
            os.rename(self.path_of_sr + "-away", self.path_of_sr)
        self.assertEqual([api.VM.get_domid(vm) for vm in vms], domids)
        self.assertEqual([self.state(vm) for vm in vms], ["Running"] * HOSTS)

    @staticmethod
    def lease_is_over():
        """True when 1.5 leases have passed since the first question."""
        import time
        end = time.monotonic() + 1.5 * int(SETTINGS["lease_ms"]) / 1000
        return lambda: time.monotonic() > end

    def test_a_host_loses_disk_and_server(self):
        """The agent stands still and the disk is away: the watchdog alone ends what it can, and the others wait until
        they can read that."""
        first = self.others()[0]
        vm = self.protected(start_on=first)
        self.enable()
        fenced = os.path.join(self.daemons[first].folder, "ha", "fenced")
        os.rename(self.path_of_sr, self.path_of_sr + "-away")
        try:
            os.kill(self.daemons[first].pid, signal.SIGSTOP)
            until("it is fenced", lambda: os.path.exists(fenced), LIMIT)
            self.assertEqual(self.runs_on(vm), first)  # nobody knows
        finally:
            os.rename(self.path_of_sr + "-away", self.path_of_sr)
        self.moved_from(vm, first)
        os.kill(self.daemons[first].pid, signal.SIGCONT)
        self.back(first)


class Restored(HaCase):
    """The database written back, as an operator does it who uses high availability: off, restore, on again."""

    def dump(self):
        return dump_of(self.pool, self.api)

    def put_back(self, dump):
        self.assertEqual(put(self.pool, self.api, dump), [])
        old = self.api.session

        def anew():
            try:
                self.pool.client().call("pool.get_all", old)
            except Failure as failure:
                return failure.code == "SESSION_INVALID"
            except OSError:
                pass
            return False
        until("poold starts anew", anew, LIMIT, 0.1)
        VmCase.api = self.api = self.pool.login()

    def all_off(self):
        record = self.api.pool.get_record(self.self)
        self.assertEqual((record["ha_enabled"], record["ha_statefiles"], record["ha_configuration"]), (False, [], {}))
        until("no disk is left", lambda: not self.statefiles(), LIMIT)
        until("no host takes part", lambda: [h["ha_statefiles"] for h in self.api.host.get_all_records().values()] == [[]] * HOSTS,
              LIMIT)
        self.assertFalse(any(map(watchdog, self.pool.hosts)))

    def test_a_dump_of_when_it_was_on(self):
        first = self.others()[0]
        vm = self.protected(start_on=first)
        self.enable()
        dump = self.dump()
        refused = self.pool.http("PUT", "/pool/xmldbdump", dump, {"Cookie": f"session_id={self.api.session}"})
        self.assertIn(b"HA_IS_ENABLED", refused[2])
        domid = self.api.VM.get_domid(vm)
        self.api.pool.disable_ha()
        self.put_back(dump)
        until("all are live", lambda: self.pool.live_hosts(self.api) == HOSTS, LIMIT)
        self.all_off()
        self.assertEqual((self.state(vm), self.api.VM.get_domid(vm)), ("Running", domid))
        self.enable()
        self.daemons[first].kill()
        self.moved_from(vm, first)
        self.daemons[first].start("hostd.port")
        self.back(first)

    def test_a_host_that_is_away(self):
        """It cannot be asked: what ran there counts as running there, until it is back or given up."""
        first = self.others()[0]
        vm = self.protected(start_on=first)
        self.enable()
        dump = self.dump()
        self.api.pool.disable_ha()
        self.daemons[first].kill()
        self.put_back(dump)
        until("the others are live", lambda: self.pool.live_hosts(self.api) == HOSTS - 1, LIMIT)
        self.assertEqual(self.runs_on(vm), first)
        self.fails("HOST_OFFLINE", [first], "pool.enable_ha", [self.shared], SETTINGS)
        self.assertFalse(self.api.pool.get_ha_enabled(self.self))
        self.daemons[first].start("hostd.port")
        until("all are live", lambda: self.pool.live_hosts(self.api) == HOSTS, LIMIT)
        self.all_off()
        self.enable()
        self.assertTrue(all(map(watchdog, self.pool.hosts)))

    def test_switched_on_while_the_dump_is_on_its_way(self):
        dump = self.dump()
        task = self.api.task.create("restore", "")
        with self.pool.connect() as sock:
            sock.sendall(f"PUT /pool/xmldbdump?task_id={task} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(dump)}\r\n"
                         f"Cookie: session_id={self.api.session}\r\n\r\n".encode() + dump[:-100])
            until("it is being read", lambda: self.api.task.get_progress(task) > 0, LIMIT)
            self.enable()
            sock.sendall(dump[-100:])
            until("the task ends", lambda: self.api.task.get_status(task) != "pending", LIMIT)
        self.assertEqual(self.api.task.get_error_info(task)[:1], ["HA_IS_ENABLED"])
        self.assertTrue(self.api.pool.get_ha_enabled(self.self))
        self.api.pool.set_name_description(self.self, "changes are taken")


if __name__ == "__main__":
    unittest.main(verbosity=2)
