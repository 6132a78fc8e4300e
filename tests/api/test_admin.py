"""Settings of the pool and its hosts that have rules of their own, small objects, and what the server tells of itself.
One pool for all; every test leaves things as they were."""
import http.server
import io
import re
import socket
import subprocess
import tarfile
import threading
import unittest
import uuid
import zipfile
from xml.etree import ElementTree

from pool import NULL, Failure, module_pool, program, until
from test_events import vm_record

POOL = API = None


def setUpModule():
    global POOL, API
    POOL = module_pool(hosts=1, options=["--fetch-allow", "127.0.0.0/8"])
    API = POOL.login(tls=True)


def pool():
    return API.pool.get_all()[0]


def host():
    return API.host.get_all()[0]


def local():
    """As root of the server's machine."""
    client = POOL.client()
    client.url = client.url._replace(scheme="unix", path=f"{POOL.state}/poold.sock")
    client.login("root", "")
    return client


class Base(unittest.TestCase):
    def refused(self, code, call, *params, api=None):
        api = api or API
        with self.assertRaises(Failure) as caught:
            api.call(call, api.session, *params)
        self.assertEqual(caught.exception.code, code, (call, caught.exception))
        return caught.exception.params


class OfThePool(Base):
    def test_https_only(self):
        for set_it, ref in ((API.pool.set_https_only, pool()), (API.host.set_https_only, host())):
            set_it(ref, True)
            self.assertTrue(API.host.get_https_only(host()))
            for method, path in (("GET", "/"), ("POST", "/jsonrpc"), ("POST", "/"), ("GET", "/export?uuid=x")):
                status, headers, body = POOL.http(method, path)
                self.assertEqual((status, headers["Content-Type"]), (403, "text/html"), path)
                self.assertIn(b"HTTPS only", body)
            self.assertEqual(API.pool.get_all(), local().pool.get_all())
            set_it(ref, False)
            self.assertNotEqual(POOL.http("POST", "/jsonrpc")[0], 403)

    def test_guest_agent_config(self):
        API.pool.add_to_guest_agent_config(pool(), "auto_update_enabled", "true")
        self.assertEqual(self.refused("MAP_DUPLICATE_KEY", "pool.add_to_guest_agent_config", pool(), "auto_update_enabled",
                                      "false"), ["pool", "guest_agent_config", pool(), "auto_update_enabled"])
        self.assertEqual(API.pool.get_guest_agent_config(pool()), {"auto_update_enabled": "true"})
        for _ in range(2):
            API.pool.remove_from_guest_agent_config(pool(), "auto_update_enabled")
        self.assertEqual(API.pool.get_guest_agent_config(pool()), {})

    def test_updates(self):
        API.pool.configure_update_sync(pool(), "weekly", 6)
        self.assertEqual((API.pool.get_update_sync_frequency(pool()), int(API.pool.get_update_sync_day(pool()))),
                         ("weekly", 6))
        for day in (-1, 7):
            self.assertEqual(self.refused("INVALID_UPDATE_SYNC_DAY", "pool.configure_update_sync", pool(), "weekly", day),
                             [str(day)])
        API.pool.configure_update_sync(pool(), "daily", 9)
        self.assertEqual(API.pool.get_update_sync_frequency(pool()), "daily")
        API.pool.set_update_sync_enabled(pool(), False)
        self.refused("NO_REPOSITORIES_CONFIGURED", "pool.set_update_sync_enabled", pool(), True)
        API.pool.set_repositories(pool(), [])
        self.refused("HANDLE_INVALID", "pool.set_repositories", pool(), [pool()])

    def test_telemetry(self):
        API.pool.reset_telemetry_uuid(pool())
        before = API.pool.get_telemetry_uuid(pool())
        uuid.UUID(API.secret.get_value(before))
        API.pool.reset_telemetry_uuid(pool())
        after = API.pool.get_telemetry_uuid(pool())
        self.assertNotEqual(after, before)
        self.refused("HANDLE_INVALID", "secret.get_value", before)
        API.pool.set_telemetry_next_collection(pool(), "20200101T00:00:00Z")
        self.assertEqual(API.pool.get_telemetry_next_collection(pool()), "20200101T00:00:00Z")
        self.assertEqual(self.refused("TELEMETRY_NEXT_COLLECTION_TOO_LATE", "pool.set_telemetry_next_collection", pool(),
                                      "29990101T00:00:00Z"), ["29990101T00:00:00Z"])

    def test_what_the_pool_has_not(self):
        API.pool.detect_nonhomogeneous_external_auth(pool())
        API.pool.disable_ssl_legacy(pool())
        for call, *params in (("pool.deconfigure_wlb",), ("pool.send_wlb_configuration", {}),
                              ("pool.retrieve_wlb_configuration",), ("host.retrieve_wlb_evacuate_recommendations", host())):
            self.refused("WLB_NOT_INITIALIZED", call, *params)


