"""REST through a client that npm's openapi-client-axios makes from the published description: rest.mjs calls every
operation with values of every kind. Here is the pool around it, with something of each common class in it."""
import json
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "api"))

from pool import TestPool  # noqa: E402
from test_vm import simulated  # noqa: E402

LIMIT_S = 540


class Rest(unittest.TestCase):
    def test_every_operation(self):
        seed = os.environ.get("CORRAL_SEED", "1")
        with TestPool(hosts=1, host_options=["--sim-boot-ms", "50"]) as pool:
            api = pool.login()
            sr = api.SR.create(api.host.get_all()[0], {"location": os.path.join(pool.folder, "disks")}, 0, "disks", "", "file",
                               "", False, {})
            for number in range(3):
                vm = api.VM.create(simulated(f"vm {number}"))
                vdi = api.VDI.create({"name_label": "disk", "name_description": "", "SR": sr, "virtual_size": "1048576",
                                      "type": "user", "sharable": False, "read_only": False, "other_config": {}})
                api.VBD.create({"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk",
                                "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
                                "qos_algorithm_params": {}})
            env = {**os.environ, "URL": f"http://127.0.0.1:{pool.http_port}", "TOKEN": api.session, "SEED": seed}
            lint = subprocess.run([os.environ.get("NODE", "node"), "lint.mjs"], cwd=HERE, env=env, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, timeout=LIMIT_S, check=False)
            self.assertEqual(json.loads(lint.stdout or "{}").get("errors"), [], f"lint.mjs ended with {lint.returncode}")
            run = subprocess.run([os.environ.get("NODE", "node"), "rest.mjs"], cwd=HERE, env=env, text=True, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, timeout=LIMIT_S, check=False)
            lines = run.stdout.strip().splitlines()
            self.assertTrue(lines, f"rest.mjs ended with {run.returncode} and said nothing (CORRAL_SEED={seed})")
            told = json.loads(lines[-1])
            self.assertEqual(told["failures"], [], f"CORRAL_SEED={seed}, {told['failed']} failed:\n" + "\n".join(told["failures"]) + str(pool.poold.complaints()))
            self.assertGreater(told["operations"], 300)
            self.assertGreaterEqual(told["calls"], 2 * told["operations"])
            print(f"{told['calls']} calls of {told['operations']} operations, CORRAL_SEED={seed}", file=sys.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
