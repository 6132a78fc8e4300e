"""Certificates: the one that the server shows, those that the pool trusts, lists of revoked ones, and clients that log
in by one. One pool for all; every test leaves things as they were."""
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

from pool import NULL, Failure, TestPool, module_pool, program, until

POOL = API = FOLDER = PKI = None


def openssl(*arguments, text=None):
    return subprocess.run(["openssl", *arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=True, cwd=FOLDER, text=True).stdout


def read(name):
    with open(os.path.join(FOLDER, name), encoding="ascii") as file:
        return file.read()


def make_ca(name):
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days",
            "2", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE")


def issue(ca, name, extensions):
    with open(os.path.join(FOLDER, f"{name}.cnf"), "w", encoding="ascii") as file:
        file.write("\n".join(extensions) + "\n")
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
            f"/CN={name}")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-out",
            f"{name}.pem", "-days", "2", "-extfile", f"{name}.cnf")


def setUpModule():
    global POOL, API, FOLDER
    if not shutil.which("openssl"):
        print("skipped: there is no openssl here")
        sys.exit(77)
    FOLDER = tempfile.mkdtemp(prefix="corral-certificates-")
    unittest.addModuleCleanup(shutil.rmtree, FOLDER, ignore_errors=True)
    make_ca("authority")
    issue("authority", "server", ["subjectAltName=IP:127.0.0.1"])
    issue("authority", "client", ["subjectAltName=DNS:robot.example", "extendedKeyUsage=clientAuth"])
    make_ca("stranger")
    issue("stranger", "other", ["subjectAltName=DNS:robot.example"])
    POOL = module_pool(hosts=2)
    API = POOL.login()


