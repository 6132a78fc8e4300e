#!/usr/bin/env python3
"""What a real guest shares with its pool: the seed of cloud-init, data both ways through corral-guest, the guest's file
systems frozen for a snapshot, and guests with bad manners on the port; with the tiny Linux."""
import json
import os
import unittest

from installation import Installation
from waiting import until

TEMPLATE = "Corral tiny Linux"


class ChannelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Installation()
        cls.addClassCleanup(cls.site.close)
        cls.pool = cls.site.pool()
        keys = os.path.join(cls.site.folder, "keys")
        with open(keys, "w", encoding="utf-8") as file:
            file.write("ssh-ed25519 AAAA ann: {x}\n")
        cls.uuid = cls.site.xe("vm-install", f"template={TEMPLATE}", "new-name-label=channel", "cloud-init-hostname=c1",
                               "cloud-init-user=ann", f"cloud-init-ssh-key={keys}", "cloud-init-ip=192.0.2.7/24")
        cls.addClassCleanup(lambda: cls.site.xe("vm-uninstall", f"uuid={cls.uuid}", "force=true"))
        cls.vm = cls.pool.VM.get_by_uuid(cls.uuid)
        cls.pool.VM.add_to_xenstore_data(cls.vm, "vm-data/before", "the start")
        cls.site.xe("vm-start", f"uuid={cls.uuid}")
        cls.serial = cls.site.serial(cls.pool, cls.vm)
        cls.serial.login()

    def setUp(self):
        self.pool = self.site.pool()

    def guest(self, command, code=0):
        status, output = self.serial.run(command)
        self.assertEqual(status, code, f"{command}: {output}")
        return output

    def restart_agent(self, between=lambda: None):
        self.site.kill("hostd-1")
        between()
        self.site.up()
        self.attach()

    def attach(self):
        """To the guest's serial line anew."""
        type(self).serial = self.site.serial(self.pool, self.vm)
        self.serial.send("\n")
        self.serial.expect("# ")

    def data(self):
        return self.pool.VM.get_xenstore_data(self.vm)

    def test_guest_and_pool_read_what_the_other_wrote(self):
        self.assertEqual(self.guest("corral-guest read before"), "the start")
        self.guest("corral-guest write from/guest 'one two'")
        until("the pool has it", lambda: self.data().get("vm-data/from/guest") == "one two")
        self.pool.VM.add_to_xenstore_data(self.vm, "vm-data/from/pool", "three")
        self.assertEqual(self.guest("corral-guest read from/pool"), "three")
        self.assertEqual(self.guest("corral-guest ls from").split(), ["vm-data/from/guest", "vm-data/from/pool"])
        self.site.xe("vm-param-set", f"uuid={self.uuid}", "xenstore-data:vm-data/from/pool=four")
        self.assertEqual(self.guest("corral-guest read from/pool"), "four")
        self.guest("corral-guest rm from")
        until("the pool sees it gone", lambda: not any(key.startswith("vm-data/from/") for key in self.data()))
        self.guest("corral-guest read from/pool", 1)
        self.guest("corral-guest write 'odd key' x", 3)

    def test_seed_of_cloud_init_is_a_file_system(self):
        self.guest("mkdir -p /tmp/seed && mount -t iso9660 -o ro /dev/vdb /tmp/seed")
        texts = {name: self.guest(f"cat /tmp/seed/{name}") for name in ("meta-data", "user-data", "network-config")}
        self.guest("umount -l /tmp/seed")  # its agent may be looking at it
        self.assertEqual(json.loads(texts["meta-data"]), {
            "instance-id": self.uuid, "local-hostname": "c1", "public-keys": ["ssh-ed25519 AAAA ann: {x}"]})
        head, body = texts["user-data"].split("\n", 1)
        self.assertEqual((head.strip(), json.loads(body)["users"][0]["name"]), ("#cloud-config", "ann"))
        card = json.loads(texts["network-config"])["config"][0]
        mac = self.pool.VIF.get_MAC(self.pool.VM.get_VIFs(self.vm)[0])
        self.assertEqual((card["mac_address"], card["subnets"][0]["address"]), (mac, "192.0.2.7/24"))
        # It is made anew where the guest goes on.
        self.site.xe("vm-suspend", f"uuid={self.uuid}")
        self.site.xe("vm-resume", f"uuid={self.uuid}")
        self.attach()
        name = self.guest("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb bs=1 skip=32808 count=6 2>/dev/null")
        self.assertEqual(name.strip(), "cidata")

    def test_watch_tells_of_changes(self):
        self.guest("corral-guest watch seen >/tmp/watched & sleep 2")
        self.pool.VM.add_to_xenstore_data(self.vm, "vm-data/seen", "now")
        self.guest("until grep -q 'vm-data/seen = \"now\"' /tmp/watched; do sleep 1; done")
        self.guest("kill %1; true")

    def test_the_data_outlives_a_crash_of_the_agent(self):
        self.guest("corral-guest write kept yes")
        self.restart_agent()
        self.assertEqual(self.guest("corral-guest read kept"), "yes")
        self.guest("corral-guest write kept still")
        until("the pool has it", lambda: self.data().get("vm-data/kept") == "still", 60)

    def test_bad_manners_cost_nobody_else_anything(self):
        port = "/dev/virtio-ports/org.corral.data.0"
        # A line without end; a flood of requests whose answers nobody takes; then a guest as it should be.
        self.guest(f"head -c 3000000 /dev/zero >{port}")
        self.guest(f"(while :; do printf '{{\"op\":\"list\"}}\\n'; done) >{port} & sleep 3; kill %%; true")
        self.guest("corral-guest write after flood", 0)
        until("the pool has it", lambda: self.data().get("vm-data/after") == "flood", 60)
        self.assertEqual(self.pool.VM.get_power_state(self.vm), "Running")

    def frozen_snapshot(self, name):
        snapshot = self.pool.VM.snapshot(self.vm, name)
        self.addCleanup(lambda: self.site.xe("snapshot-uninstall",
                                             f"uuid={self.pool.VM.get_uuid(snapshot)}", "force=true"))
        return self.pool.VM.get_snapshot_info(snapshot)["disk-snapshot-type"]

    def test_a_snapshot_freezes_the_guests_file_systems(self):
        self.guest("until grep -q ' /data ' /proc/mounts; do sleep 1; done")
        until("the agent answers", lambda: "clean_reboot" in self.pool.VM.get_allowed_operations(self.vm), 60)
        self.assertEqual(self.frozen_snapshot("plain"), "crash_consistent")
        self.pool.VM.add_to_other_config(self.vm, "corral:quiesce", "try")
        self.addCleanup(lambda: self.pool.VM.remove_from_other_config(self.vm, "corral:quiesce"))
        self.assertEqual(self.frozen_snapshot("quiet"), "quiesced")
        # It writes again.
        self.guest("echo more >/data/after && sync")
        # The host's agent dies while the guest is frozen: the next one thaws it.
        record = os.path.join(self.site.state, "hosts", "1", "run", self.uuid, "config.json")

        def mark():
            with open(record, encoding="utf-8") as file:
                text = file.read()
            self.assertIn('"frozen":false', text)
            with open(record, "w", encoding="utf-8") as file:
                file.write(text.replace('"frozen":false', '"frozen":true'))
        self.guest("fsfreeze --freeze /data")
        self.restart_agent(mark)
        self.guest("echo thawed >/data/after && sync")


if __name__ == "__main__":
    unittest.main(verbosity=2)