class OfUpdates(Base):
    """Repositories are records; updates are the distribution's."""

    URL = "https://updates.example/repo"

    def introduce(self, name="r", url=URL, source="", key=""):
        ref = API.Repository.introduce(name, "about", url, source, True, key)
        self.addCleanup(API.Repository.forget, ref)
        return ref

    def test_repositories(self):
        ref = self.introduce(key="key.gpg", source="http://updates.example/source")
        record = API.Repository.get_record(ref)
        self.assertEqual([record[f] for f in ("name_label", "binary_url", "source_url", "update", "gpgkey_path", "origin")],
                         ["r", self.URL, "http://updates.example/source", True, "key.gpg", "remote"])
        for name, url in (("r", "https://other.example"), ("other", self.URL)):
            self.assertEqual(self.refused("REPOSITORY_ALREADY_EXISTS", "Repository.introduce", name, "", url, "", True, ""),
                             [ref])
        for bad in ("", "ftp://x", "https://", "https://a b", "https://-x", "https://u@h/", "https://a\nb", "file:///etc"):
            self.assertEqual(self.refused("INVALID_BASE_URL", "Repository.introduce", "n", "", bad, "", True, ""), [bad])
        for bad in ("../key", "-k", "a/b", ".k", "a b"):
            self.refused("INVALID_GPGKEY_PATH", "Repository.set_gpgkey_path", ref, bad)
        API.Repository.set_gpgkey_path(ref, "other.asc")
        bundle = API.Repository.introduce_bundle("bundle", "")
        self.assertEqual(self.refused("BUNDLE_REPOSITORY_ALREADY_EXISTS", "Repository.introduce_bundle", "b", ""), [bundle])
        remote = API.Repository.introduce_remote_pool("remote", "", "https://other-pool.example", "PEM")
        self.assertEqual(API.Repository.get_origin(remote), "remote_pool")
        for one in (bundle, remote):
            API.Repository.forget(one)
        self.refused("HANDLE_INVALID", "Repository.forget", bundle)

    def test_of_the_pool(self):
        self.refused("NO_REPOSITORIES_CONFIGURED", "pool.sync_updates", pool(), False, "", "", "", "")
        self.refused("NO_REPOSITORIES_CONFIGURED", "host.apply_updates", host(), "hash")
        ref = self.introduce()
        API.pool.add_repository(pool(), ref)
        self.assertEqual(API.pool.get_repositories(pool()), [ref])
        self.refused("REPOSITORY_IS_IN_USE", "Repository.forget", ref)
        self.refused("OPERATION_NOT_ALLOWED", "pool.sync_updates", pool(), False, "", "", "", "")
        self.refused("OPERATION_NOT_ALLOWED", "host.apply_updates", host(), "hash")
        API.pool.remove_repository(pool(), ref)
        self.refused("HANDLE_INVALID", "pool.add_repository", pool(), NULL)

    def test_proxy(self):
        API.pool.configure_repository_proxy(pool(), "http://proxy.example:3128", "user", "hush hush")
        record = API.pool.get_record(pool())
        self.assertEqual((record["repository_proxy_url"], record["repository_proxy_username"]),
                         ("http://proxy.example:3128", "user"))
        self.assertEqual(API.secret.get_value(record["repository_proxy_password"]), "hush hush")
        self.refused("INVALID_REPOSITORY_PROXY_URL", "pool.configure_repository_proxy", pool(), "proxy", "", "")
        for user, password in (("u", ""), ("", "p"), ("a:b", "p"), ("u\n", "p")):
            self.refused("INVALID_REPOSITORY_PROXY_CREDENTIAL", "pool.configure_repository_proxy", pool(), "http://p", user,
                         password)
        API.pool.disable_repository_proxy(pool())
        self.assertEqual(API.pool.get_repository_proxy_password(pool()), NULL)
        self.refused("HANDLE_INVALID", "secret.get_value", record["repository_proxy_password"])

    def test_readiness(self):
        self.assertEqual(API.pool.check_update_readiness(pool(), True), [])
        API.host.disable(host())
        self.addCleanup(API.host.enable, host())
        self.assertEqual(API.pool.check_update_readiness(pool(), False), [["HOST_DISABLED", host()]])