def fingerprint(pem, digest="sha256"):
    text = hashlib.new(digest, ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    return ":".join(text[i:i + 2] for i in range(0, len(text), 2))


def first(pem):
    return pem[:pem.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")] + "\n"


def shown():
    """What a new connection gets."""
    return ssl.get_server_certificate(("127.0.0.1", POOL.port))


def rows(kind):
    return {ref: c for ref, c in API.Certificate.get_all_records().items() if c["type"] == kind}


def coordinator():
    return API.pool.get_all_records().popitem()[1]["master"]


class Base(unittest.TestCase):
    def refused(self, code, call, *params):
        with self.assertRaises(Failure) as caught:
            API.call(call, API.session, *params)
        self.assertEqual(caught.exception.code, code, (call, caught.exception))
        return caught.exception.params


class OfTheServer(Base):
    def test_rows(self):
        first_pem = first(API.host.get_server_certificate(coordinator()))
        (host_row,) = rows("host").values()
        self.assertEqual((host_row["host"], host_row["name"]), (coordinator(), ""))
        self.assertEqual(host_row["fingerprint_sha256"], fingerprint(first_pem))
        self.assertEqual(host_row["fingerprint"], fingerprint(first_pem))
        self.assertEqual(host_row["fingerprint_sha1"], fingerprint(first_pem, "sha1"))
        self.assertNotIn("pem", host_row)
        self.assertGreater(host_row["not_after"], host_row["not_before"])
        internal = rows("host_internal")
        self.assertEqual(sorted(c["host"] for c in internal.values()), sorted(API.host.get_all()))
        for ref, record in internal.items():
            self.assertIn(ref, API.host.get_certificates(record["host"]))

    def test_install_and_reset(self):
        host, before = coordinator(), shown()
        API.host.install_server_certificate(host, read("server.pem"), read("server.key"), read("authority.pem"))
        self.assertEqual(fingerprint(shown()), fingerprint(read("server.pem")))
        (row,) = rows("host").values()
        self.assertEqual(row["fingerprint_sha256"], fingerprint(read("server.pem")))
        told = API.host.get_server_certificate(host)
        self.assertNotIn("PRIVATE", told)
        self.assertEqual(told.count("BEGIN CERTIFICATE"), 2)
        context = ssl.create_default_context(cafile=os.path.join(FOLDER, "authority.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", POOL.port, context=context, timeout=30)
        connection.request("OPTIONS", "/")
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()
        # What is wrong changes nothing.
        for code, certificate, key, chain in (
                ("SERVER_CERTIFICATE_KEY_INVALID", "server.pem", None, None),
                ("SERVER_CERTIFICATE_INVALID", None, "server.key", None),
                ("SERVER_CERTIFICATE_KEY_MISMATCH", "server.pem", "client.key", None),
                ("SERVER_CERTIFICATE_CHAIN_INVALID", "client.pem", "client.key", "client.key")):
            self.refused(code, "host.install_server_certificate", host, read(certificate) if certificate else "",
                         read(key) if key else "none", read(chain) if chain else "")
        self.refused("SERVER_CERTIFICATE_KEY_INVALID", "host.install_server_certificate", host, read("server.pem"),
                     "x" * 70000)
        (member,) = set(API.host.get_all()) - {host}
        self.refused("OPERATION_NOT_ALLOWED", "host.install_server_certificate", member, read("server.pem"),
                     read("server.key"))
        self.assertEqual(fingerprint(shown()), fingerprint(read("server.pem")))
        # It stays over a restart.
        POOL.restart()
        self.__class__.login()
        self.assertEqual(fingerprint(shown()), fingerprint(read("server.pem")))
        # Two days are left of it: told at a start.
        uuid = API.host.get_uuid(host)
        until("its end is told", lambda: any(
            (m["cls"], m["obj_uuid"]) == ("Host", uuid) and "<date>20" in m["body"]
            for m in API.message.get_all_records().values() if m["name"] == "HOST_SERVER_CERTIFICATE_EXPIRING_07"), 60)
        API.host.reset_server_certificate(host)
        self.assertNotIn(fingerprint(shown()), (fingerprint(read("server.pem")), fingerprint(before)))
        self.assertEqual(POOL.login(tls=True).pool.get_all(), API.pool.get_all())  # by the pool's own CA again
        (row,) = rows("host").values()
        self.assertEqual(row["fingerprint_sha256"], fingerprint(shown()))
        leaf = fingerprint(shown())
        local = POOL.client()
        local.url = local.url._replace(scheme="unix", path=os.path.join(POOL.state, "poold.sock"))
        local.login("root", "")
        local.host.emergency_reset_server_certificate()
        self.assertNotEqual(fingerprint(shown()), leaf)

    @staticmethod
    def login():
        global API
        API = POOL.login()

    def test_checking_is_always_on(self):
        API.pool.enable_tls_verification()
        self.assertTrue(API.pool.get_all_records().popitem()[1]["tls_verification_enabled"])
        self.refused("OPERATION_NOT_ALLOWED", "host.emergency_disable_tls_verification")
        API.host.emergency_reenable_tls_verification()


class Named(unittest.TestCase):
    """The certificate names every way to the server, whenever that was told."""

    def connects(self, pool, address, name):
        context = ssl.create_default_context(cafile=os.path.join(pool.state, "pki", "ca.pem"))
        with socket.create_connection((address, pool.port), 10) as wire, context.wrap_socket(wire, server_hostname=name) as tls:
            return hashlib.sha256(tls.getpeercert(True)).hexdigest()

    def key(self, pool):
        return openssl("x509", "-in", os.path.join(pool.state, "pki", "server.pem"), "-noout", "-pubkey")

    def test_names_that_come_later(self):
        with TestPool(options=["--listen", "127.0.0.5"]) as pool:
            self.connects(pool, "127.0.0.5", "127.0.0.5")
            before = self.connects(pool, "127.0.0.5", "localhost")
            with self.assertRaises(ssl.SSLCertVerificationError):
                self.connects(pool, "127.0.0.5", "pool.example")
            key = self.key(pool)
            pool.restart()
            self.assertEqual(self.connects(pool, "127.0.0.5", "localhost"), before, "nothing was missing")
            at = pool.poold.arguments.index("--listen") + 1
            pool.poold.arguments[at] = "127.0.0.6"
            pool.poold.arguments += ["--names", "pool.example,127.0.0.9"]
            pool.restart()
            for name in ("127.0.0.6", "pool.example", "127.0.0.9", "localhost"):
                self.connects(pool, "127.0.0.6", name)
            self.assertEqual(self.key(pool), key)
            self.assertIn("was made anew, with further names", pool.poold.log())

    def test_one_that_was_reset(self):
        """It has the names of then; that one is missing later is told, and what makes one that has it."""
        with TestPool(options=["--listen", "127.0.0.5"]) as pool:
            pool.add_host(server="127.0.0.5")
            api = pool.login()
            api.host.reset_server_certificate(api.host.get_all()[0])
            before = self.connects(pool, "127.0.0.5", "127.0.0.5")
            pool.poold.arguments += ["--names", "pool.example"]
            pool.restart()
            self.assertEqual(self.connects(pool, "127.0.0.5", "127.0.0.5"), before)
            self.assertRegex(pool.poold.log(), "lacks a name: xe host-reset-server-certificate.*missing=pool.example")
            api = pool.login()
            api.host.reset_server_certificate(api.host.get_all()[0])
            self.connects(pool, "127.0.0.5", "pool.example")


class OfHosts(Base):
    @staticmethod
    def pki(agent, name):
        return os.path.join(agent.folder, "pki", name)

    def file(self, agent, name):
        with open(self.pki(agent, name), encoding="ascii") as file:
            return file.read()

    def put(self, agent, name, text):
        with open(self.pki(agent, name), "w", encoding="ascii") as file:
            file.write(text)

    def shown_by(self, agent):
        """To somebody who shows no certificate, which the agent refuses right after."""
        with open(os.path.join(agent.folder, "hostd.port"), encoding="ascii") as file:
            return fingerprint(ssl.get_server_certificate(("127.0.0.1", int(file.read()))))

    def agent(self, ref):
        uuid = API.host.get_uuid(ref)
        return next(agent for agent in POOL.hosts if self.file(agent, "host-uuid").strip() == uuid)

    def noted(self, ref, print_):
        """What the pool knows of it; a look at the host that began before may write its answer still."""
        until("the row is of the new certificate", limit_s=120, check=lambda: [
            c["fingerprint_sha256"] for c in rows("host_internal").values() if c["host"] == ref] == [print_])

    def starts_with(self, agent, print_):
        """After a start: what was left is gone, the pair belongs together, and the pool reaches the host."""
        agent.start("hostd.port")
        self.assertEqual(self.shown_by(agent), print_)
        self.assertEqual([name for name in os.listdir(self.pki(agent, "")) if name.startswith("next")], [])
        for ref in API.host.get_all():
            until("the host answers", lambda: self.answers(ref), limit_s=120)

    def answers(self, ref):
        return self.answers_to(API, ref)

    @staticmethod
    def answers_to(api, ref):
        try:
            return api.host.dmesg(ref) is not None
        except Failure as failure:
            if failure.code != "HOST_OFFLINE":
                raise
            return False

    def asked_by_nobody(self, agent):
        """Without a certificate of the pool an agent tells nothing."""
        with open(os.path.join(agent.folder, "hostd.port"), encoding="ascii") as file:
            connection = http.client.HTTPSConnection("127.0.0.1", int(file.read()), timeout=60,
                                                     context=ssl._create_unverified_context())  # pylint: disable=protected-access
        with self.assertRaises((OSError, http.client.HTTPException)):
            connection.request("GET", "/v1/operations")
            connection.getresponse()
        connection.close()

    def test_refresh(self):
        lead = coordinator()
        for ref in API.host.get_all():
            agent, server_before = self.agent(ref), fingerprint(shown())
            before, key, pid = self.shown_by(agent), self.file(agent, "host.key"), agent.pid
            API.host.refresh_server_certificate(ref)
            after = self.shown_by(agent)
            self.assertNotEqual(after, before)
            self.assertEqual(after, fingerprint(first(self.file(agent, "host.pem"))))
            self.assertNotEqual(self.file(agent, "host.key"), key)
            self.assertEqual([name for name in os.listdir(self.pki(agent, "")) if name.startswith("next")], [])
            self.noted(ref, after)
            self.assertEqual((agent.pid, POOL.live_hosts(API)), (pid, 2))
            self.assertEqual(fingerprint(shown()) == server_before, ref != lead)
            self.assertTrue(self.answers(ref))
            self.asked_by_nobody(agent)
        POOL.restart()  # so that the server connects anew
        OfTheServer.login()
        for ref in API.host.get_all():
            until("the host answers", lambda: self.answers(ref), limit_s=120)
        self.assertEqual(POOL.login(tls=True).pool.get_all(), API.pool.get_all())
        # A certificate that was brought along stays.
        API.host.install_server_certificate(lead, read("server.pem"), read("server.key"), read("authority.pem"))
        API.host.refresh_server_certificate(lead)
        self.assertEqual(fingerprint(shown()), fingerprint(read("server.pem")))
        API.host.reset_server_certificate(lead)
        self.refused("HANDLE_INVALID", "host.refresh_server_certificate",
                     "OpaqueRef:00000000-0000-4000-8000-000000000000")

    def test_refresh_that_is_cut_short(self):
        """What a kill between the steps leaves behind: the present pair or the new one, whole."""
        (ref,) = set(API.host.get_all()) - {coordinator()}
        agent = self.agent(ref)
        old = {name: self.file(agent, name) for name in ("host.pem", "host.key")}
        API.host.refresh_server_certificate(ref)
        new = {name: self.file(agent, name) for name in ("host.pem", "host.key")}
        old_print, new_print = (fingerprint(first(pair["host.pem"])) for pair in (old, new))
        for files, print_ in (({**old, "next.key": new["host.key"]}, old_print),
                              ({**old, "next.key": new["host.key"], "next.pem": new["host.pem"]}, old_print),
                              ({"host.key": new["host.key"], "host.pem": old["host.pem"], "next.key": new["host.key"],
                                "next.pem": new["host.pem"]}, new_print),
                              ({**new, "next.key": new["host.key"], "next.pem": new["host.pem"]}, new_print)):
            agent.kill()
            for name, text in files.items():
                self.put(agent, name, text)
            self.starts_with(agent, print_)
        agent.kill()
        self.refused("HOST_OFFLINE", "host.refresh_server_certificate", ref)
        self.starts_with(agent, new_print)


def reissue(pool, certificate, key, begins_s, ends_s):
    """In place of a certificate of the pool's CA: the same with other dates, in seconds from now. Gives its end."""
    pki = os.path.join(pool.state, "pki")
    text = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-subject", "-nameopt", "RFC2253", "-ext",
                           "subjectAltName,extendedKeyUsage"], stdout=subprocess.PIPE, check=True, text=True).stdout
    subject = re.search("subject=(.*)", text).group(1)
    names = re.search("Subject Alternative Name: *\n *(.*)", text).group(1).replace("IP Address", "IP")
    usage = ",".join(word for word, name in (("serverAuth", "Web Server"), ("clientAuth", "Web Client")) if name in text)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("index.txt", ""), ("serial", "01\n"), ("ca.cnf", "\n".join((
                "[ca]", "default_ca=it", "[it]", "database=index.txt", "serial=serial", "new_certs_dir=.", "default_md=sha256",
                "policy=policy", "[policy]", "commonName=supplied", "[leaf]", "basicConstraints=critical,CA:FALSE",
                "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}", f"subjectAltName={names}",
                "authorityKeyIdentifier=keyid:always", "")))):
            with open(os.path.join(folder, name), "w", encoding="ascii") as file:
                file.write(content)
        now = int(time.time())
        dates = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(now + s)) for s in (begins_s, ends_s)]
        for command in (["req", "-new", "-key", key, "-subj", "/" + subject, "-out", "it.csr"],
                        ["ca", "-batch", "-notext", "-config", "ca.cnf", "-extensions", "leaf", "-in", "it.csr", "-cert",
                         f"{pki}/ca.pem", "-keyfile", f"{pki}/ca.key", "-startdate", dates[0], "-enddate", dates[1], "-out",
                         "it.pem"]):
            subprocess.run(["openssl", *command], cwd=folder, stderr=subprocess.DEVNULL, check=True)
        with open(os.path.join(folder, "it.pem"), encoding="ascii") as leaf, open(f"{pki}/ca.pem", encoding="ascii") as ca, \
                open(certificate, "w", encoding="ascii") as out:
            out.write(leaf.read() + ca.read())
    return now + ends_s


