"""The JSON-RPC codec from outside: shapes of answers, and everything that is not a call."""
import json
import re
import socket
import sys
import time
import unittest

from pool import NULL, description, module_pool
from coverage import is_built

POOL = API = None


def setUpModule():
    global POOL, API
    POOL = module_pool()
    API = POOL.login()


class Shapes(unittest.TestCase):
    """Byte for byte, because clients compare."""

    def setUp(self):
        self.session = API.session

    def ask(self, message):
        status, text = POOL.rpc(message)
        self.assertEqual(status, 200, text)
        return text

    def test_version_2_success(self):
        text = self.ask({"jsonrpc": "2.0", "method": "VM.get_all", "params": [self.session], "id": 7})
        self.assertEqual(text, '{"jsonrpc":"2.0","result":[],"id":7}')

    def test_version_2_failure(self):
        text = self.ask({"jsonrpc": "2.0", "method": "VM.get_uuid", "params": [self.session, NULL], "id": 8})
        self.assertEqual(text, '{"jsonrpc":"2.0","error":{"code":1,"message":"HANDLE_INVALID",'
                               '"data":["VM","OpaqueRef:NULL"]},"id":8}')

    def test_version_2_failure_without_parameters(self):
        text = self.ask({"jsonrpc": "2.0", "method": "session.login_with_password", "params": [], "id": 1})
        self.assertTrue(text.startswith('{"jsonrpc":"2.0","error":{"code":1,"message":"MESSAGE_PARAMETER_COUNT_MISMATCH"'))
        removed = self.ask({"jsonrpc": "2.0", "method": "VM.get_all", "params": ["x"], "id": "ü"})
        self.assertEqual(json.loads(removed), {"jsonrpc": "2.0", "id": "ü",
                                               "error": {"code": 1, "message": "SESSION_INVALID", "data": ["x"]}})

    def test_version_1_success(self):
        text = self.ask({"method": "VM.get_all", "params": [self.session], "id": 7})
        self.assertEqual(text, '{"result":[],"error":null,"id":7}')

    def test_version_1_failure(self):
        text = self.ask({"method": "VM.get_uuid", "params": [self.session, NULL], "id": "a"})
        self.assertEqual(text, '{"result":null,"error":["HANDLE_INVALID","VM","OpaqueRef:NULL"],"id":"a"}')

    def test_other_versions_are_version_1(self):
        for version in ("1.0", "1.1", "3.0", "", 2, 2.0, None, ["2.0"]):
            text = self.ask({"jsonrpc": version, "method": "VM.get_all", "params": [self.session], "id": 7})
            self.assertEqual(text, '{"result":[],"error":null,"id":7}')

    def test_void_is_an_empty_string(self):
        pool = json.loads(self.ask({"method": "pool.get_all", "params": [self.session], "id": 1}))["result"][0]
        text = self.ask({"jsonrpc": "2.0", "method": "pool.set_name_label", "params": [self.session, pool, "x"], "id": 1})
        self.assertEqual(text, '{"jsonrpc":"2.0","result":"","id":1}')

    def test_id_is_echoed(self):
        for number in (0, -1, 2**63 - 1, -2**63, 2**53 + 1):
            text = self.ask({"jsonrpc": "2.0", "method": "VM.get_all", "params": [self.session], "id": number})
            self.assertTrue(text.endswith(f',"id":{number}}}'), text)
        for word in ("", "x", 'quote " and \\', "line\nbreak", "\u2028", "ä" * 100):
            answer = json.loads(self.ask({"method": "VM.get_all", "params": [self.session], "id": word}))
            self.assertEqual(answer["id"], word)

    def test_id_is_compulsory_and_integer_or_string(self):
        for bad in (None, True, 1.5, [], {}, [1]):
            status, _ = POOL.rpc({"jsonrpc": "2.0", "method": "VM.get_all", "params": [self.session], "id": bad})
            self.assertEqual(status, 500, bad)
        status, _ = POOL.rpc({"jsonrpc": "2.0", "method": "VM.get_all", "params": [self.session]})
        self.assertEqual(status, 500)

    def test_params_of_version_2_may_be_absent_null_or_one_object(self):
        for params in ({}, {"params": None}):
            text = self.ask({"jsonrpc": "2.0", "method": "VM.get_all", "id": 1, **params})
            self.assertIn('"message":"MESSAGE_PARAMETER_COUNT_MISMATCH"', text)
        text = self.ask({"jsonrpc": "2.0", "method": "VM.get_all", "id": 1, "params": {"session": self.session}})
        self.assertIn('"message":"SESSION_INVALID"', text)
        for params in ("x", 1, True):
            self.assertEqual(POOL.rpc({"jsonrpc": "2.0", "method": "VM.get_all", "id": 1, "params": params})[0], 500)
        for params in ({}, {"params": None}, {"params": {}}, {"params": "x"}):
            self.assertEqual(POOL.rpc({"method": "VM.get_all", "id": 1, **params})[0], 500)

    def test_batches_are_refused(self):
        call = {"jsonrpc": "2.0", "method": "VM.get_all", "params": [self.session], "id": 1}
        for batch in ([], [call], [call, call]):
            self.assertEqual(POOL.rpc(batch)[0], 500)

    def test_headers(self):
        status, headers, body = POOL.http("POST", "/jsonrpc", json.dumps(
            {"jsonrpc": "2.0", "method": "VM.get_all", "params": [self.session], "id": 1}).encode())
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(headers["Access-Control-Allow-Origin"], "*")
        self.assertEqual(int(headers["Content-Length"]), len(body))

    def test_options(self):
        for path in ("/", "/json", "/jsonrpc"):
            status, headers, _ = POOL.http("OPTIONS", path, headers={"Access-Control-Request-Headers": "content-type"})
            self.assertEqual(status, 200)
            self.assertEqual(headers["Access-Control-Allow-Origin"], "*")
            self.assertEqual(headers["Access-Control-Allow-Headers"], "content-type, X-Requested-With")

    def test_header_injection_through_options(self):
        with POOL.connect() as sock:
            sock.sendall(b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                         b"Access-Control-Request-Headers: a\x0bb\tc\r\n\r\n")
            answer = read_all(sock)
        self.assertNotIn(b"\nb", answer.split(b"\r\n\r\n")[0].replace(b"\r\n", b""))


