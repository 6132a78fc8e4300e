"""Logging in and out, the brake on guessing, idle sessions."""
import json
import os
import sys
import threading
import time
import unittest

from pool import Failure, TestPool, module_pool, until

POOL = API = None


def setUpModule():
    global POOL, API
    POOL = module_pool()
    API = POOL.login()


def login(pool, user, password, source=None, timeout_s=120):
    """(seconds, answer)"""
    started = time.monotonic()
    _, text = pool.rpc({"jsonrpc": "2.0", "method": "session.login_with_password", "params": [user, password], "id": 1},
                       timeout_s, source)
    return time.monotonic() - started, json.loads(text)


class Login(unittest.TestCase):
    def test_two_to_four_parameters(self):
        for more in ([], ["1.0"], ["1.0", "me"]):
            session = API.call("session.login_with_password", "root", POOL.password, *more)
            record = API.call("session.get_record", session, session)
            self.assertEqual(record["originator"], more[1] if len(more) == 2 else "")
            self.assertEqual((record["auth_user_name"], record["is_local_superuser"], record["pool"]), ("root", True, False))
            API.call("session.logout", session)

    def test_sessions_differ_and_cannot_be_guessed(self):
        refs = {API.call("session.login_with_password", "root", POOL.password) for _ in range(5)}
        self.assertEqual(len(refs), 5)
        for ref in refs:
            self.assertRegex(ref, r"^OpaqueRef:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")

    def test_record_has_no_secret(self):
        text = json.dumps(API.call("session.get_record", API.session, API.session))
        self.assertNotIn(POOL.password, text)
        self.assertNotIn("scrypt", text)

    def test_logout_ends_the_session(self):
        api = POOL.login()
        gone = api.session
        api.logout()
        for method, *params in (("VM.get_all",), ("session.logout",), ("event.from", ["*"], "", 0.0), ("session.get_uuid", gone)):
            with self.assertRaises(Failure) as caught:
                API.call(method, gone, *params)
            self.assertEqual((caught.exception.code, caught.exception.params), ("SESSION_INVALID", [gone]))
        with self.assertRaises(Failure) as caught:
            API.call("session.get_record", API.session, gone)
        self.assertEqual(caught.exception.code, "HANDLE_INVALID")

    def test_session_probe_of_clients(self):
        self.assertEqual(API.call("session.get_all_subject_identifiers", API.session), [])

    def test_at_most_500_of_one_originator(self):
        """The one idle longest goes."""
        first = API.call("session.login_with_password", "root", POOL.password, "1.0", "crowd")
        others = [API.call("session.login_with_password", "root", POOL.password, "1.0", "crowd") for _ in range(500)]
        with self.assertRaises(Failure) as caught:
            API.call("VM.get_all", first)
        self.assertEqual(caught.exception.code, "SESSION_INVALID")
        for session in others:
            API.call("session.logout", session)
        API.VM.get_all()


class Files(unittest.TestCase):
    def test_password_file(self):
        mode = os.stat(os.path.join(POOL.state, "admin-password")).st_mode & 0o7777
        self.assertEqual(oct(mode), "0o600")
        self.assertGreaterEqual(len(POOL.password), 16)

    def test_nothing_is_open_to_others(self):
        for folder, folders, files in os.walk(POOL.state):
            for name in folders + files:
                path = os.path.join(folder, name)
                mode = os.lstat(path).st_mode & 0o777
                if name in ("poold.port", "poold.http") or name.endswith(".pem"):
                    self.assertEqual(mode & 0o022, 0, path)
                else:
                    self.assertEqual(mode & 0o077, 0, f"{path} {mode:o}")
        self.assertEqual(os.stat(POOL.state).st_mode & 0o777, 0o700)


