"""The npm client xen-api drives a pool, over each of its transports, by TLS that it checks. What it does is
in xen-api.mjs; here is the pool around it."""
import json
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "api"))

from pool import Failure, TestPool, until  # noqa: E402
from test_vm import simulated  # noqa: E402

LIMIT_S = 300


class XenApi(unittest.TestCase):
    def drive(self, transport):
        with TestPool(hosts=1, host_options=["--sim-boot-ms", "50"]) as pool:
            api = pool.login()
            api.SR.create(api.host.get_all()[0], {"location": os.path.join(pool.folder, "disks")}, 0, "disks", "", "file", "",
                          False, {})
            env = {**os.environ, "URL": f"https://localhost:{pool.port}", "PASSWORD": pool.password, "TRANSPORT": transport,
                   "NODE_EXTRA_CA_CERTS": pool.ca, "VM_RECORD": json.dumps(simulated("made by xen-api"))}
            with subprocess.Popen([os.environ.get("NODE", "node"), "xen-api.mjs"], cwd=HERE, env=env, text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                try:
                    self.serve(pool, process)
                    self.assertEqual(process.wait(LIMIT_S), 0)
                finally:
                    process.kill()

    def serve(self, pool, process):
        """Does what the client's side asks for, until it ends."""
        for line in process.stdout:
            line = line.rstrip("\n")
            if not line.startswith(">"):
                print(line, file=sys.stderr)
                continue
            process.stdin.write(self.answer(pool, line[1:]) + "\n")
            process.stdin.flush()

    def answer(self, pool, question):
        if question == "restart":
            port = pool.port
            pool.restart_on(port)
            return "done"
        if question == "another client's change":
            api = pool.login()
            api.network.set_name_label(api.network.get_by_name_label("before")[0], "renamed")
            return "done"
        word, _, session = question.partition(" ")
        self.assertEqual(word, "gone")
        client = pool.client()
        client.session = session

        def refused():
            try:
                client.pool.get_all()
            except Failure as failure:
                return failure.code == "SESSION_INVALID"
            return False
        until("end of the session", refused)
        return "yes"

    def test_json_rpc(self):
        self.drive("json-rpc")

    def test_xml_rpc(self):
        self.drive("xml-rpc")


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
