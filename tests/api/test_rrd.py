"""Measurements: /rrd_updates, the archives of VMs, hosts and SRs in both forms, data sources. One VM runs under
known load all the time (hv/sim/stats.c says how much its counters grow)."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
import urllib.parse
import xml.etree.ElementTree as ET

from pool import NULL, Failure, TestPool, module_pool, until
from test_vm import simulated

POOL = API = VM = VM_UUID = HOST_UUID = SR = SR_UUID = None
RUN_S = 60
SHAPES = [(1, 120), (12, 120), (720, 168), (17280, 366)]


def setUpModule():
    global POOL, API, VM, VM_UUID, HOST_UUID, SR, SR_UUID
    POOL = module_pool(hosts=1, host_options=["--sim-boot-ms", "50"])
    API = POOL.login()
    host = API.host.get_all()[0]
    HOST_UUID = API.host.get_uuid(host)
    folder = os.path.join(POOL.folder, "disks")
    os.mkdir(folder)
    SR = API.SR.create(host, {"location": folder}, 0, "disks", "", "file", "", False, {})
    SR_UUID = API.SR.get_uuid(SR)
    VM = API.VM.create(simulated("busy", "sim.cpu_percent=40", VCPUs_max=2, VCPUs_at_startup=2))
    VM_UUID = API.VM.get_uuid(VM)
    vdi = API.VDI.create({"name_label": "d", "name_description": "", "SR": SR, "virtual_size": 1 << 20,
                          "type": "user", "sharable": False, "read_only": False, "other_config": {}, "xenstore_data": {},
                          "sm_config": {}, "tags": []})
    API.VBD.create({"VM": VM, "VDI": vdi, "device": "", "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk",
                    "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
                    "qos_algorithm_params": {}})
    network = API.network.get_all()[0]
    API.VIF.create({"device": "0", "network": network, "VM": VM, "MAC": "", "MTU": 1500, "other_config": {},
                    "qos_algorithm_type": "", "qos_algorithm_params": {}})
    API.VM.start(VM, False, False)
    until("the VM's processors are measured", lambda: measured("cpu0"), RUN_S)


def measured(name):
    """The newest known value of the VM's source."""
    try:
        value = API.VM.query_data_source(VM, name)
    except Failure as failure:
        if failure.code == "INVALID_VALUE":
            return None
        raise
    return value if value == value else None


def get(path, session=None, headers=None, **query):
    query.setdefault("session_id", session or API.session)
    pairs = [(k, v) for k, values in query.items() for v in (values if isinstance(values, list) else [values])]
    return POOL.http("GET", path + "?" + urllib.parse.urlencode(pairs), headers=headers or {})


def updates(**query):
    status, headers, body = get("/rrd_updates", **query)
    assert status == 200, (status, body)
    return headers, ET.fromstring(body)


def legend(tree):
    return [entry.text for entry in tree.find("meta/legend")]