class WhatIsNeverThere(Base):
    GONE = "OpaqueRef:00000000-0000-4000-8000-000000000000"

    def test_rows_that_nobody_makes(self):
        for cls, calls in (("pool_patch", ("apply H", "pool_apply", "precheck H", "clean", "pool_clean", "destroy",
                                           "clean_on_host H")),
                           ("host_patch", ("destroy", "apply")), ("host_crashdump", ("destroy", "upload U")),
                           ("pool_update", ("precheck H", "apply H", "pool_apply", "pool_clean", "destroy", "attach F",
                                            "detach")),
                           ("crashdump", ("destroy",)), ("Host_driver", ("select G", "deselect")),
                           ("Driver_variant", ("select",)), ("SDN_controller", ("forget",)),
                           ("PVS_site", ("forget", "set_PVS_uuid S")), ("PVS_server", ("forget",)),
                           ("PVS_cache_storage", ("destroy",)), ("PVS_proxy", ("destroy",)),
                           ("Cluster", ("destroy", "get_network", "pool_force_destroy", "pool_destroy", "pool_resync")),
                           ("Cluster_host", ("destroy", "enable", "force_destroy", "forget", "disable"))):
            for call in calls:
                name, *more = call.split()
                params = {"H": [host()], "U": ["http://x", {}], "F": [False], "G": [self.GONE], "S": ["x"]}.get("".join(more), [])
                with self.subTest(call=f"{cls}.{name}"):
                    self.assertEqual(self.refused("HANDLE_INVALID", f"{cls}.{name}", self.GONE, *params), [cls, self.GONE])

    def test_what_nobody_makes(self):
        network = API.network.get_all()[0]
        pif = API.PIF.get_all()[0]
        self.assertEqual(self.refused("INVALID_CLUSTER_STACK", "Cluster.create", pif, "corosync", True, 20.0, 1.0), ["corosync"])
        self.refused("INVALID_CLUSTER_STACK", "Cluster.pool_create", network, "corosync", 20.0, 1.0)
        self.refused("HANDLE_INVALID", "Cluster_host.create", self.GONE, host(), pif)
        self.refused("OPERATION_NOT_ALLOWED", "PVS_site.introduce", "n", "", "u")
        self.refused("HANDLE_INVALID", "PVS_server.introduce", ["192.0.2.1"], 1, 2, self.GONE)
        self.refused("HANDLE_INVALID", "PVS_cache_storage.create", {"host": host(), "SR": NULL, "site": self.GONE, "size": 1})
        self.refused("HANDLE_INVALID", "PVS_proxy.create", self.GONE, NULL)
        self.refused("OPERATION_NOT_ALLOWED", "SDN_controller.introduce", "ssl", "192.0.2.1", 6640)
        self.refused("OPERATION_NOT_ALLOWED", "pool.set_vswitch_controller", "192.0.2.1")
        API.pool.set_vswitch_controller("")
        self.refused("LICENCE_RESTRICTION", "pool.initialize_wlb", "wlb.example:8012", "u", "p", "u", "p")
        self.refused("WLB_NOT_INITIALIZED", "pool.retrieve_wlb_recommendations")
        self.refused("HANDLE_INVALID", "pool_update.introduce", self.GONE)
        API.pool_update.resync_host(host())
        API.host.rescan_drivers(host())
        API.Host_driver.rescan(host())
        self.refused("OPERATION_NOT_ALLOWED", "host.apply_guest_agent_config", host())
        self.refused("AUTH_IS_DISABLED", "pool.external_auth_set_ldaps", pool(), True, False)