class Guessing(unittest.TestCase):
    """Each test takes a source address of its own, so that they do not brake each other."""

    def refused(self, answer, user="root"):
        self.assertEqual(answer["error"]["message"], "SESSION_AUTHENTICATION_FAILED", answer)
        self.assertEqual(answer["error"]["data"][0], user)
        self.assertNotIn(POOL.password, json.dumps(answer))

    def test_a_wrong_password_is_answered_late(self):
        took, answer = login(POOL, "root", "wrong", "127.0.0.10")
        self.refused(answer)
        self.assertGreaterEqual(took, 4.5)

    def test_unknown_users_look_the_same(self):
        took, answer = login(POOL, "nobody", POOL.password, "127.0.0.11")
        self.refused(answer, "nobody")
        self.assertGreaterEqual(took, 4.5)

    def test_empty_and_odd_passwords(self):
        odd = ["", " ", POOL.password + " ", POOL.password[:-1], POOL.password.swapcase(), "x" * 100000, "\n"]
        results = []
        threads = [threading.Thread(target=lambda p=p, i=i: results.append(login(POOL, "root", p, f"127.0.1.{i}")[1]))
                   for i, p in enumerate(odd, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(results), len(odd))
        for answer in results:
            self.refused(answer)
        took, answer = login(POOL, "", "", "127.0.1.100")
        self.refused(answer, "")

    def test_guessing_brakes_only_the_guesser(self):
        """While one source guesses with all its might, another one and the same one's other calls are served."""
        stop = threading.Event()

        def guess():
            while not stop.is_set():
                try:
                    login(POOL, "root", "wrong", "127.0.0.12", 5)
                except OSError:
                    pass
        threads = [threading.Thread(target=guess) for _ in range(12)]
        for thread in threads:
            thread.start()
        try:
            until("first refusals", lambda: POOL.poold.log().count("from=127.0.0.12") > 3)
            took, answer = login(POOL, "root", POOL.password, "127.0.0.13")
            self.assertIn("result", answer)
            self.assertLess(took, 4)
            started = time.monotonic()
            status, text = POOL.rpc({"method": "VM.get_all", "params": [answer["result"]], "id": 1}, source="127.0.0.12")
            self.assertEqual((status, json.loads(text)["error"]), (200, None))
            self.assertLess(time.monotonic() - started, 2)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_later_guesses_are_not_looked_at_at_once(self):
        source = "127.0.0.14"

        def guess():
            try:
                login(POOL, "root", "wrong", source, 12)
            except OSError:
                pass  # its answer is held back for longer

        def looks():
            return sum("wrong user or password" in line and line.endswith(f"from={source}")
                       for line in POOL.poold.log().splitlines())
        threads = [threading.Thread(target=guess) for _ in range(6)]
        for thread in threads:
            thread.start()
        until("looks at the first ones", lambda: looks() >= 6)
        late = [threading.Thread(target=guess) for _ in range(6)]
        for thread in late:
            thread.start()
        for thread in threads + late:
            thread.join()
        self.assertEqual(looks(), 6)

    def test_basic_authentication_is_braked_too(self):
        source = "127.0.0.15"
        started = time.monotonic()
        statuses = []
        for _ in range(6):
            status, _, body = POOL.http("POST", "/api/v1/join-tokens", b"", POOL.basic(password="wrong"), 60, source)
            statuses.append(status)
            self.assertNotIn(POOL.password.encode(), body)
        looks = sum("wrong user or password" in line and line.endswith(f"from={source}")
                    for line in POOL.poold.log().splitlines())
        took = time.monotonic() - started
        self.assertLessEqual(looks, 1 + took / 5 + 1, f"{looks} guesses were looked at within {took:.1f} s")
        self.assertTrue(all(s in (401, 429, 503) for s in statuses), statuses)
        status, _, _ = POOL.http("POST", "/api/v1/join-tokens", b"", POOL.basic(), 60, "127.0.0.16")
        self.assertEqual(status, 201)

    def test_a_right_password_lifts_the_brake(self):
        source = "127.0.0.17"
        login(POOL, "root", "wrong", source)
        self.assertIn("result", login(POOL, "root", POOL.password, source)[1])
        took, answer = login(POOL, "root", POOL.password, source)
        self.assertIn("result", answer)
        self.assertLess(took, 4)


class Password(unittest.TestCase):
    def test_change(self):
        with TestPool() as pool:
            api = pool.login()
            old = pool.password
            for wrong_old, new, code in (("wrong", "new", "SESSION_AUTHENTICATION_FAILED"), (old, "", "CHANGE_PASSWORD_REJECTED")):
                with self.assertRaises(Failure) as caught:
                    api.call("session.change_password", api.session, wrong_old, new)
                self.assertEqual(caught.exception.code, code)
            api.call("session.change_password", api.session, old, "a new pass-word: ü")
            self.assertFalse(os.path.exists(os.path.join(pool.state, "admin-password")))
            pool.restart()
            self.assertIn("result", login(pool, "root", "a new pass-word: ü")[1])
            self.assertEqual(login(pool, "root", old, "127.0.0.2")[1]["error"]["message"], "SESSION_AUTHENTICATION_FAILED")
            log = pool.poold.log()
            self.assertNotIn("a new pass-word", log)
            self.assertNotIn(old, log)


class Idle(unittest.TestCase):
    def test_idle_sessions_end(self):
        with TestPool(options=["--session-idle", "2"]) as pool:
            api, busy = pool.login(), pool.login()
            waiting = pool.again(api)
            codes = []

            def wait():
                try:
                    waiting.call("event.from", waiting.session, ["VM"], "0" * 20 + "," + "0" * 20, 60.0)
                    waiting.call("event.from", waiting.session, ["VM"], "", 60.0)
                except Failure as failure:
                    codes.append(failure.code)
            thread = threading.Thread(target=wait)
            thread.start()
            end = time.monotonic() + 5
            while time.monotonic() < end:
                busy.VM.get_all()
                time.sleep(0.2)
            with self.assertRaises(Failure) as caught:
                api.VM.get_all()
            self.assertEqual(caught.exception.code, "SESSION_INVALID")
            busy.VM.get_all()
            thread.join(10)
            self.assertFalse(thread.is_alive())


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
