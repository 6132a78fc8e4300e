"""Requests and the bytes that answer them, from the files *.case beside this one, against a real poold.

    CORRAL_TEST_BUILD=<build folder> python3 run.py [FILE.case ...]

The format is in README.md. Every expectation is compared byte for byte, except for the marks @ref@, @uuid@,
@date@, @int@ and @any@, which stand for what differs from run to run.
"""
import glob
import json
import os
import re
import sys
from xml.sax.saxutils import escape

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "api"))

from pool import TestPool  # noqa: E402
from test_vm import simulated  # noqa: E402

MARKS = {
    "ref": r"OpaqueRef:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "date": r"\d{8}T\d\d:\d\d:\d\dZ",
    "int": r"-?\d+",
    "any": r"[\s\S]*",
}
PROLOGUE = '<?xml version="1.0"?><methodResponse><params><param>'
EPILOGUE = "</param></params></methodResponse>"
LIMIT_S = 60


def matches(wanted, got):
    """`wanted` text with marks against `got` bytes."""
    parts = re.split(r"@(ref|uuid|date|int|any)@", wanted)
    pattern = "".join(MARKS[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
    try:
        return re.fullmatch(pattern, got.decode("utf-8")) is not None
    except UnicodeDecodeError:
        return False


def as_json(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def as_xml(value):
    """A parameter as clients write it: whole numbers and text untagged."""
    if isinstance(value, bool):
        inner = f"<boolean>{int(value)}</boolean>"
    elif isinstance(value, float):
        inner = f"<double>{value!r}</double>"
    elif value is None:
        inner = "<nil/>"
    elif isinstance(value, list):
        inner = f"<array><data>{''.join(map(as_xml, value))}</data></array>"
    elif isinstance(value, dict):
        members = "".join(f"<member><name>{escape(k)}</name>{as_xml(v)}</member>" for k, v in value.items())
        inner = f"<struct>{members}</struct>"
    else:
        inner = escape(str(value))
    return f"<value>{inner}</value>"


def xml_call(method, values):
    params = "".join(f"<param>{value}</param>" for value in values)
    return f'<?xml version="1.0"?><methodCall><methodName>{escape(method)}</methodName><params>{params}</params></methodCall>'


def xml_status(status, member, value):
    return (f"{PROLOGUE}<value><struct><member><name>Status</name><value>{status}</value></member><member>"
            f"<name>{member}</name>{value}</member></struct></value>{EPILOGUE}")


def xml_text(text):
    return "<value>" + escape(text, {'"': "&quot;"}) + "</value>"


class Wrong(Exception):
    pass


class File:
    """One file of cases, run from its first line to its last."""

    def __init__(self, runner, path):
        self.runner = runner
        self.name = os.path.basename(path)
        self.names = dict(runner.names)
        with open(path, encoding="utf-8") as file:
            self.lines = file.read().split("\n")
        self.at = 0

    def run(self):
        while self.at < len(self.lines):
            line = self.lines[self.at]
            number = self.at + 1
            self.at += 1
            if not line.strip() or line.startswith("#"):
                continue
            word, _, rest = line.partition(" ")
            try:
                getattr(self, "do_" + word)(rest)
            except (Wrong, OSError) as wrong:
                self.runner.failed(f"{self.name}:{number}: {line}\n    {wrong}")

    # ---- words of the format ----

    def fill(self, text):
        """$NAME stands for what an earlier line kept."""
        return re.sub(r"\$([A-Z][A-Z0-9_]*)", lambda found: self.names[found.group(1)], text)

    def fields(self, rest):
        return ["" if field == "(empty)" else self.fill(field) for field in map(str.strip, rest.split(" | "))]

    def params(self, text, session=True):
        given = json.loads(text) if text else []
        return ([self.names["S"]] if session else []) + given

    def do_let(self, rest):
        """let NAME = METHOD | PARAMS"""
        name, _, call = rest.partition(" = ")
        method, *params = self.fields(call)
        answer = json.loads(self.json(2, method, self.params(params[0] if params else "")))
        if "error" in answer:
            raise Wrong(answer["error"])
        result = answer["result"]
        self.names[name] = result if isinstance(result, str) else as_json(result)

    def do_do(self, rest):
        """do METHOD | PARAMS: once, for what it changes."""
        method, params = self.fields(rest)
        answer = json.loads(self.json(2, method, self.params(params)))
        if "error" in answer:
            raise Wrong(answer["error"])

    def do_call(self, rest, session=True):
        method, params, result, xml = self.fields(rest)
        params = self.params(params, session)
        self.expect_json(method, params, result)
        self.expect(xml_status("Success", "Value", xml), self.xml(method, map(as_xml, params)))

    def do_call0(self, rest):
        self.do_call(rest, session=False)

    def do_text(self, rest):
        """text METHOD | PARAMS | TEXT: a result that is text in both forms."""
        method, params, text = self.fields(rest)
        params = self.params(params)
        self.expect_json(method, params, text if "@" in text and not text.startswith('"') else as_json(json.loads(text)))
        plain = json.loads(text) if text.startswith('"') else text
        self.expect(xml_status("Success", "Value", xml_text(plain)), self.xml(method, map(as_xml, params)))

    def do_fail(self, rest, session=True):
        method, params, *error = self.fields(rest)
        params = self.params(params, session)
        self.expect_json_error(method, params, error)
        self.expect_xml_error(error, self.xml(method, map(as_xml, params)))

    def do_fail0(self, rest):
        self.do_fail(rest, session=False)

    def do_json(self, rest):
        method, params, result = self.fields(rest)
        self.expect_json(method, self.params(params), result)

    def do_jfail(self, rest):
        method, params, *error = self.fields(rest)
        self.expect_json_error(method, self.params(params), error)

    def do_xml(self, rest):
        method, values, result = self.fields(rest)
        self.expect(xml_status("Success", "Value", result), self.xml(method, [xml_text(self.names["S"]), *split_values(values)]))

    def do_xfail(self, rest):
        method, values, *error = self.fields(rest)
        self.expect_xml_error(error, self.xml(method, [xml_text(self.names["S"]), *split_values(values)]))

    def do_post(self, rest):
        """post PATH | BODY | STATUS | BODY"""
        path, body, status, *wanted = self.fields(rest)
        got_status, got = self.runner.post(path, escapes(body))
        if got_status != int(status):
            raise Wrong(f"status {got_status}, not {status}: {got[:300]!r}")
        self.expect(wanted[0] if wanted else "@any@", got)

    def do_http(self, _rest):
        """Lines with > are sent, those with < have to come back."""
        sent, wanted = [], []
        while self.at < len(self.lines) and self.lines[self.at][:1] in ("<", ">"):
            line = self.lines[self.at]
            (sent if line[0] == ">" else wanted).append(self.fill(line[2:]))
            self.at += 1
        self.runner.exchange(sent, wanted)
        self.runner.passed()

    # ---- requests and what is expected of them ----

    def json(self, version, method, params):
        request = {"method": method, "params": params, "id": 7}
        if version == 2:
            request["jsonrpc"] = "2.0"
        status, got = self.runner.post("/jsonrpc", as_json(request).encode())
        if status != 200:
            raise Wrong(f"status {status}: {got[:300]!r}")
        return got

    def xml(self, method, values):
        status, got = self.runner.post("/RPC2", xml_call(method, values).encode())
        if status != 200:
            raise Wrong(f"status {status}: {got[:300]!r}")
        return got

    def expect(self, wanted, got):
        if not matches(wanted, got):
            raise Wrong(f"wanted {wanted}\n    got    {got[:2000].decode('utf-8', 'replace')}")
        self.runner.passed()

    def expect_json(self, method, params, result):
        self.expect(f'{{"jsonrpc":"2.0","result":{result},"id":7}}', self.json(2, method, params))
        self.expect(f'{{"result":{result},"error":null,"id":7}}', self.json(1, method, params))

    def expect_json_error(self, method, params, error):
        data = ",".join(map(as_json, error[1:]))
        self.expect(f'{{"jsonrpc":"2.0","error":{{"code":1,"message":"{error[0]}","data":[{data}]}},"id":7}}',
                    self.json(2, method, params))
        words = ",".join(map(as_json, error))
        self.expect(f'{{"result":null,"error":[{words}],"id":7}}', self.json(1, method, params))

    def expect_xml_error(self, error, got):
        words = "".join(map(xml_text, error))
        self.expect(xml_status("Failure", "ErrorDescription", f"<value><array><data>{words}</data></array></value>"), got)


def split_values(text):
    """<value>...</value> elements that stand side by side."""
    values, depth, begin = [], 0, 0
    for tag in re.finditer(r"<(/?)value(/?)>", text):
        depth += -1 if tag.group(1) else 0 if tag.group(2) else 1
        if depth == 0:
            values.append(text[begin:tag.end()])
            begin = tag.end()
    if text[begin:].strip():
        values.append(text[begin:])
    return values


def escapes(text):
    r"""Bytes of a text in which \xNN is a byte and \r, \n what they are."""
    def one(found):
        escape_text = found.group(0)[1:]
        return {"r": b"\r", "n": b"\n", "\\": b"\\"}.get(escape_text) or bytes([int(escape_text[1:], 16)])
    out, last = b"", 0
    for found in re.finditer(r"\\(x[0-9a-f]{2}|r|n|\\)", text):
        out += text[last:found.start()].encode() + one(found)
        last = found.end()
    return out + text[last:].encode()


class Runner:
    def __init__(self, pool):
        self.pool = pool
        self.count = 0
        self.failures = []
        self.sock = None
        api = pool.login()
        self.names = {
            "S": api.session, "PASSWORD": pool.password, "POOL": api.pool.get_all()[0], "HOST": api.host.get_all()[0],
            "SR": api.SR.create(api.host.get_all()[0], {"location": os.path.join(pool.folder, "disks")}, 0, "disks", "a folder",
                                "file", "", False, {}),
            "NULL": "OpaqueRef:NULL", "NONE": "OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-000000000000",
            "VM_RECORD": as_json(simulated("a VM")), "NETWORK_RECORD": as_json(
                {"name_label": "a network", "name_description": "", "MTU": 1500, "other_config": {}, "tags": []}),
        }

    def passed(self):
        self.count += 1

    def failed(self, text):
        self.failures.append(text)
        print(text, flush=True)

    def post(self, path, body):
        status, _, got = self.pool.http("POST", path, body, timeout_s=LIMIT_S)
        return status, got

    def exchange(self, sent, wanted):
        """`sent` and `wanted` are lines: a head, an empty one, a body. "Content-Length: auto" is filled in."""
        head, body = halves(sent)
        body = escapes("\n".join(body))
        head = [line.replace("Content-Length: auto", f"Content-Length: {len(body)}") for line in head]
        with self.pool.connect(LIMIT_S) as sock:
            sock.sendall(b"\r\n".join(map(escapes, head)) + b"\r\n\r\n" + body)
            answer = Answer(sock, "no body" in wanted or head[0].startswith(("HEAD", "CONNECT")))
        answer.compare(wanted)


def halves(lines):
    if "" not in lines:
        return lines, []
    at = lines.index("")
    return lines[:at], lines[at + 1:]


class Answer:
    """One answer from a bare socket, and whether the server closed behind it."""

    def __init__(self, sock, bodiless):
        data = self.until(sock, b"", lambda got: b"\r\n\r\n" in got)
        head, _, rest = data.partition(b"\r\n\r\n")
        self.lines = head.decode("latin-1").split("\r\n")
        self.headers = {}
        for line in self.lines[1:]:
            name, _, value = line.partition(": ")
            self.headers.setdefault(name.lower(), value)
        length = 0 if bodiless else int(self.headers.get("content-length", "0"))
        self.body = self.until(sock, rest, lambda got: len(got) >= length)
        self.closed = self.is_closed(sock)

    @staticmethod
    def until(sock, data, done):
        while not done(data):
            more = sock.recv(65536)
            if not more:
                break
            data += more
        return data

    @staticmethod
    def is_closed(sock):
        """An open connection answers the next request."""
        try:
            sock.sendall(b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n")
            return not sock.recv(1)
        except (ConnectionResetError, BrokenPipeError):
            return True

    def compare(self, wanted):
        head, body = halves([line for line in wanted if line not in ("(open)", "(closed)", "no body")])
        if not self.lines[0].startswith(head[0]):
            raise Wrong(f"wanted {head[0]}, got {self.lines}")
        for line in head[1:]:
            name, _, value = line.partition(": ")
            if name.startswith("!"):
                if name[1:].lower() in self.headers:
                    raise Wrong(f"there is a header {name[1:]}: {self.lines}")
            elif not matches(value, self.headers.get(name.lower(), "(none)").encode()):
                raise Wrong(f"wanted {line}, got {self.lines}")
        if body and not matches("\n".join(body), self.body):
            raise Wrong(f"wanted {body}, got {self.body!r}")
        for word, closed in (("(open)", False), ("(closed)", True)):
            if word in wanted and self.closed != closed:
                raise Wrong(f"the connection is {'closed' if self.closed else 'open'}, not {word}: {self.lines}")


def main():
    paths = [os.path.join(HERE, name) for name in sys.argv[1:]] or sorted(glob.glob(os.path.join(HERE, "*.case")))
    web = os.path.join(HERE, "web")
    with TestPool(hosts=1, options=["--web", web], host_options=["--sim-boot-ms", "50"]) as pool:
        runner = Runner(pool)
        for path in paths:
            before = runner.count
            File(runner, path).run()
            print(f"{os.path.basename(path)}: {runner.count - before} cases", flush=True)
        if runner.failures:
            print(f"{len(runner.failures)} wrong, {runner.count} right")
            pool.close(check=False)
            sys.exit(1)
    print(f"{runner.count} cases")


if __name__ == "__main__":
    main()