class Updates(unittest.TestCase):
    def test_xml(self):
        headers, tree = updates(start=-20, cf="AVERAGE", interval=5)
        self.assertEqual(headers["Content-Type"], "text/xml")
        self.assertEqual(headers["Access-Control-Allow-Origin"], "*")
        self.assertIn("Content-Length", headers)
        self.assertEqual([child.tag for child in tree], ["meta", "data"])
        self.assertEqual([child.tag for child in tree[0]], ["start", "step", "end", "rows", "columns", "legend"])
        meta = {child.tag: child.text for child in tree[0]}
        rows = tree.findall("data/row")
        names = legend(tree)
        self.assertEqual((meta["step"], int(meta["rows"]), int(meta["columns"])), ("5", len(rows), len(names)))
        times = [int(row.find("t").text) for row in rows]
        self.assertEqual(times, [int(meta["end"]) - 5 * i for i in range(len(rows))])
        self.assertTrue(all(name.startswith(f"AVERAGE:vm:{VM_UUID}:") for name in names))
        for row in rows:
            self.assertEqual(len(row.findall("v")), len(names))
            self.assertEqual(row[0].tag, "t")
        column = names.index(f"AVERAGE:vm:{VM_UUID}:cpu0")
        values = [float(row.findall("v")[column].text) for row in rows]
        self.assertTrue(any(abs(value - 0.4) < 0.02 for value in values), values)

    def test_json_is_the_same_in_text(self):
        _, tree = updates(start=-20)
        start = int(tree.find("meta/end").text)
        for query in ({"json": "true"}, {"headers": {"Accept": "application/json"}}):
            status, headers, body = get("/rrd_updates", start=start, **query)
            self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
            answer = json.loads(body)
            self.assertEqual(list(answer), ["meta", "data"])
            self.assertEqual(list(answer["meta"]), ["start", "step", "end", "rows", "columns", "legend"])
            self.assertEqual(answer["meta"]["step"], "5")
            self.assertEqual(answer["meta"]["columns"], str(len(answer["meta"]["legend"])))
            self.assertEqual({name.split(":")[0] for name in answer["meta"]["legend"]}, {"AVERAGE", "MIN", "MAX"})
            for row in answer["data"]:
                self.assertEqual(list(row), ["t", "values"])
                self.assertTrue(all(isinstance(value, str) for value in row["values"] + [row["t"]]))

    def test_who_is_in(self):
        other = "00000000-0000-4000-8000-000000000000"
        table = (({}, {"vm"}), ({"host": "true"}, {"vm", "host"}), ({"host": "false"}, {"vm"}),
                 ({"sr_uuid": SR_UUID}, {"vm", "sr"}), ({"vm_uuid": other}, set()), ({"vm_uuid": [other, VM_UUID]}, {"vm"}),
                 ({"vm_uuid": other, "host": "true", "sr_uuid": [other, SR_UUID]}, {"host", "sr"}))
        for query, kinds in table:
            _, tree = updates(start=-10, **query)
            self.assertEqual({name.split(":")[1] for name in legend(tree)}, kinds, query)
        uuids = {"vm": VM_UUID, "host": HOST_UUID, "sr": SR_UUID}
        for name in legend(updates(start=-10, host="true", sr_uuid=SR_UUID)[1]):
            cf, kind, uuid, _ = name.split(":")
            self.assertEqual(uuid, uuids[kind])
            self.assertIn(cf, ("AVERAGE", "MIN", "MAX"))

    def test_the_archive_follows_interval_and_start(self):
        end = int(updates(start=-1)[1].find("meta/end").text)
        for query, step in (({"start": end - 100}, 5), ({"start": end - 100, "interval": 9}, 5),
                            ({"start": end - 100, "interval": 10}, 60),
                            ({"start": end - 900}, 60), ({"start": end - 100, "interval": 3600}, 3600),
                            ({"start": 0}, 86400), ({"start": end - 100, "interval": 1 << 40}, 86400)):
            meta = updates(**query)[1].find("meta")
            self.assertEqual(meta.find("step").text, str(step), query)
            rows = int(meta.find("rows").text)
            self.assertEqual(int(meta.find("end").text) % step, 0)
            self.assertLessEqual(rows, dict((s * 5, r) for s, r in SHAPES)[step])

    def test_bad_questions(self):
        for query in ({}, {"start": "x"}, {"start": ""}, {"start": 0, "interval": "x"}, {"start": 0, "interval": -5},
                      {"start": 0, "cf": "LAST"}, {"start": "9" * 30}):
            status, _, body = get("/rrd_updates", **query)
            self.assertEqual(status, 400, (query, body))
        self.assertEqual(get("/rrd_updates", start=2 ** 62)[0], 200)

    def test_who_may(self):
        self.assertEqual(POOL.http("GET", "/rrd_updates?start=0")[0], 401)
        self.assertEqual(get("/rrd_updates", session="OpaqueRef:x", start=0)[0], 401)
        self.assertEqual(POOL.http("GET", "/rrd_updates?start=-10", headers=POOL.basic())[0], 200)
        self.assertEqual(POOL.http("GET", "/vm_rrd?uuid=" + VM_UUID)[0], 401)