class OfConnections(Base):
    def test_a_post_that_tests_a_connection(self):
        """The other side is this server's own HTTPS port, which answers XML-RPC."""
        body = "<?xml version='1.0'?><methodCall><methodName>system.listMethods</methodName><params/></methodCall>"
        post = lambda *args: API.pool.send_test_post(*args)
        self.refused("SSL_VERIFY_ERROR", "pool.send_test_post", "127.0.0.1", POOL.port, body)
        with open(POOL.ca, encoding="ascii") as file:
            API.pool.install_ca_certificate("own", file.read())
        self.addCleanup(API.pool.uninstall_ca_certificate, "own", True)
        self.assertIn("session.login_with_password", post("127.0.0.1", POOL.port, body))
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            self.assertEqual(self.refused("TLS_CONNECTION_FAILED", "pool.send_test_post", "127.0.0.1", port, ""),
                             ["127.0.0.1", str(port)])
        for host_name in ("", "-x", "a b", "a/b", "a@b", "x" * 256):
            self.refused("INVALID_VALUE", "pool.send_test_post", host_name, 443, "")
        for port in (0, 65536):
            self.refused("INVALID_VALUE", "pool.send_test_post", "127.0.0.1", port, "")
        for address in ("10.0.0.1", "169.254.169.254", "::1", "fe80::1"):
            self.assertIn("--fetch-allow", self.refused("VALUE_NOT_SUPPORTED", "pool.send_test_post", address, 443, "")[2])

    def test_management_stays(self):
        self.refused("OPERATION_NOT_ALLOWED", "host.management_disable")


class OfObservers(Base):
    def test_settings_are_kept_and_checked(self):
        record = {"name_label": "o", "name_description": "", "hosts": [], "attributes": {"service.name": "x"},
                  "endpoints": ["bugtool"], "components": ["xapi"], "enabled": False}
        ref = API.Observer.create(record)
        got = API.Observer.get_record(ref)
        self.assertEqual({key: got[key] for key in record}, record)
        API.Observer.set_hosts(ref, [host()])
        API.Observer.set_attributes(ref, {"a.b_c": "1"})
        API.Observer.set_endpoints(ref, ["https://traces.example/api/v2/spans"])
        API.Observer.set_components(ref, ["xenopsd", "smapi"])
        API.Observer.set_enabled(ref, False)
        API.Observer.unregister(ref, host())
        for call, value in (("set_components", ["kitchen"]), ("set_endpoints", ["file:///x"]), ("set_attributes", {"A b": ""})):
            self.refused("INVALID_VALUE", "Observer." + call, ref, value)
        self.refused("HANDLE_INVALID", "Observer.set_hosts", ref, [WhatIsNeverThere.GONE])
        self.refused("OPERATION_NOT_ALLOWED", "Observer.set_enabled", ref, True)
        self.refused("OPERATION_NOT_ALLOWED", "Observer.register", ref, host())
        self.refused("OPERATION_NOT_ALLOWED", "Observer.create", {**record, "enabled": True})
        API.Observer.destroy(ref)
        self.refused("HANDLE_INVALID", "Observer.set_enabled", ref, False)


