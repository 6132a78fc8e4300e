"""SIGTERM at bad moments: poold ends with code 0, soon, and without a leak or a use of what is gone."""
import http.client
import json
import sys
import threading
import time
import unittest

from pool import Failure, TestPool, until

GONE = (OSError, http.client.HTTPException, Failure, ValueError)


class Busy:
    """Threads that call until the server is gone."""

    def __init__(self):
        self.threads = []
        self.stop = False

    def add(self, work):
        def run():
            while not self.stop:
                try:
                    work()
                except GONE:
                    return
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)

    def join(self):
        self.stop = True
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


class Stop(unittest.TestCase):
    def ended(self, pool, limit_s=15):
        started = time.monotonic()
        pool.poold.stop(limit_s)
        self.assertEqual(pool.poold.complaints(), [])
        return time.monotonic() - started

    def test_idle(self):
        with TestPool() as pool:
            pool.login()
            self.assertLess(self.ended(pool), 5)

    def test_while_wrong_passwords_wait(self):
        """Answers that are held back, and attempts that wait for their turn."""
        with TestPool() as pool:
            busy = Busy()
            for _ in range(12):
                busy.add(lambda: pool.client().login("root", "wrong"))
            until("a refusal", lambda: "wrong user or password" in pool.poold.log())
            self.assertLess(self.ended(pool), 10)
            busy.join()

    def test_while_subscribers_wait(self):
        with TestPool() as pool:
            api = pool.login()
            busy = Busy()
            for _ in range(50):
                client = pool.again(api)
                busy.add(lambda c=client: c.call("event.from", c.session, ["VM"], "", 600.0))
            until("no more answers", lambda: pool.poold.log().count("dispatch") >= 0)
            self.assertLess(self.ended(pool), 5)
            busy.join()

    def test_under_load(self):
        """Readers, writers, subscribers, logins and sessions that end, on connections that stay open."""
        with TestPool() as pool:
            api = pool.login()
            network = api.network.get_all()[0]
            busy = Busy()

            def loop(client, *work):
                busy.add(lambda: [w(client) for w in work])
            for i in range(4):
                loop(pool.again(api), lambda c: c.network.get_all_records())
                loop(pool.again(api), lambda c, i=i: c.network.set_name_description(network, f"{i} {time.monotonic()}"))
                loop(pool.again(api), lambda c: c.call("event.from", c.session, ["network"],
                                                       c.call("event.from", c.session, ["network"], "", 0.0)["token"], 5.0))
                loop(pool.again(api), lambda c: c.call("Async.network.destroy", c.session, network))
            busy.add(lambda: pool.login().logout())
            until("load", lambda: len(api.task.get_all()) > 20)
            self.assertLess(self.ended(pool), 15)
            busy.join()

    def test_again_and_again_under_load(self):
        """The moments between the steps of stopping."""
        with TestPool() as pool:
            for _ in range(4):
                api = pool.login()
                busy = Busy()
                for _ in range(3):
                    client = pool.again(api)
                    busy.add(lambda c=client: c.call("event.from", c.session, ["task"], "", 0.001))
                    client = pool.again(api)
                    busy.add(lambda c=client: c.task.destroy(c.task.create("x", "y")))
                time.sleep(0.3)
                pool.restart()
                busy.join()

    def test_with_hosts(self):
        with TestPool(hosts=2) as pool:
            busy = Busy()
            api = pool.login()
            host = api.host.get_all()[0]
            for _ in range(3):
                client = pool.again(api)
                busy.add(lambda c=client: c.SR.probe(host, {"location": "/"}, "file", {}) if False else
                         c.SR.create(host, {"location": "/nonexistent-corral"}, 0, "x", "", "file", "", False, {}))
                busy.add(lambda: pool.http("POST", "/api/v1/join-tokens", b"", pool.basic()))
            time.sleep(1)
            self.assertLess(self.ended(pool), 20)
            busy.join()


def post(pool, body):
    return pool.rpc(json.dumps(body))


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