class Ending(unittest.TestCase):
    """Certificates that end, and clocks that are wrong: who says what, and what is mended by itself."""

    def setUp(self):
        self.pool = TestPool(hosts=1)
        self.addCleanup(self.pool.close)
        self.api = self.pool.login()
        (self.host,) = self.api.host.get_all()

    def pair(self, folder, name):
        return [os.path.join(folder, "pki", name + end) for end in (".pem", ".key")]

    def restart(self):
        self.pool.restart()
        self.api = self.pool.login()

    def logged(self, daemon, *parts):
        def look():
            return [line for line in daemon.log().splitlines() if all(part in line for part in parts)]
        return until(f"the log says {parts}", look)[0]

    def row(self):
        return next(c for c in self.api.Certificate.get_all_records().values() if c["type"] == "host_internal")

    def until_live(self):
        until("the host answers", lambda: OfHosts.answers_to(self.api, self.host), 120)

    def test_what_agents_know_the_server_by_is_renewed(self):
        """It has ended while the server was away; and the same when that will be soon."""
        pem, key = self.pair(self.pool.state, "poold")
        for ends_s in (-60, 20 * 86400):
            self.pool.stop()
            reissue(self.pool, pem, key, -30 * 86400, ends_s)
            with open(pem, encoding="ascii") as file:
                former = first(file.read())
            self.pool.start()
            self.api = self.pool.login()
            self.until_live()
            with open(pem, encoding="ascii") as file:
                self.assertNotEqual(first(file.read()), former)
        self.pool.restart()
        self.assertEqual(self.pool.poold.log().count("agents know the server by was renewed"), 2)

    def test_of_a_host_that_ends_soon(self):
        agent = self.pool.hosts[0]
        pem, key = self.pair(agent.folder, "host")
        agent.stop()
        reissue(self.pool, pem, key, -86400, 20 * 86400)
        agent.start("hostd.port")
        with open(pem, encoding="ascii") as file:
            short = fingerprint(first(file.read()))
        until("the pool knows it", lambda: self.row()["fingerprint_sha256"] == short, 120)
        self.restart()
        until("it is renewed", lambda: self.row()["fingerprint_sha256"] != short)
        self.assertIn("replaced that of a host", self.pool.poold.log())
        names = {m["name"] for m in self.api.message.get_all_records().values()}
        self.assertFalse([name for name in names if "CERTIFICATE" in name], names)

    def test_of_a_host_that_has_ended(self):
        agent, uuid = self.pool.hosts[0], self.api.host.get_uuid(self.host)
        pem, key = self.pair(agent.folder, "host")
        agent.stop()
        ends = reissue(self.pool, pem, key, -86400, 12)
        agent.start("hostd.port")
        with open(pem, encoding="ascii") as file:
            short = fingerprint(first(file.read()))
        until("the pool knows it", lambda: self.row()["fingerprint_sha256"] == short, ends - time.time())
        agent.stop()
        until("it has ended", lambda: time.time() > ends)
        agent.start("hostd.port")
        line = self.logged(self.pool.poold, "warn hosts:", f"host={uuid}", "do not accept each other's certificates")
        self.assertRegex(line, r"certificate has expired \('" + uuid + r"'\): it is good from 20\S+ to 20\S+, and the clock here "
                               r"says 20.*xe host-refresh-server-certificate")
        with self.assertRaises(Failure) as caught:
            self.api.host.dmesg(self.host)
        self.assertIn("has expired", caught.exception.params[0])
        self.api.host.refresh_server_certificate(self.host)
        self.until_live()
        self.assertNotEqual(self.row()["fingerprint_sha256"], short)

    def test_an_agent_whose_clock_is_behind(self):
        """For it the server's certificate begins in an hour. The server looks at its own when it starts, so it is
        replaced under its feet."""
        agent = self.pool.hosts[0]
        pem, key = self.pair(self.pool.state, "poold")
        reissue(self.pool, pem, key, 3600, 300 * 86400)
        agent.stop()  # so that the server connects anew
        agent.start("hostd.port")
        line = self.logged(agent, "warn http: a client's certificate is refused", "name=poold")
        self.assertRegex(line, r"not yet valid.*it is good from 20\S+ to 20\S+, and the clock here says 20")
        self.logged(self.pool.poold, "warn hosts:", "the other side refuses: certificate expired, or not good yet by its clock")
        # Made by a clock that was ahead, once that is right: it is made anew.
        self.restart()
        self.until_live()

    def test_of_the_server(self):
        pem, key = self.pair(self.pool.state, "server")
        self.pool.stop()
        reissue(self.pool, pem, key, -86400, -60)
        self.pool.start()
        self.logged(self.pool.poold, "error front: the certificate that clients are shown has ended",
                    "host-emergency-reset-server-certificate", "the clock here says")
        if program("xe"):
            common = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False, "timeout": 120}
            run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(self.pool.port), "--ca", self.pool.ca, "-u",
                                  "root", "-pw", self.pool.password, "host-list"], **common)
            self.assertNotEqual(run.returncode, 0)
            for part in ("has expired", "it is good from 20", "the clock here says 20", "host-emergency-reset-server-certificate"):
                self.assertIn(part, run.stdout)
            run = subprocess.run([program("xe"), "-s", os.path.join(self.pool.state, "poold.sock"),
                                  "host-emergency-reset-server-certificate"], **common)
            self.assertEqual(run.returncode, 0, run.stdout)
        else:
            self.pool.login().host.reset_server_certificate(self.host)
        self.pool.login(tls=True)

    def test_the_ca_is_not_made_anew(self):
        self.pool.stop()
        ca = os.path.join(self.pool.state, "pki", "ca")
        os.rename(ca + ".pem", ca + ".kept")
        os.rename(ca + ".key", ca + ".key-kept")
        with self.assertRaises(AssertionError) as caught:
            self.pool.start()
        self.assertIn("ca.pem is missing", str(caught.exception))
        self.assertFalse(os.path.exists(ca + ".pem"))
        os.rename(ca + ".kept", ca + ".pem")
        self.pool.start()
        self.assertIn("the key of the pool's CA is missing", self.pool.poold.log())