class OfAHost(Base):
    def test_settings(self):
        API.host.set_ssl_legacy(host(), False)
        self.assertEqual(self.refused("VALUE_NOT_SUPPORTED", "host.set_ssl_legacy", host(), True)[:2], ["value", "true"])
        API.host.set_iscsi_iqn(host(), "iqn.2026-01.example:a")
        record = API.host.get_record(host())
        self.assertEqual((record["iscsi_iqn"], record["other_config"]["iscsi_iqn"]), ("iqn.2026-01.example:a",) * 2)
        for bad in ("", "a b", "x" * 224):
            self.assertEqual(self.refused("INVALID_VALUE", "host.set_iscsi_iqn", host(), bad), ["value", bad])
        API.host.set_multipathing(host(), False)
        self.refused("OPERATION_NOT_ALLOWED", "host.set_multipathing", host(), True)
        for policy in ("any", "default_policy"):
            API.host.set_numa_affinity_policy(host(), policy)
            self.assertEqual(API.host.get_numa_affinity_policy(host()), policy)
        self.refused("OPERATION_NOT_ALLOWED", "host.set_numa_affinity_policy", host(), "best_effort")
        root = local()
        root.host.set_sched_gran(host(), "cpu")
        self.assertEqual(root.host.get_sched_gran(host()), "cpu")
        self.refused("OPERATION_NOT_ALLOWED", "host.set_sched_gran", host(), "core", api=root)
        root.host.emergency_clear_mandatory_guidance()
        API.host.license_remove(host())
        API.host.refresh_pack_info(host())
        self.refused("LICENSE_FILE_DEPRECATED", "host.license_add", host(), "text")
        self.refused("HANDLE_INVALID", "host.set_multipathing", pool(), False)

    def test_diagnostics(self):
        for figures in (API.Diagnostics.db_stats(), API.host.get_diagnostic_timing_stats(host())):
            self.assertGreater(int(figures["rows"]), 100)
        API.Diagnostics.gc_compact(host())
        self.assertGreaterEqual(int(API.Diagnostics.gc_stats(host())["heap_bytes"]), 0)
        self.assertRegex(API.host.get_thread_diagnostics(host()), re.compile(r"^\d+ [A-Z] .+$", re.M))
        self.assertEqual(len(API.host.get_sm_diagnostics(host()).splitlines()), len(API.PBD.get_all()))


