"""The published description of REST is up to date, and a change that would break its clients is noticed."""
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "gen"))

import rest  # noqa: E402
from description import Description  # noqa: E402


class Published(unittest.TestCase):
    def test_up_to_date(self):
        document, contract = rest.texts(ROOT)
        for name, text in (("openapi.json", document), ("contract.txt", contract)):
            self.assertEqual((ROOT / name).read_text(), text, f"{name} is stale: run openapi/gen/rest.py openapi")

    def test_every_operation_has_a_name_of_its_own(self):
        document = rest.Writer(Description(ROOT)).document()
        names = [op["operationId"] for methods in document["paths"].values() for op in methods.values()]
        self.assertEqual(len(names), len(set(names)))


class Contract(unittest.TestCase):
    OLD = "version 1.4\nGET /a\nGET /b\n"

    def test_additions_are_welcome(self):
        self.assertEqual(rest.broken(self.OLD, "version 1.5\nGET /a\nGET /b\nGET /c\n"), [])

    def test_losses_are_named(self):
        self.assertEqual(rest.broken(self.OLD, "version 1.5\nGET /a\n"), ["GET /b"])

    def test_a_new_version_may_break(self):
        self.assertEqual(rest.broken(self.OLD, "version 2.0\nGET /a\n"), [])

    def test_what_would_break_a_client_is_in_it(self):
        document = rest.Writer(Description(ROOT)).document()
        before = rest.contract(document)
        path = "/api/v1/vms/{uuid}/actions/clone"
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for change, line in (
            (lambda: body["properties"].pop("new_name"), f"POST {path} takes new_name: string"),
            (lambda: document["components"]["schemas"]["VM"]["properties"].pop("tags"), "VM shows tags: [string]"),
            (lambda: document["components"]["schemas"]["enum_vm_power_state"]["enum"].remove("Paused"),
             "enum_vm_power_state knows Paused"),
            (lambda: document["paths"].pop(path), f"POST {path}"),
        ):  # fmt: skip
            change()
            self.assertIn(line, set(before) - set(rest.contract(document)))
        start = document["paths"]["/api/v1/vms/{uuid}/actions/start"]["post"]
        start["requestBody"]["content"]["application/json"]["schema"]["required"] = ["force"]
        self.assertIn("POST /api/v1/vms/{uuid}/actions/start can do without force", set(before) - set(rest.contract(document)))


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