class Trusted(Base):
    def test_by_name(self):
        ca = read("authority.pem")
        for name in ("", ".x", "a/b", "-x", "a b", "x" * 129):
            self.assertEqual(self.refused("CERTIFICATE_NAME_INVALID", "pool.install_ca_certificate", name, ca), [name])
        self.refused("CA_CERTIFICATE_INVALID", "pool.install_ca_certificate", "a.pem", "text")
        API.pool.install_ca_certificate("a.pem", "before\n" + ca)
        self.assertEqual(self.refused("CERTIFICATE_ALREADY_EXISTS", "pool.install_ca_certificate", "a.pem", ca),
                         ["a.pem"])
        API.pool.certificate_install("b.pem", read("stranger.pem"))
        self.assertEqual(sorted(API.pool.certificate_list()), ["a.pem", "b.pem"])
        (row,) = [c for c in rows("ca").values() if c["name"] == "a.pem"]
        self.assertEqual((row["host"], row["fingerprint_sha256"], row["purpose"]), (NULL, fingerprint(ca), []))
        API.pool.certificate_sync()
        API.pool.uninstall_ca_certificate("a.pem")
        API.pool.certificate_uninstall("b.pem")
        self.assertEqual((API.pool.certificate_list(), rows("ca")), ([], {}))
        self.assertEqual(self.refused("CERTIFICATE_DOES_NOT_EXIST", "pool.uninstall_ca_certificate", "a.pem"), ["a.pem"])
        API.pool.uninstall_ca_certificate("a.pem", True)

    def test_by_purpose(self):
        pool, leaf, ca = API.pool.get_all()[0], read("client.pem"), read("authority.pem")
        self.refused("CERTIFICATE_LACKS_PURPOSE", "pool.install_trusted_certificate", pool, False, leaf, [])
        self.refused("TRUSTED_CERTIFICATE_INVALID", "pool.install_trusted_certificate", pool, False, "no", ["ldaps"])
        self.refused("TRUSTED_CERTIFICATE_INVALID", "pool.install_trusted_certificate", pool, True, leaf, ["ldaps"])
        API.pool.install_trusted_certificate(pool, False, leaf, ["ldaps"])
        API.pool.install_trusted_certificate(pool, True, ca, [])
        self.assertEqual(self.refused("TRUSTED_CERTIFICATE_ALREADY_EXISTS", "pool.install_trusted_certificate", pool,
                                      False, leaf, ["licensing"]), [fingerprint(leaf)])
        (pinned,) = rows("pinned").items()
        self.assertEqual((pinned[1]["purpose"], pinned[1]["host"]), (["ldaps"], NULL))
        ((own, _),) = rows("host").items()
        self.assertEqual(self.refused("NOT_TRUSTED_CERTIFICATE", "pool.uninstall_trusted_certificate", pool, own), [own])
        for ref in [pinned[0], *rows("ca")]:
            API.pool.uninstall_trusted_certificate(pool, ref)
        self.refused("HANDLE_INVALID", "pool.uninstall_trusted_certificate", pool, pinned[0])
        self.assertEqual((rows("pinned"), rows("ca")), ({}, {}))

    def test_revocation_lists(self):
        with open(os.path.join(FOLDER, "ca.cnf"), "w", encoding="ascii") as file:
            file.write("[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=2\n")
        with open(os.path.join(FOLDER, "index.txt"), "w", encoding="ascii"):
            pass
        openssl("ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "authority.key", "-cert", "authority.pem", "-out", "crl.pem")
        self.assertEqual(self.refused("CRL_NAME_INVALID", "pool.crl_install", "a/b", read("crl.pem")), ["a/b"])
        self.assertEqual(self.refused("CRL_CORRUPT", "pool.crl_install", "list", read("authority.pem")), ["list"])
        API.pool.crl_install("list", read("crl.pem"))
        self.assertEqual(self.refused("CRL_ALREADY_EXISTS", "pool.crl_install", "list", read("crl.pem")), ["list"])
        self.assertEqual(API.pool.crl_list(), ["list"])
        self.assertNotIn("crls", API.pool.get_all_records().popitem()[1])
        API.pool.crl_uninstall("list")
        self.assertEqual(self.refused("CRL_DOES_NOT_EXIST", "pool.crl_uninstall", "list"), ["list"])
        self.assertEqual(API.pool.crl_list(), [])


class ByXe(Base):
    def xe(self, *words):
        run = subprocess.run([program("xe"), "-s", "127.0.0.1", "-p", str(POOL.port), "--ca", POOL.ca, "-u", "root", "-pw",
                              POOL.password, *words], cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             check=False, timeout=120)
        self.assertEqual(run.returncode, 0, (words, run.stdout))
        return run.stdout.strip()

    @unittest.skipUnless(program("xe"), "xe is not built")
    def test_files(self):
        self.xe("pool-install-ca-certificate", "filename=authority.pem")
        self.xe("pool-certificate-install", "filename=stranger.pem", "name=other")
        self.assertEqual(sorted(API.pool.certificate_list()), ["authority.pem", "other"])
        for name in ("authority.pem", "other"):
            self.xe("pool-uninstall-ca-certificate", f"name={name}")
        self.xe("pool-install-trusted-certificate", "filename=client.pem", "ca=false", "purpose=ldaps,licensing")
        ((ref, pinned),) = rows("pinned").items()
        self.assertEqual(sorted(pinned["purpose"]), ["ldaps", "licensing"])
        API.pool.uninstall_trusted_certificate(API.pool.get_all()[0], ref)
        uuid = API.host.get_uuid(coordinator())
        self.xe("host-get-system-status", f"uuid={uuid}", "filename=bundle.tar", "output=tar", "entries=server-figures")
        with tarfile.open(os.path.join(FOLDER, "bundle.tar")) as archive:
            self.assertEqual(archive.getnames(), ["system-status/server.txt"])
        self.xe("host-server-certificate-install", f"uuid={uuid}", "certificate=server.pem", "private-key=server.key",
                "certificate-chain=authority.pem")
        self.assertEqual(fingerprint(shown()), fingerprint(read("server.pem")))
        API.host.reset_server_certificate(coordinator())


class OfClients(Base):
    def over_tls(self, certificate, method, path, body=None):
        context = ssl.create_default_context(cafile=POOL.ca)
        if certificate:
            context.load_cert_chain(os.path.join(FOLDER, certificate + ".pem"), os.path.join(FOLDER, certificate + ".key"))
        connection = http.client.HTTPSConnection("127.0.0.1", POOL.port, context=context, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, certificate, method, *params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        status, answer = self.over_tls(certificate, "POST", "/jsonrpc", body)
        self.assertEqual(status, 200)
        answer = json.loads(answer)
        if "error" in answer:
            raise Failure(method, answer["error"]["message"], answer["error"]["data"])
        return answer["result"]

    def at_door(self, certificate):
        return self.over_tls(certificate, "GET", "/rrd_updates?start=0&host=true")[0]

    def test_login(self):
        pool = API.pool.get_all()[0]
        API.pool.install_ca_certificate("clients", read("authority.pem"))
        self.assertEqual(self.at_door("client"), 401)
        self.refused("INVALID_VALUE", "pool.enable_client_certificate_auth", pool, "")
        API.pool.enable_client_certificate_auth(pool, "robot.example")
        record = API.pool.get_record(pool)
        self.assertEqual((record["client_certificate_auth_enabled"], record["client_certificate_auth_name"]),
                         (True, "robot.example"))
        session = self.call("client", "session.login_with_password", "", "")
        self.assertTrue(session.startswith("OpaqueRef:"), session)
        own = self.call("client", "session.get_record", session, session)
        self.assertEqual((own["client_certificate"], own["is_local_superuser"], own["auth_user_name"]),
                         (True, False, "robot.example"))
        self.assertIn("vm.get_all", own["rbac_permissions"])
        self.assertEqual(self.call("client", "pool.get_all", session), [pool])
        with self.assertRaises(Failure) as caught:
            self.call("client", "pool.set_name_label", session, pool, "mine")
        self.assertEqual(caught.exception.code, "RBAC_PERMISSION_DENIED")
        # What the role of such logins may beyond reading.
        allowed = set(own["rbac_permissions"])
        self.assertIn("pool.disable_client_certificate_auth", allowed)
        self.assertNotIn("pool.set_name_label", allowed)
        # A door, too, without any session; not for strangers, nor for nobody.
        for certificate, expected in (("client", 200), ("other", 401), (None, 401)):
            self.assertEqual(self.at_door(certificate), expected, certificate)
        status, _ = self.over_tls("client", "GET", "/pool/xmldbdump")
        self.assertEqual(status, 403)
        API.pool.enable_client_certificate_auth(pool, "somebody.else")
        self.assertEqual(self.at_door("client"), 401)
        API.pool.disable_client_certificate_auth(pool)
        self.assertEqual(self.at_door("client"), 401)
        API.pool.uninstall_ca_certificate("clients")

    def test_the_secret_changes(self):
        secret = POOL.read("pool-secret")
        self.assertEqual(POOL.http("GET", "/pool/xmldbdump", headers={"Cookie": f"pool_secret={secret}"})[0], 200)
        API.pool.rotate_secret()
        self.assertNotEqual(POOL.read("pool-secret"), secret)
        self.assertEqual(POOL.http("GET", "/pool/xmldbdump", headers={"Cookie": f"pool_secret={secret}"})[0], 401)
        secret = POOL.read("pool-secret")
        self.assertEqual(POOL.http("GET", "/pool/xmldbdump", headers={"Cookie": f"pool_secret={secret}"})[0], 200)


if __name__ == "__main__":
    unittest.main()