class SmallObjects(Base):
    def test_vm_groups(self):
        record = {"name_label": "apart", "placement": "anti_affinity"}
        groups = [API.VM_group.create(record) for _ in range(2)]
        vm = API.VM.create(vm_record("grouped"))
        API.VM.set_groups(vm, groups[:1])
        self.assertEqual((API.VM.get_groups(vm), API.VM_group.get_VMs(groups[0])), (groups[:1], [vm]))
        self.refused("TOO_MANY_GROUPS", "VM.set_groups", vm, groups)
        self.refused("HANDLE_INVALID", "VM.set_groups", vm, [vm])
        API.VM.set_groups(vm, [])
        self.assertEqual(API.VM_group.get_VMs(groups[0]), [])
        self.assertEqual(API.VM.query_services(vm), {})
        self.refused("WLB_NOT_INITIALIZED", "VM.retrieve_wlb_recommendations", vm)
        for group in groups:
            API.VM_group.destroy(group)
        API.VM.destroy(vm)

    def test_groups_of_devices(self):
        for cls in (API.GPU_group, API.USB_group):
            group = cls.create("label", "description", {"a": "b"})
            record = cls.get_record(group)
            self.assertEqual((record["name_label"], record["name_description"], record["other_config"]),
                             ("label", "description", {"a": "b"}))
            cls.destroy(group)
            self.assertNotIn(group, cls.get_all())

    def test_no_graphics_processor(self):
        group = API.GPU_group.create("none")
        self.assertEqual(int(API.GPU_group.get_remaining_capacity(group, NULL)), 0)
        API.GPU_group.destroy(group)
        self.refused("HANDLE_INVALID", "GPU_group.get_remaining_capacity", group, NULL)

    def test_the_last_run_of_a_schedule(self):
        schedule = API.VMSS.create({"name_label": "daily", "frequency": "daily", "type": "snapshot", "enabled": False})
        local().VMSS.set_last_run_time(schedule, "20260102T03:04:05Z")
        self.assertEqual(API.VMSS.get_last_run_time(schedule), "20260102T03:04:05Z")
        self.refused("HANDLE_INVALID", "VMSS.set_last_run_time", host(), "20260102T03:04:05Z", api=local())
        API.VMSS.destroy(schedule)

    def test_a_secret_of_ones_own_uuid(self):
        name = str(uuid.uuid4())
        secret = API.secret.introduce(name, "hidden", {"k": "v"})
        self.assertEqual((API.secret.get_uuid(secret), API.secret.get_value(secret)), (name, "hidden"))
        self.assertEqual(self.refused("DB_UNIQUENESS_CONSTRAINT_VIOLATION", "secret.introduce", name, "x"),
                         ["secret", "uuid", name])
        self.refused("UUID_INVALID", "secret.introduce", "none", "x")
        API.secret.destroy(secret)
        self.assertNotEqual(secret, NULL)