class BadInput(unittest.TestCase):
    def setUp(self):
        self.api = API

    def tearDown(self):
        # Whatever came before, the server still serves.
        self.assertEqual(API.VM.get_all(), [])

    def test_not_json(self):
        for text in (b"", b"{", b"x", b"null", b"1", b'"x"', b"true", b"{]", b'{"id":1,}', b"{'id':1}", b"\x00",
                     b'{"id":1}{"id":2}', b"nul", b'{"a":tru}', b"[" * 10, b'{"id":01}', b'{"id":1e999}', b"\xef\xbb\xbf{}"):
            status, answer = POOL.rpc(text)
            self.assertEqual(status, 500, text)
            self.assertNotIn("jansson", answer)

    def test_numbers_out_of_range(self):
        for number in (b"99999999999999999999", b"1e400", b"-99999999999999999999"):
            status, _ = POOL.rpc(b'{"method":"VM.get_all","params":[' + number + b'],"id":1}')
            self.assertEqual(status, 500)

    def test_deep_nesting(self):
        for depth in (64, 65, 1000, 140000):
            body = b'{"method":"VM.get_all","params":' + b"[" * depth + b"]" * depth + b',"id":1}'
            self.assertIn(POOL.rpc(body)[0], (200, 500))
            self.assertEqual(POOL.rpc(body)[0] == 500, depth >= 64, depth)
        self.assertEqual(POOL.rpc(b'{"a":' * 50000)[0], 500)
        # Brackets inside strings do not count.
        status, text = POOL.rpc({"method": "VM.get_all", "params": ["[" * 5000], "id": 1})
        self.assertEqual(status, 200, text)

    def test_duplicate_keys(self):
        for body in (b'{"id":1,"id":2,"method":"VM.get_all","params":[]}',
                     b'{"id":1,"method":"VM.get_all","method":"VM.start","params":[]}',
                     b'{"id":1,"method":"VM.get_all","params":[{"a":1,"a":2}]}'):
            self.assertEqual(POOL.rpc(body)[0], 500)

    def test_bad_utf8(self):
        for text in (b"\xff", b"\xc3", b"\xc3\x28", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xa0\x80",
                     b"\xed\xa0\x80\xed\xb0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\x80"):
            status, answer = POOL.rpc(b'{"jsonrpc":"2.0","method":"VM.get_all","params":["' + text + b'"],"id":5}')
            seen = "\ufffd" * len(re.sub(rb"[\x00-\x7f]", b"", text)) + re.sub(rb"[^\x00-\x7f]", b"", text).decode()
            self.assertEqual((status, answer), (200, '{"jsonrpc":"2.0","error":["INVALID_VALUE",'
                                                     f'"Invalid UTF-8 string in parameter","{seen}"],"id":0}}'), text)

    def test_lone_surrogates_and_nul_by_escape(self):
        for escape in (b"\\ud800", b"\\udc00", b"\\ud800x", b"\\udc00\\ud800", b"\\u0000", b"a\\u0000b"):
            status, _ = POOL.rpc(b'{"method":"VM.get_all","params":["' + escape + b'"],"id":1}')
            self.assertEqual(status, 500, escape)

    def test_strings_come_back_as_they_went(self):
        """What the codec takes, it gives back, also after a restart (threat class 4)."""
        texts = ["", " ", "\x01\x02\x1f", "\x7f", "\t\r\n", "\ufffe\uffff", "\U0001f600", "\u2028\u2029", "ä" * 4096,
                 "</script>", "' OR 1=1 --", "%s%n", "\\", '"', "a\\u0000b"]
        vdis = {}
        network = self.api.network.get_all()[0]
        for text in texts:
            self.api.network.set_name_description(network, text)
            self.assertEqual(self.api.network.get_name_description(network), text)
            self.assertEqual(self.api.network.get_record(network)["name_description"], text)
        for number, text in enumerate(texts):
            key = f"{number}{text}"
            self.api.network.add_to_other_config(network, key, text)
            vdis[key] = text
        self.api.network.set_tags(network, texts)
        config = self.api.network.get_other_config(network)
        self.assertEqual({k: v for k, v in config.items() if k in vdis}, vdis)
        self.assertEqual(sorted(self.api.network.get_tags(network)), sorted(texts))
        restart()
        self.api = API
        config = self.api.network.get_other_config(network)
        self.assertEqual({k: v for k, v in config.items() if k in vdis}, vdis)
        self.assertEqual(sorted(self.api.network.get_tags(network)), sorted(texts))
        for key in vdis:
            self.api.network.remove_from_other_config(network, key)
        self.api.network.set_tags(network, [])

    def test_oversized_body_declared(self):
        """Refused by its declared length, or after its bytes when they are few; never kept."""
        for size, sent in ((300 * 1024 + 1, 300 * 1024 + 1), (10**9, 1), (10**15, 1)):
            with POOL.connect() as sock:
                sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b" " * sent)
                self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 413"), size)

    def test_oversized_body_chunked(self):
        with POOL.connect() as sock:
            sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(10):
                sock.sendall(b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n")
            sock.sendall(b"0\r\n\r\n")
            self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 500"))

    def test_endless_body_is_cut(self):
        with POOL.connect() as sock:
            sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            with self.assertRaises(OSError):
                for _ in range(2000):
                    sock.sendall(b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n")

    def test_largest_body_is_served(self):
        text = "x" * (299 * 1024)
        network = self.api.network.get_all()[0]
        self.api.network.set_name_description(network, text)
        self.assertEqual(self.api.network.get_name_description(network), text)
        self.api.network.set_name_description(network, "")

    def test_a_call_needs_its_length(self):
        body = json.dumps({"jsonrpc": "2.0", "method": "VM.get_all", "params": [self.api.session], "id": 1}).encode()
        for path in (b"/jsonrpc", b"/", b"/RPC2", b"/xmlrpc"):
            with POOL.connect() as sock:
                sock.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                             b"%x\r\n%s\r\n0\r\n\r\n" % (path, len(body), body))
                answer = read_all(sock)
            self.assertTrue(answer.startswith(b"HTTP/1.1 500"), answer[:200])
            self.assertNotIn(b"result", answer)

    def test_long_heads(self):
        for head in (b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n"):
            with POOL.connect() as sock:
                try:
                    sock.sendall(head)
                    answer = sock.recv(100)
                except (BrokenPipeError, ConnectionResetError):
                    answer = b""
            self.assertTrue(answer == b"" or answer.split()[1] in (b"414", b"431", b"413", b"400"), answer)

    def test_odd_requests(self):
        for head in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                     b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                     b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
                     b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
                     b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
            with POOL.connect() as sock:
                sock.settimeout(5)
                try:
                    sock.sendall(head)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(4096):
                        pass
                except OSError:
                    pass

    def test_slow_heads_hold_nobody_up(self):
        slow = []
        for _ in range(300):
            sock = POOL.connect()
            sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Le")
            slow.append(sock)
        started = time.monotonic()
        for _ in range(20):
            self.assertEqual(POOL.rpc({"method": "VM.get_all", "params": [self.api.session], "id": 1})[0], 200)
        self.assertLess(time.monotonic() - started, 5)
        for sock in slow:
            sock.close()

    def test_unfinished_bodies_hold_nobody_up(self):
        slow = []
        for _ in range(300):
            sock = POOL.connect()
            sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n{")
            slow.append(sock)
        self.assertEqual(POOL.rpc({"method": "VM.get_all", "params": [self.api.session], "id": 1})[0], 200)
        for sock in slow:
            sock.close()


class Calls(unittest.TestCase):
    """From the name to the arguments: what the gate refuses."""

    def setUp(self):
        self.api = API

    def fails(self, method, *params):
        status, text = POOL.rpc({"jsonrpc": "2.0", "method": method, "params": list(params), "id": 1})
        self.assertEqual(status, 200, text)
        answer = json.loads(text)
        self.assertIn("error", answer, f"{method}{params}: {text[:200]}")
        return [answer["error"]["message"], *answer["error"]["data"]]

    def test_unknown_messages(self):
        for name in ("", "x", "VM", "VM.", ".get_all", "VM.get_al", "VM.get_all ", "vm.get_all", "VM..get_all", "Async.VM",
                     "Async.Async.VM.start", "Async.", "VM.get_all\n", "a" * 100000, "nosuch.get_all", "VM.get_all.x",
                     "InternalAsyncX.VM.start", "Async.VM_start", "InternalAsync.VM"):
            told = re.sub("^(Internal)?Async[.]", "", name)
            self.assertEqual(self.fails(name, self.api.session)[:2], ["MESSAGE_METHOD_UNKNOWN", told])
        self.assertEqual(self.fails("nosuch"), ["MESSAGE_METHOD_UNKNOWN", "nosuch"])
        self.assertEqual(self.fails("nosuch", "x"), ["SESSION_INVALID", "x"])

    def test_method_is_a_string(self):
        for bad in (None, 1, [], {}, True):
            self.assertEqual(POOL.rpc({"method": bad, "params": [], "id": 1})[0], 500)
        self.assertEqual(POOL.rpc({"params": [], "id": 1})[0], 500)

    def test_both_spellings(self):
        self.assertEqual(self.api.call("VM_get_all", self.api.session), [])
        self.assertEqual(self.api.call("VM_metrics.get_all", self.api.session), [])
        self.assertEqual(self.api.call("VM_metrics_get_all", self.api.session), [])

    def test_no_async(self):
        self.assertEqual(self.fails("Async.VM.get_all", self.api.session),
                         ["Fault", "No async mode for this operation (rpc: VM.get_all)"])

    def test_unbuilt_messages_say_so(self):
        cls, message = next((c, m) for c in description().classes.values() for m in c.messages.values()
                            if not is_built(m) and not m.params and "POOL_INTERNAL" not in m.flags and "removed" not in m.lifecycle)
        name = f"{cls.name}.{message.name}"
        self.assertEqual(self.fails(name, self.api.session), ["NOT_IMPLEMENTED", name])

    def test_parameter_counts(self):
        self.assertEqual(self.fails("VM.get_all", self.api.session, 1),
                         ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.get_all", "0", "1"])
        self.assertEqual(self.fails("VM.start", self.api.session), ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.start", "3", "0"])
        self.assertEqual(self.fails("VM.start", self.api.session, 1, 2, 3, 4),
                         ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.start", "3", "4"])
        self.assertEqual(self.fails("session.login_with_password", "root"),
                         ["MESSAGE_PARAMETER_COUNT_MISMATCH", "session.login_with_password", "2", "1"])
        self.assertEqual(self.fails("VM.get_all"), ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.get_all", "0", "-1"])

    def test_more_than_the_optional_parameters(self):
        """Clients of newer versions know more of them."""
        self.assertEqual(self.fails("session.login_with_password", *"abcde")[0], "SESSION_AUTHENTICATION_FAILED")

    def test_session_of_every_kind(self):
        for bad in ("", "x", NULL, "OpaqueRef:00000000-0000-0000-0000-000000000000", "OpaqueRef:",
                    "OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-000000000000", "x" * 100000, self.api.session[:-1],
                    self.api.session + " ", self.api.session.upper()):
            self.assertEqual(self.fails("VM.get_all", bad)[0], "SESSION_INVALID", bad[:60])
        for bad in (None, 1, 1.5, True, [], {}, [self.api.session]):
            self.assertEqual(self.fails("VM.get_all", bad)[0], "SESSION_INVALID")

    def test_refs_of_every_kind(self):
        for bad in (NULL, "", "x", "OpaqueRef:", "OpaqueRef:zz", "OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-000000000000",
                    self.api.session, "\x01", "OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-0000000000000", "x" * 10000):
            for method in ("VM.get_uuid", "VM.get_record", "VM.get_power_state", "host.get_metrics", "VDI.get_SR"):
                answer = self.fails(method, self.api.session, bad)
                self.assertEqual(answer[:2], ["HANDLE_INVALID", method.split(".")[0]], (method, bad))
        pool = self.api.pool.get_all()[0]
        self.assertEqual(self.fails("VM.get_uuid", self.api.session, pool), ["HANDLE_INVALID", "VM", pool])

    def test_uuids_of_every_kind(self):
        for bad in ("", "x", "4e5e3a36-2a2d-4c6a-8b4e-000000000000", NULL, "' or 1=1", "x" * 10000):
            self.assertEqual(self.fails("VM.get_by_uuid", self.api.session, bad), ["UUID_INVALID", "VM", bad])
        self.assertEqual(self.api.VM.get_by_name_label("nothing is called so"), [])

    def test_wrong_types_for_every_parameter(self):
        """INTERNAL_ERROR or HANDLE_INVALID with words, before anything runs; never a crash or a bare 500."""
        pool = self.api.pool.get_all()[0]
        network = self.api.network.get_all()[0]
        good = {
            "pool.set_name_label": [pool, "x"],
            "pool.set_tags": [pool, ["x"]],
            "pool.set_other_config": [pool, {"a": "b"}],
            "pool.add_to_other_config": [pool, "k", "v"],
            "pool.set_default_SR": [pool, NULL],
            "network.set_MTU": [network, 1500],
            "VM.start": [NULL, False, False],
            "VM.set_memory_limits": [NULL, 1, 1, 1, 1],
            "VM.set_blocked_operations": [NULL, {"start": "x"}],
            "VM.get_all_records_where": ["true"],
            "event.from": [["pool"], "", 0.0],
            "task.set_progress": [NULL, 0.5],
            "task.set_status": [NULL, "pending"],
            "message.get": ["VM", "x", "20200101T00:00:00Z"],
            "VM.clone": [NULL, "x"],
            "session.login_with_password": ["root", "x", "1.0", "y"],
        }
        kinds = [None, True, 1, 1.5, "text", [], ["x"], [1], [[]], {}, {"a": 1}, {"a": {}}, [None], [{}], "", -1, 2**62]
        for method, arguments in good.items():
            names = [] if method.startswith("session.") else [self.api.session]
            for place, fine in enumerate(arguments):
                for bad in kinds:
                    if type(bad) is type(fine) and bad not in ([1], [[]], [None], [{}], {"a": 1}, {"a": {}}):
                        continue
                    if method == "session.login_with_password" and isinstance(bad, str):
                        continue
                    if isinstance(fine, float) and isinstance(bad, (int, float)) and not isinstance(bad, bool):
                        continue
                    if fine == [] and bad == [] or fine == {} and bad == {}:
                        continue
                    if isinstance(fine, list) and bad in ([], ["x"]) or isinstance(fine, dict) and bad == {}:
                        continue
                    if method == "network.set_MTU" and place == 1 and isinstance(bad, int) and not isinstance(bad, bool):
                        continue
                    params = list(arguments)
                    params[place] = bad
                    answer = self.fails(method, *names, *params)
                    self.assertIn(answer[0], ("INTERNAL_ERROR", "HANDLE_INVALID"), (method, place, bad, answer))
                    if answer[0] == "INTERNAL_ERROR":
                        self.assertRegex(answer[1], "^Expected ", (method, place, bad))

    def test_enums_ignore_case_and_refuse_others(self):
        self.assertEqual(self.fails("task.set_status", self.api.session, NULL, "PENDING"), ["HANDLE_INVALID", "task", NULL])
        answer = self.fails("task.set_status", self.api.session, NULL, "nonsense")
        self.assertEqual(answer[0], "INTERNAL_ERROR")
        self.assertIn("nonsense", answer[1])

    def test_numbers_may_come_as_text(self):
        """Clients that speak XML-RPC too send decimal text; anything else is no number."""
        task = self.api.task.create("t", "")
        self.api.task.set_progress(task, "0.5")
        self.assertEqual(self.api.task.get_progress(task), 0.5)
        for bad in ("", "x", "1x", " ", "0x10z"):
            self.assertEqual(self.fails("task.set_progress", self.api.session, task, bad)[0], "INTERNAL_ERROR", bad)
        self.api.task.destroy(task)

    def test_constructor_takes_whole_records(self):
        """Members that the class does not have, and those that a constructor ignores, do no harm."""
        network = self.api.network.create({"name_label": "n", "name_description": "", "other_config": {}, "nonsense": [1, {}],
                                           "uuid": "x", "VIFs": ["junk"], "tags": ["a"]})
        record = self.api.network.get_record(network)
        self.assertEqual((record["name_label"], record["VIFs"], record["tags"]), ("n", [], ["a"]))
        self.api.network.destroy(network)

    def test_constructor_names_what_is_missing(self):
        answer = self.fails("VM.create", self.api.session, {"name_label": "x"})
        self.assertEqual(answer[0], "INTERNAL_ERROR")
        self.assertRegex(answer[1], r"VCPUs|memory|actions|user_version|name_description|affinity|PV_")
        for bad in (None, [], "x", 1):
            self.assertEqual(self.fails("VM.create", self.api.session, bad)[0], "INTERNAL_ERROR")


def restart():
    global API
    POOL.restart()
    API = POOL.login()


def read_all(sock):
    data = b""
    while True:
        try:
            more = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