def restored(xml):
    """Lines of `rrdtool fetch` after `rrdtool restore`: [(time, [values])]."""
    folder = tempfile.mkdtemp(prefix="corral-rrd-")
    try:
        with open(os.path.join(folder, "dump.xml"), "wb") as file:
            file.write(xml)
        run = subprocess.run(["rrdtool", "restore", "dump.xml", "x.rrd"], cwd=folder, text=True, check=False,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert run.returncode == 0, run.stdout
        run = subprocess.run(["rrdtool", "fetch", "x.rrd", "AVERAGE", "-s", "-300"], cwd=folder, text=True, check=True,
                             stdout=subprocess.PIPE)
        lines = run.stdout.splitlines()
        return lines[0].split(), [(int(time), values.split()) for time, values in
                                  (line.split(":") for line in lines[2:])]
    finally:
        shutil.rmtree(folder)


class Archives(unittest.TestCase):
    def check_shape(self, root):
        self.assertEqual([child.tag for child in root][:3], ["version", "step", "lastupdate"])
        self.assertEqual((root.find("version").text, root.find("step").text), ("0003", "5"))
        self.assertRegex(root.find("lastupdate").text, r"^\d+$")
        sources = root.findall("ds")
        for source in sources:
            self.assertEqual([child.tag for child in source], ["name", "type", "minimal_heartbeat", "min", "max", "last_ds",
                                                               "value", "unknown_sec"])
            self.assertEqual(source.find("minimal_heartbeat").text, "300.0000")
        archives = root.findall("rra")
        self.assertEqual(len(archives), 12)
        self.assertEqual([(a.find("cf").text, int(a.find("pdp_per_row").text), len(a.findall("database/row")))
                          for a in archives], [(cf, *shape) for cf in ("AVERAGE", "MIN", "MAX") for shape in SHAPES])
        for archive in archives:
            self.assertEqual(archive.find("params/xff").text, "0.5")
            self.assertEqual(len(archive.findall("cdp_prep/ds")), len(sources))
            self.assertEqual({len(row) for row in archive.findall("database/row")}, {len(sources)})
        return [source.find("name").text for source in sources]

    def test_vm(self):
        for path in ("/vm_rrd", "/vm_rrds"):
            status, headers, body = get(path, uuid=VM_UUID)
            self.assertEqual((status, headers["Content-Type"]), (200, "text/xml"))
            self.assertTrue(body.startswith(b'<?xml version="1.0"?>'))
        names = self.check_shape(ET.fromstring(body))
        for name in ("cpu0", "cpu1", "cpu_usage", "memory", "memory_target", "vif_0_rx", "vif_0_tx", "vbd_xvda_read",
                     "vbd_xvda_write", "vbd_xvda_iops_total"):
            self.assertIn(name, names)
        # Names that rrdtool cannot hold are in the JSON form, and in XML when asked for.
        self.assertLessEqual(max(map(len, names)), 19)
        long_names = {"memory_internal_free", "vbd_xvda_read_latency", "vbd_xvda_write_latency"}
        everything = self.check_shape(ET.fromstring(get("/vm_rrd", uuid=VM_UUID, all="true")[2]))
        self.assertLessEqual(long_names | set(names), set(everything))
        answer = json.loads(get("/vm_rrd", uuid=VM_UUID, json="true")[2])
        self.assertEqual(list(answer), ["version", "step", "lastupdate", "ds", "rra"])
        self.assertEqual([source["name"] for source in answer["ds"]], everything)
        self.assertEqual([(a["cf"], int(a["pdp_per_row"]), len(a["database"])) for a in answer["rra"]],
                         [(cf, *shape) for cf in ("AVERAGE", "MIN", "MAX") for shape in SHAPES])
        self.assertEqual({len(row) for row in answer["rra"][0]["database"]}, {len(everything)})

    def test_the_numbers(self):
        """What the simulator's counters promise, as rates."""
        rates = {"cpu0": 0.4, "cpu1": 0.4, "cpu_usage": 0.4, "memory": 64 << 20, "memory_internal_free": 32 << 10,
                 "vif_0_rx": 30000, "vif_0_tx": 15000, "vbd_xvda_read": 409600, "vbd_xvda_write": 204800,
                 "vbd_xvda_iops_read": 100, "vbd_xvda_iops_write": 50, "vbd_xvda_iops_total": 150,
                 "vbd_xvda_read_latency": 200, "vbd_xvda_write_latency": 500, "vbd_xvda_latency": 300,
                 "vbd_xvda_iowait": 0.045, "vbd_xvda_avgqu_sz": 0.045}
        memory = int(API.VM.get_memory_static_max(VM))
        rates["memory"], rates["memory_internal_free"] = memory, memory // 2048
        for name, rate in rates.items():
            value = until(name, lambda: measured(name) is not None and abs(measured(name) / rate - 1) < 0.05, RUN_S)
            self.assertTrue(value)
        host = API.host.get_all()[0]
        sr8 = SR_UUID[:8]
        for name, rate in ((f"io_throughput_read_{sr8}", 409600 / 1048576), (f"iops_total_{sr8}", 150),
                           (f"read_latency_{sr8}", 0.2), (f"iowait_{sr8}", 0.045)):
            until(name, lambda: abs(API.host.query_data_source(host, name) / rate - 1) < 0.05, RUN_S)

    def test_host(self):
        status, _, body = get("/host_rrd")
        self.assertEqual(status, 200)
        names = self.check_shape(ET.fromstring(body))
        for name in ["cpu0", "cpu_avg", "loadavg", "memory_total_kib", "memory_free_kib", "memory_reclaimed", "pif_aggr_rx",
                     "pif_aggr_tx", "hostload", "running_vcpus", "running_domains", "pool_session_count", "pool_task_count",
                     "xapi_open_fds", "iops_read_" + SR_UUID[:8], "iowait_" + SR_UUID[:8]]:
            self.assertIn(name, names)
        self.assertEqual(get("/host_rrds", uuid=HOST_UUID, json="true")[0], 200)

    def test_sr(self):
        status, _, body = get("/sr_rrd", uuid=SR_UUID, all="true")
        self.assertEqual(status, 200)
        self.assertEqual(sorted(self.check_shape(ET.fromstring(body))), ["physical_utilisation", "size"])

    @unittest.skipUnless(shutil.which("rrdtool"), "rrdtool is not installed")
    def test_rrdtool_restores_them(self):
        for path, uuid, name in (("/vm_rrd", VM_UUID, "cpu0"), ("/host_rrd", HOST_UUID, "memory_total_kib"),
                                 ("/sr_rrd", SR_UUID, "size")):
            names, rows = restored(get(path, uuid=uuid)[2])
            column = names.index(name)
            known = [float(values[column]) for _, values in rows if "nan" not in values[column]]
            self.assertTrue(known, path)
            if name == "cpu0":
                self.assertTrue(any(abs(value - 0.4) < 0.02 for value in known), known)

    def test_bad_questions(self):
        other = "00000000-0000-4000-8000-000000000000"
        for path, query, status in (("/vm_rrd", {}, 400), ("/sr_rrd", {}, 400), ("/vm_rrd", {"uuid": other}, 404),
                                    ("/vm_rrd", {"uuid": "../../x"}, 404), ("/host_rrd", {"uuid": VM_UUID}, 404)):
            self.assertEqual(get(path, **query)[0], status, (path, query))
        status, _, _ = POOL.http("PUT", f"/rrd?uuid={VM_UUID}&is_host=false&session_id={API.session}", b"x")
        self.assertEqual(status, 501)


class DataSources(unittest.TestCase):
    def fails(self, code, params, call, *arguments):
        with self.assertRaises(Failure) as caught:
            call(*arguments)
        self.assertEqual((caught.exception.code, caught.exception.params), (code, params))

    def test_records(self):
        host = API.host.get_all()[0]
        for call, ref, names in ((API.VM.get_data_sources, VM, ["cpu0", "memory", "vif_0_rx", "vbd_xvda_iops_read"]),
                                 (API.host.get_data_sources, host, ["cpu0", "loadavg", "iops_read_" + SR_UUID[:8]]),
                                 (API.SR.get_data_sources, SR, ["size"])):
            records = {record["name_label"]: record for record in call(ref)}
            for name in names:
                self.assertEqual(list(records[name]), ["name_label", "name_description", "enabled", "standard", "units",
                                                       "min", "max", "value"])
                self.assertTrue(records[name]["enabled"] and records[name]["standard"])
            for record in records.values():
                self.assertTrue(record["name_description"] and record["units"], record)
                self.assertIsInstance(record["value"], float)

    def test_one_that_is_not_kept_until_asked_for(self):
        name = "vif_0_rx_errors"
        self.assertFalse(next(s for s in API.VM.get_data_sources(VM) if s["name_label"] == name)["enabled"])
        self.assertNotIn(name, get("/vm_rrd", uuid=VM_UUID)[2].decode())
        API.VM.record_data_source(VM, name)
        self.assertTrue(next(s for s in API.VM.get_data_sources(VM) if s["name_label"] == name)["enabled"])
        until("a value", lambda: API.VM.query_data_source(VM, name) == 0, RUN_S)
        self.assertIn(name, get("/vm_rrd", uuid=VM_UUID)[2].decode())
        API.VM.forget_data_source_archives(VM, name)
        self.assertNotIn(name, get("/vm_rrd", uuid=VM_UUID)[2].decode())

    def test_forgotten_history(self):
        until("there is a history", lambda: API.SR.query_data_source(SR, "size") > 0, RUN_S)
        API.SR.forget_data_source_archives(SR, "size")
        until("it is kept again", lambda: any(s["name_label"] == "size" and s["enabled"]
                                              for s in API.SR.get_data_sources(SR)), RUN_S)
        answer = json.loads(get("/sr_rrd", uuid=SR_UUID, json="true")[2])
        known = {source["name"]: sum(row[i] != "NaN" for row in answer["rra"][0]["database"])
                 for i, source in enumerate(answer["ds"])}
        self.assertLess(known["size"], known["physical_utilisation"])

    def test_refusals(self):
        host = API.host.get_all()[0]
        for name, cls, ref in (("VM", API.VM, VM), ("host", API.host, host), ("SR", API.SR, SR)):
            for call in (cls.query_data_source, cls.record_data_source, cls.forget_data_source_archives):
                self.fails("INVALID_VALUE", ["data_source", "nonsense"], call, ref, "nonsense")
            self.fails("HANDLE_INVALID", [name, NULL], cls.get_data_sources, NULL)
        idle = API.VM.create(simulated("idle"))
        self.fails("VM_BAD_POWER_STATE", [idle, "running", "halted"], API.VM.get_data_sources, idle)
        for call in (API.VM.query_data_source, API.VM.record_data_source, API.VM.forget_data_source_archives):
            self.fails("VM_BAD_POWER_STATE", [idle, "running", "halted"], call, idle, "cpu0")
        API.VM.destroy(idle)
        self.fails("INVALID_VALUE", ["delay", "0 to 86400 seconds"], API.host.backup_rrds, API.host.get_all()[0], -1.0)


class Alarms(unittest.TestCase):
    def test_limits_of_vms_and_hosts(self):
        """The VM's processors are 40 % busy; the host has less memory free than anybody could ask for."""
        host = API.host.get_all()[0]
        variable = ('<variable><name value="{}"/><alarm_trigger_level value="{}"/><alarm_trigger_period value="5"/>'
                    '<alarm_priority value="2"/></variable>')
        limits = {"VM": (API.VM, VM, VM_UUID, ("cpu_usage", 0.3), ("network_usage", 1e9)),
                  "Host": (API.host, host, HOST_UUID, ("memory_free_kib", 1e15), ("memory_total_kib", 1e15))}
        for cls, ref, _, told, quiet in limits.values():
            cls.add_to_other_config(ref, "perfmon", "<config>" + variable.format(*told) + variable.format(*quiet) + "</config>")
        for name, (cls, ref, uuid, told, _) in limits.items():
            alarm = until("an alarm", lambda: [m for m in API.message.get_all_records().values()
                                               if m["name"] == "ALARM" and m["obj_uuid"] == uuid], RUN_S)[0]
            self.assertEqual((alarm["cls"], int(alarm["priority"])), (name, 2))
            head, _, config = alarm["body"].partition("\nconfig:\n")
            self.assertRegex(head, r"^value: \d+\.\d{6}$")
            if name == "VM":
                self.assertAlmostEqual(float(head.split()[1]), 0.4, delta=0.05)
            tree = ET.fromstring(config)
            self.assertEqual((tree.tag, tree.find("name").get("value")), ("variable", told[0]))
            cls.remove_from_other_config(ref, "perfmon")
        names = [m["body"] for m in API.message.get_all_records().values() if m["name"] == "ALARM"]
        self.assertEqual(len(names), 2, names)


class Hosts(unittest.TestCase):
    def test_a_host_that_hangs_delays_no_other(self):
        with TestPool(hosts=2) as pool:
            api = pool.login()

            def updated(uuid):
                status, _, body = pool.http("GET", f"/host_rrd?uuid={uuid}&json=true&session_id={api.session}")
                return float(json.loads(body)["lastupdate"]) if status == 200 else 0
            uuids = [host["uuid"] for host in api.host.get_all_records().values()]
            until("both are measured", lambda: all(updated(uuid) for uuid in uuids), RUN_S)
            pool.hosts[0].signal(signal.SIGSTOP)
            try:
                begin = {uuid: updated(uuid) for uuid in uuids}
                until("one is still measured", lambda: max(updated(uuid) - begin[uuid] for uuid in uuids) > 12, RUN_S)
                self.assertLess(min(updated(uuid) - begin[uuid] for uuid in uuids), 6)
            finally:
                pool.hosts[0].signal(signal.SIGCONT)
            until("both are measured again", lambda: min(updated(uuid) - begin[uuid] for uuid in uuids) > 12, RUN_S)


class Keeping(unittest.TestCase):
    """Files: over a restart, for halted VMs, and gone with the VM."""

    def path(self, kind, uuid):
        return os.path.join(POOL.state, "rrd", f"{kind}-{uuid}.rrd")

    def test_z_life_of_a_file(self):
        global API
        vm = API.VM.create(simulated("short"))
        uuid = API.VM.get_uuid(vm)
        API.VM.start(vm, False, False)
        until("it is measured", lambda: get("/vm_rrd", uuid=uuid)[0] == 200, RUN_S)
        self.assertFalse(os.path.exists(self.path("vm", uuid)))
        API.host.backup_rrds(API.host.get_all()[0], 0.0)
        until("it is saved", lambda: os.path.exists(self.path("vm", uuid)), RUN_S)
        history = self.history()
        POOL.restart()
        API = POOL.login()
        self.assertTrue(os.path.exists(self.path("host", HOST_UUID)))
        # What was measured before the restart is there again once the VM is measured again.
        until("measured again", lambda: get("/vm_rrd", uuid=VM_UUID)[0] == 200, RUN_S)
        after = self.history()
        self.assertTrue(history)
        for time, value in history[:-1]:
            self.assertEqual(after.count((time, value)), 1, (time, value))
        # A halted VM's archives come from the file.
        API.VM.hard_shutdown(vm)
        until("it left the memory", lambda: not self.in_updates(uuid), RUN_S * 2)
        self.assertEqual(get("/vm_rrd", uuid=uuid)[0], 200)
        API.VM.destroy(vm)
        self.assertEqual(get("/vm_rrd", uuid=uuid)[0], 404)
        until("the file is gone", lambda: not os.path.exists(self.path("vm", uuid)), RUN_S * 3)

    def history(self):
        """Known 5-second values of the busy VM's first processor, with their times."""
        answer = json.loads(get("/vm_rrd", uuid=VM_UUID, json="true")[2])
        column = [source["name"] for source in answer["ds"]].index("cpu0")
        rows = answer["rra"][0]["database"]
        last = int(float(answer["lastupdate"])) // 5 * 5
        return [(last - 5 * (len(rows) - 1 - i), row[column]) for i, row in enumerate(rows) if row[column] != "NaN"]

    def in_updates(self, uuid):
        return any(uuid in name for name in legend(updates(start=-10)[1]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