class OfSupport(Base):
    def bundle(self, query, mode):
        status, headers, body = POOL.http("GET", "/system-status?" + query, headers=POOL.basic())
        self.assertEqual(status, 200, body)
        self.assertIn("attachment; filename=\"system-status.", headers["Content-Disposition"])
        with tarfile.open(fileobj=io.BytesIO(body), mode=mode) as archive:
            return {name.removeprefix("system-status/"): archive.extractfile(name).read() for name in archive.getnames()}

    def test_bundle(self):
        API.secret.create({"value": "do not tell", "other_config": {}})
        members = self.bundle("output=tar", "r:")
        own = API.host.get_uuid(host())
        self.assertEqual(set(members), {"database.xml", "audit.log", "server.txt", "threads.txt",
                                        *(f"hosts/{own}/{name}" for name in ("agent.log", "kernel.log", "storage.txt"))})
        self.assertIn(own.encode(), members["database.xml"])
        for content in members.values():
            self.assertNotIn(b"do not tell", content)
        self.assertIn(b"session.login_with_password", members["audit.log"])
        self.assertIn(b"rows: ", members["server.txt"])
        self.assertEqual(set(self.bundle("output=tar.bz2&entries=server-figures,storage", "r:bz2")),
                         {"server.txt", f"hosts/{own}/storage.txt"})
        status, _, body = POOL.http("GET", "/system-status?output=zip&entries=server-figures", headers=POOL.basic())
        self.assertEqual((status, zipfile.ZipFile(io.BytesIO(body)).namelist()), (200, ["system-status/server.txt"]))
        self.assertNotEqual(POOL.http("GET", "/system-status?output=rar", headers=POOL.basic())[0], 200)
        self.assertEqual(POOL.http("GET", "/system-status")[0], 401)

    def receiver(self, status=200, held=None):
        """A server that keeps what is put there and answers so; with `held` (an event) not before that."""
        came, begun = [], threading.Event()

        class Receiver(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self):
                begun.set()
                if held:
                    held.wait(120)
                    self.close_connection = True
                    return
                came.append((self.path, self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}", came, begun

    def test_upload(self):
        url, came, _ = self.receiver()
        own = API.host.get_uuid(host())
        for where, options, path, content_type, mode in (
                ("", {"filename": "b.tar", "http_proxy": ""}, "/b.tar", "application/x-tar", "r:"),
                ("/for/support/?key=a%20b", {}, rf"/for/support/bug-report-{own}-\d{{8}}T\d{{6}}Z\.tar\.bz2\?key=a%20b",
                 "application/x-bzip2", "r:bz2")):
            API.host.bugreport_upload(host(), url + where, options)
            got_path, got_type, body = came.pop()
            self.assertRegex(got_path, f"^{path}$")
            self.assertEqual((got_type, came), (content_type, []))
            with tarfile.open(fileobj=io.BytesIO(body), mode=mode) as archive:
                self.assertIn(f"system-status/hosts/{own}/agent.log", archive.getnames())

    @unittest.skipUnless(program("xe"), "xe is not built")
    def test_upload_by_xe(self):
        url, came, _ = self.receiver()
        own = API.host.get_uuid(host())
        run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(POOL.port), "--ca", POOL.ca, "-u", "root", "-pw",
                              POOL.password, "host-bugreport-upload", f"uuid={own}", f"url={url}/x"], check=False,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual((run.returncode, run.stdout), (0, ""))
        self.assertRegex(came.pop()[0], f"^/x/bug-report-{own}-")

    def test_upload_that_fails(self):
        url = self.receiver(status=507)[0]
        upload = ("host.bugreport_upload", host())
        self.assertIn("status 507", self.refused("SYSTEM_STATUS_RETRIEVAL_FAILED", *upload, url, {})[0])
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            self.refused("SYSTEM_STATUS_RETRIEVAL_FAILED", *upload, "http://127.0.0.1:%d" % closed.getsockname()[1], {})
        self.refused("SYSTEM_STATUS_RETRIEVAL_FAILED", *upload, f"https://127.0.0.1:{POOL.port}", {})  # nobody trusts it
        for address in ("http://10.0.0.1", "http://169.254.169.254/latest", "https://[::1]/", "http://[fe80::1]:81"):
            self.assertIn("--fetch-allow", self.refused("VALUE_NOT_SUPPORTED", *upload, address, {})[2])
        for bad in ("", "127.0.0.1", "file:///etc", "ftp://127.0.0.1/", "http://", "http:///x", "http://u:p@127.0.0.1/",
                    "http://127.0.0.1:0/", "http://127.0.0.1:65536", "http://127.0.0.1:/", "http://127.0.0.1:8x/",
                    "http://[::1", "http://[::1]x", "http://a b", "http://a/b c", "http://a/#f", "http://a/\r\nX: y", "http://-a",
                    "http://" + "a" * 256, "http://a/" + "a" * 4096):
            self.refused("INVALID_VALUE", *upload, bad, {})
        for options in ({"filename": ""}, {"filename": "../x"}, {"filename": "-x"}, {"filename": ".x"}, {"filename": "a" * 129},
                        {"filename": "a b"}, {"http_proxy": "http://127.0.0.1:3128"}, {"colour": "red"}):
            self.refused("INVALID_VALUE", *upload, url, options)
        self.refused("HANDLE_INVALID", "host.bugreport_upload", WhatIsNeverThere.GONE, url, {})

    def test_upload_that_is_cancelled(self):
        held = threading.Event()
        self.addCleanup(held.set)
        url, _, begun = self.receiver(held=held)
        task = API.call("Async.host.bugreport_upload", API.session, host(), url, {})
        self.assertTrue(begun.wait(120))
        API.task.cancel(task)
        until("the task is cancelled", lambda: API.task.get_status(task) == "cancelled", limit_s=120)

    def test_capabilities(self):
        document = ElementTree.fromstring(API.host.get_system_status_capabilities(host()))
        keys = [c.get("key") for c in document.iter("capability")]
        self.assertIn("host-logs", keys)
        self.assertEqual(len(keys), len(set(keys)))


if __name__ == "__main__":
    unittest.main()
