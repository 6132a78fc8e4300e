"""What the pool sets of its hosts' own systems: one host below a root of the test's with stand-ins for the system's
programs, one with the simulator's model."""
import os
import stat
import unittest

from pool import Failure, module_pool, until

POOL = None
GONE = "OpaqueRef:00000000-0000-4000-8000-000000000000"
EPOCH = "19700101T00:00:00Z"


def put(path, text, mode=0o644):
    full = os.path.join(POOL.folder, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(full, mode)


def get(path):
    try:
        with open(os.path.join(POOL.folder, path), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def setUpModule():
    global POOL
    POOL = module_pool(hosts=0)
    for name in ("lib/systemd/system/ssh.service", "etc/chrony/chrony.conf", "etc/rsyslog.conf"):
        put("root/" + name, "")
    put("root/usr/share/zoneinfo/tzdata.zi", "Z Europe/Berlin 0\nZ Asia/Tokyo 0\n")
    for name in ("systemctl", "timedatectl", "chronyc", "date"):
        put("tools/" + name, f'#!/bin/sh\necho "{name} $*" >> {POOL.folder}/ran\n'
                             f'[ ! -e {POOL.folder}/broken ] || exit 3\n'
                             f'[ {name} != chronyc ] || echo "^,*,192.0.2.7,2,6,377,1,0,0,0"\n', stat.S_IRWXU)
    POOL.host_options += ["--system-root", os.path.join(POOL.folder, "root"),
                          "--system-tools", os.path.join(POOL.folder, "tools"), "--ssh-after", "600"]
    POOL.add_host()
    POOL.host_options.clear()
    POOL.add_host()


class HostSystemTest(unittest.TestCase):
    def setUp(self):
        self.api = POOL.login()
        uuids = {r["uuid"]: host for host, r in self.api.host.get_all_records().items()}
        self.host, self.model = (uuids[POOL.read(f"../host{n}/pki/host-uuid")] for n in (1, 2))
        self.pool = self.api.pool.get_all()[0]
        put("ran", "")

    def refused(self, error, call, *args):
        with self.assertRaises(Failure) as caught:
            call(*args)
        self.assertEqual([caught.exception.code, *caught.exception.params], error)

    def refused_with(self, code, call, *args):
        """As refused, whatever the words."""
        with self.assertRaises(Failure) as caught:
            call(*args)
        self.assertEqual(caught.exception.code, code)

    def ran(self):
        lines = get("ran").splitlines()
        put("ran", "")
        return lines

    def field(self, host, name):
        return getattr(self.api.host, "get_" + name)(host)

    # ---- SSH ----

    def test_ssh_of_one_host(self):
        api = self.api.host
        api.disable_ssh(self.host)
        self.assertEqual(self.ran()[-1], "systemctl disable --now ssh.service")
        self.assertFalse(self.field(self.host, "ssh_enabled"))
        api.set_ssh_enabled_timeout(self.host, 3600)
        api.enable_ssh(self.host)
        self.assertEqual(self.ran()[-1], "systemctl enable --now ssh.service")
        self.assertTrue(self.field(self.host, "ssh_enabled"))
        self.assertGreater(self.field(self.host, "ssh_expiry"), "2020")
        self.assertEqual(self.field(self.host, "ssh_enabled_timeout"), 3600)
        api.set_ssh_enabled_timeout(self.host, 0)
        self.assertEqual(self.field(self.host, "ssh_expiry"), EPOCH)
        for value in (-1, 172801):
            self.refused(["INVALID_VALUE", "ssh_enabled_timeout", str(value)], api.set_ssh_enabled_timeout, self.host,
                         value)

    def test_ssh_closes_by_itself(self):
        self.api.host.enable_ssh(self.host)
        self.api.host.set_ssh_enabled_timeout(self.host, 1)
        until("SSH is closed", lambda: not self.field(self.host, "ssh_enabled"), 60)
        self.assertIn("systemctl disable --now ssh.service", self.ran())
        self.api.host.set_ssh_enabled_timeout(self.host, 0)

    def test_ssh_by_itself(self):
        self.api.host.set_ssh_auto_mode(self.host, True)
        self.assertEqual((self.field(self.host, "ssh_auto_mode"), self.field(self.host, "ssh_enabled")), (True, False))
        self.api.host.enable_ssh(self.host)  # by hand
        self.assertEqual((self.field(self.host, "ssh_auto_mode"), self.field(self.host, "ssh_enabled")), (False, True))

    def test_of_all_hosts(self):
        api = self.api.pool
        for call, args, field, value in ((api.disable_ssh, [], "ssh_enabled", False),
                                         (api.enable_ssh, [], "ssh_enabled", True),
                                         (api.set_ssh_enabled_timeout, [7200], "ssh_enabled_timeout", 7200),
                                         (api.set_ssh_enabled_timeout, [0], "ssh_enabled_timeout", 0),
                                         (api.set_ssh_auto_mode, [True], "ssh_auto_mode", True),
                                         (api.set_ssh_auto_mode, [False], "ssh_auto_mode", False),
                                         (api.set_console_idle_timeout, [60], "console_idle_timeout", 60),
                                         (api.set_console_idle_timeout, [0], "console_idle_timeout", 0)):
            call(self.pool, *args)
            self.assertEqual([self.field(h, field) for h in (self.host, self.model)], [value] * 2)
        self.refused(["INVALID_VALUE", "console_idle_timeout", "-1"], api.set_console_idle_timeout, self.pool, -1)
        self.refused(["HANDLE_INVALID", "pool", GONE], api.enable_ssh, GONE)

    def test_hosts_that_cannot_are_named(self):
        put("broken", "")
        self.addCleanup(os.unlink, os.path.join(POOL.folder, "broken"))
        self.refused(["ENABLE_SSH_FAILED", self.host], self.api.host.enable_ssh, self.host)
        self.refused(["DISABLE_SSH_FAILED", self.host], self.api.host.disable_ssh, self.host)
        for call, args, code in ((self.api.pool.enable_ssh, [], "ENABLE_SSH_PARTIALLY_FAILED"),
                                 (self.api.pool.disable_ssh, [], "DISABLE_SSH_PARTIALLY_FAILED"),
                                 (self.api.pool.set_ssh_enabled_timeout, [0], "SET_SSH_TIMEOUT_PARTIALLY_FAILED"),
                                 (self.api.pool.set_ssh_auto_mode, [False], "SET_SSH_AUTO_MODE_PARTIALLY_FAILED")):
            self.refused([code, self.host], call, self.pool, *args)
        self.assertFalse(self.field(self.model, "ssh_enabled"))

    # ---- time ----

    def test_time_servers(self):
        api = self.api.host
        self.refused_with("INVALID_NTP_CONFIG", api.set_ntp_mode, self.host, "Custom")
        api.set_ntp_custom_servers(self.host, ["time.example", "2001:db8::1"])
        api.set_ntp_mode(self.host, "Custom")
        self.assertEqual(get("root/etc/chrony/sources.d/corral.sources"),
                         "server 2001:db8::1 iburst\nserver time.example iburst\n")
        self.assertEqual((self.field(self.host, "ntp_mode"), sorted(self.field(self.host, "ntp_custom_servers"))),
                         ("Custom", ["2001:db8::1", "time.example"]))
        self.refused_with("INVALID_NTP_CONFIG", api.set_ntp_custom_servers, self.host, [])
        for bad in ("-x", "a b", "a\nb", "", "a;b", "x" * 300, "n\u00e4me"):
            self.refused_with("INVALID_NTP_CONFIG", api.set_ntp_custom_servers, self.host, [bad])
        self.assertEqual(api.get_ntp_servers_status(self.host), {"192.0.2.7": "synchronized"})
        self.assertFalse(api.get_ntp_synchronized(self.host))  # the stand-in of timedatectl does not say yes
        self.assertTrue(api.get_ntp_synchronized(self.model))
        self.refused(["NOT_ALLOWED_WHEN_NTP_IS_ENABLED", self.host], api.set_servertime, self.host, "20300101T00:00:00Z")
        api.set_ntp_mode(self.host, "Disabled")
        self.assertEqual(api.get_ntp_servers_status(self.host), {})
        self.ran()
        api.set_servertime(self.host, "20300101T00:00:00Z")
        self.assertEqual(self.ran(), ["date --utc --set=@1893456000"])
        api.set_ntp_mode(self.host, "DHCP")
        api.set_ntp_custom_servers(self.host, [])
        api.set_ntp_mode(self.host, "Factory")
        self.assertEqual(get("root/etc/chrony/sources.d/corral.sources"), "")

    def test_time_zones(self):
        api = self.api.host
        self.assertEqual(sorted(api.list_timezones(self.host)), ["Asia/Tokyo", "Europe/Berlin", "UTC"])
        api.set_timezone(self.host, "Asia/Tokyo")
        self.assertEqual(self.field(self.host, "timezone"), "Asia/Tokyo")
        self.assertEqual(os.readlink(os.path.join(POOL.folder, "root/etc/localtime")), "/usr/share/zoneinfo/Asia/Tokyo")
        for bad in ("Asia/Nowhere", "../../../etc/shadow", "-x", "x" * 100):
            self.refused(["INVALID_VALUE", "timezone", bad], api.set_timezone, self.host, bad)
        self.assertIn("Europe/Oslo", api.list_timezones(self.model))

    # ---- the rest ----

    def test_processors_and_screen(self):
        api = self.api.host
        for value, kept in (("C1", "1"), ("6", "6"), ("unlimited", ""), ("0", "0"), ("", "")):
            api.set_max_cstate(self.model, value)
            self.assertEqual(self.field(self.model, "max_cstate"), kept)
        for bad in ("deep", "C", "123", "1,2", "-1"):
            self.refused(["INVALID_VALUE", "max_cstate", bad], api.set_max_cstate, self.model, bad)
        self.assertEqual(api.disable_display(self.model), "disabled")
        self.assertEqual(self.field(self.model, "display"), "disabled")
        self.assertEqual(api.enable_display(self.model), "enabled")
        for call, args in ((api.set_max_cstate, ["1"]), (api.disable_display, [])):
            self.refused_with("OPERATION_NOT_ALLOWED", call, self.host, *args)
        self.refused_with("OPERATION_NOT_ALLOWED", api.send_debug_keys, self.host, "h")

    def test_logs(self):
        api = self.api.host
        api.set_logging(self.host, {"syslog_destination": "logs.example"})
        api.syslog_reconfigure(self.host)
        self.assertIn('target="logs.example"', get("root/etc/rsyslog.d/90-corral.conf"))
        self.assertEqual(self.ran(), ["systemctl restart rsyslog.service"])
        for bad in ('x" other="y', "-x", "x" * 256):
            api.set_logging(self.host, {"syslog_destination": bad})
            self.refused(["INVALID_VALUE", "logging:syslog_destination", bad], api.syslog_reconfigure, self.host)
        api.set_logging(self.host, {})
        api.syslog_reconfigure(self.host)
        self.assertEqual(get("root/etc/rsyslog.d/90-corral.conf"), "")

    def test_bridges(self):
        for value in (True, False):
            self.api.pool.set_igmp_snooping_enabled(self.pool, value)
            self.assertEqual(self.api.pool.get_igmp_snooping_enabled(self.pool), value)
        self.refused(["HANDLE_INVALID", "pool", GONE], self.api.pool.set_igmp_snooping_enabled, GONE, True)

    def test_no_such_host(self):
        api = self.api.host
        for call, args in ((api.enable_ssh, []), (api.disable_ssh, []), (api.set_ssh_enabled_timeout, [0]),
                           (api.set_ssh_auto_mode, [False]), (api.set_console_idle_timeout, [0]),
                           (api.set_ntp_mode, ["DHCP"]), (api.set_ntp_custom_servers, [[]]),
                           (api.get_ntp_servers_status, []), (api.get_ntp_synchronized, []), (api.list_timezones, []),
                           (api.set_timezone, ["UTC"]), (api.set_servertime, ["20300101T00:00:00Z"]),
                           (api.set_max_cstate, [""]), (api.enable_display, []), (api.syslog_reconfigure, []),
                           (api.send_debug_keys, ["h"])):
            self.refused(["HANDLE_INVALID", "host", GONE], call, GONE, *args)

    def test_z_settings_outlive_the_agent(self):
        self.api.host.set_timezone(self.host, "Europe/Berlin")
        self.api.host.set_console_idle_timeout(self.host, 90)
        put("root/etc/profile.d/corral-idle.sh", "gone")
        readies = POOL.hosts[0].log().count(" main: ready")
        self.api.host.restart_agent(self.host)
        until("the agent has started anew", lambda: POOL.hosts[0].log().count(" main: ready") > readies, 60)
        until("the setting is in place again",
              lambda: "TMOUT=90" in get("root/etc/profile.d/corral-idle.sh"), 60)
        self.assertEqual((self.field(self.host, "timezone"), self.field(self.host, "console_idle_timeout")),
                         ("Europe/Berlin", 90))


if __name__ == "__main__":
    unittest.main()
