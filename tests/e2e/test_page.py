#!/usr/bin/env python3
"""The web page of a whole pool, driven in a browser as a person would: from the log-in to a guest
on its consoles and back. The steps are in web/tests/e2e/page.mjs; pictures of them are kept in
the build folder, under e2e-page/."""
import os
import subprocess
import unittest

from installation import BUILD, ROOT, Installation


class PageTest(unittest.TestCase):
    def test_page_installs_starts_shows_and_removes_a_guest(self):
        site = Installation()
        self.addCleanup(site.close)
        run = subprocess.run(
            ["node", os.path.join(ROOT, "web", "tests", "e2e", "page.mjs"), "--url", f"https://127.0.0.1:{site.port}",
             "--password-file", os.path.join(site.state, "admin-password"),
             "--ca", os.path.join(site.state, "pki", "ca.pem"), "--output", os.path.join(BUILD, "e2e-page")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200,
            check=False)
        self.assertEqual(run.returncode, 0, run.stdout + site.log_ends())


if __name__ == "__main__":
    unittest.main(verbosity=2)
