"""XML-RPC from people who mean harm: whatever is sent, the server answers others in time and stays small."""
import random
import socket
import sys
import unittest

from pool import module_pool

POOL = API = None
MIB = 1 << 20
BODY_MAX = 300 * 1024
HEAD = "<methodCall><methodName>VM.get_by_name_label</methodName><params><param><value>"


def setUpModule():
    global POOL, API
    POOL = module_pool()
    API = POOL.login()


def post(body, headers=None):
    if isinstance(body, str):
        body = body.encode()
    return POOL.http("POST", "/RPC2", body, headers or {"Content-Type": "text/xml"}, 60)


def memory_kib():
    with open(f"/proc/{POOL.poold.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


class Bodies(unittest.TestCase):
    def tearDown(self):
        self.assertEqual(API.VM.get_all(), [])

    def test_shapes_as_large_as_a_body_may_be(self):
        def filled(unit, end=""):
            return (HEAD + unit * ((BODY_MAX - len(HEAD) - len(end)) // len(unit.encode())) + end)
        shapes = {
            "text": filled("x"), "line ends": filled("\n"), "references": filled("&#65;"), "escapes": filled("&amp;"),
            "comments": filled("<!---->"), "instructions": filled("<?a?>"), "sections": filled("<![CDATA[]]>"),
            "arrays": filled("<array><data><value>"), "structs": filled("<struct><member><name/><value>"),
            "values": filled("<value/>"), "tags": filled("<a>"), "ends": filled("</value>"),
            "unknown references": filled("&a;"),
            "attributes": "<methodCall " + "".join(f"a{i:x}='' " for i in range(30000)) + "/>",
            "name spaces": "<methodCall " + "".join(f"xmlns:a{i:x}='u' " for i in range(16000)) + "/>",
            "members": HEAD + "<struct>" + "".join(f"<member><name>{i:x}</name><value/></member>" for i in range(6000))
                       + "</struct></value></param></params></methodCall>",
            "items": HEAD + "<array><data>" + "<value/>" * 37000 + "</data></array></value></param></params></methodCall>",
            "one long tag": "<" + "a" * (BODY_MAX - 2),
            "one long quote": "<methodCall a='" + ">" * (BODY_MAX - 20),
        }
        before = memory_kib()
        for name, body in shapes.items():
            self.assertLessEqual(len(body), BODY_MAX, name)
            status, _, answer = post(body)
            self.assertIn(status, (200, 500), (name, answer[:200]))
        self.assertLess(memory_kib() - before, 200 * 1024)

    def test_16_mib_of_text(self):
        for size in (BODY_MAX + 1, 16 * MIB):
            self.assertEqual(post(HEAD + "x" * (size - len(HEAD)))[0], 413, size)

    def test_entities_and_files(self):
        for doctype in ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
                        '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
                        f'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:{POOL.http_port}/"> %p;]>',
                        '<!DOCTYPE x [<!ENTITY a "' + "a" * 500 + '">' + "".join(
                            f'<!ENTITY {n} "{f"&{p};" * 10}">' for p, n in zip("abcdefgh", "bcdefghi")) + "]>"):
            status, _, answer = post(doctype + HEAD + "&a;</value></param></params></methodCall>")
            self.assertEqual(status, 500, doctype)
            self.assertNotIn(b"root:", answer)

    def test_bodies_that_end_early(self):
        whole = (HEAD + "x</value></param></params></methodCall>").encode()
        for length in (1, 20, len(whole) - 1):
            with POOL.connect() as sock:
                sock.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole[:length])
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(30)
                self.assertIn(sock.recv(100)[:12], (b"", b"HTTP/1.1 400"))

    def test_changed_bytes(self):
        """A valid request with some bytes of another kind; the seed tells which."""
        rng = random.Random(7)
        good = (HEAD.replace("VM.get_by_name_label", "network.create") + API.session +
                "</value></param><param><value><struct><member><name>name_label</name><value>x</value></member></struct></value>"
                "</param></params></methodCall>").encode()
        for seed in range(300):
            body = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(body))
                body[at:at + rng.randint(0, 2)] = bytes(rng.choice(b'<>&;/"\x00\xff\x80 a1') for _ in range(rng.randint(0, 3)))
            status, _, answer = post(bytes(body))
            self.assertIn(status, (200, 500), (seed, answer[:200]))
            if status == 200:
                answer.decode("utf-8")


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
