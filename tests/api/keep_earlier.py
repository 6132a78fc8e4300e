"""Keeps the database of a pool, for versions to come: keep_earlier.py NAME writes earlier/NAME.sql, all that its file holds, and
earlier/NAME.json, what the API said of it. To be done for each released version, and before a change of `schema_version`
or of what a stored value means (db/migrations/README.md). NAME is the schema version and a letter. test_earlier.py opens all that
are kept: 0001-a is of before pages had sums and most classes tables, 0001-b has nearly all."""
import json
import os
import platform
import sqlite3
import sys

from pool import Failure, TestPool
from vms import MIB, record

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "earlier")
CLASSES = ("pool", "host", "host_metrics", "host_cpu", "network", "PIF", "PIF_metrics", "VLAN", "Bond", "tunnel", "SR", "SM", "PBD", "VDI",
           "VM", "VM_metrics", "VM_guest_metrics", "VBD", "VIF", "console", "VM_appliance", "VM_group", "VMSS",
           "VTPM", "VUSB", "PUSB", "USB_group", "PCI", "PGPU", "GPU_group", "secret", "subject", "blob", "message", "task",
           "Certificate", "Feature", "Repository", "pool_update", "crashdump", "DR_task")


def fill(pool, api):
    """One of most kinds, with values that are easily lost: quotes, line ends, sets and maps of several members."""
    host = api.host.get_all()[0]
    sr = api.SR.create(host, {"location": os.path.join(pool.folder, "disks")}, 0, "disks", "an \"SR\"\n'here'", "file", "", True, {"k": "v"})
    api.pool.set_suspend_image_SR(api.pool.get_all()[0], sr)
    network = api.network.create({"name_label": "guests", "name_description": "a\tb <&>", "MTU": 1400, "other_config": {"k'\\": "v\n\r"},
                                  "tags": ["one", "two three"]})
    secret = api.secret.create({"value": "kept", "other_config": {"of": "a disk"}})
    vdi = api.VDI.create({"SR": sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False,
                          "other_config": {"secret": secret}, "name_label": "disk", "tags": ["fast"], "xenstore_data": {"a": "b"}})
    halted = api.VM.create(record("halted", name_description="ä ∞ 𝄞", platform={"acpi": "1", "viridian": "false"}, tags=["t"]))
    api.VBD.create({"VM": halted, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk", "unpluggable": True,
                    "empty": False, "other_config": {"owner": ""}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
    api.VIF.create({"device": "0", "network": network, "VM": halted, "MAC": "", "MTU": 1400, "other_config": {}, "qos_algorithm_type": "ratelimit",
                    "qos_algorithm_params": {"kbps": "1000"}, "locking_mode": "network_default", "ipv4_allowed": [], "ipv6_allowed": []})
    running = api.VM.create(record("running"))
    api.VM.start(running, False, False)
    suspended = api.VM.create(record("suspended"))
    api.VM.start(suspended, False, False)
    api.VM.suspend(suspended)
    snapshot = api.VM.snapshot(halted, "before")
    api.VM.set_is_a_template(api.VM.clone(halted, "template"), True)
    appliance = api.VM_appliance.create({"name_label": "together", "name_description": "in order"})
    api.VM.set_appliance(halted, appliance)
    api.VM.set_order(halted, 3)
    api.VMSS.create({"name_label": "nightly", "name_description": "", "enabled": True, "type": "snapshot", "retained_snapshots": 3,
                     "frequency": "daily", "schedule": {"hour": "1", "min": "15"}})
    api.message.create("KEPT", 3, "VM", api.VM.get_uuid(snapshot), "a body\nof two lines")
    task = api.task.create("a client's own", "kept")
    api.task.set_progress(task, 0.25)
    api.pool.set_other_config(api.pool.get_all()[0], {"kept": "yes"})


def records(api):
    """What the API says of each class that this version has."""
    found = {}
    for cls in CLASSES:
        try:
            found[cls] = getattr(api, cls).get_all_records()
        except Failure as failure:
            if failure.code not in ("MESSAGE_METHOD_UNKNOWN", "MESSAGE_REMOVED", "NOT_IMPLEMENTED"):
                raise
    return found


def main(name):
    with TestPool(hosts=1, host_options=["--sim-boot-ms", "50"]) as pool:
        api = pool.login()
        fill(pool, api)
        told = json.dumps(records(api), indent=1, sort_keys=True, ensure_ascii=False, default=str)
        pool.stop()
        database = sqlite3.connect(os.path.join(pool.state, "pool.db"))
        database.execute("DELETE FROM role")  # made anew by each version, from its own description
        facts = {key: database.execute(f"PRAGMA {key}").fetchone()[0] for key in ("application_id", "user_version")}
        text = "\n".join([*(f"PRAGMA {key} = {value};" for key, value in facts.items()), *database.iterdump(), ""])
        database.close()
        named = {pool.folder: "/srv/pool", platform.release(): "6.1.0"}
    for kept, what in (("sql", text), ("json", told + "\n")):
        for old, new in named.items():
            what = what.replace(old, new)
        with open(os.path.join(FOLDER, f"{name}.{kept}"), "w", encoding="utf-8") as file:
            file.write(what)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: CORRAL_TEST_BUILD=<build folder> python3 -B tests/api/keep_earlier.py NAME")
    main(sys.argv[1])
