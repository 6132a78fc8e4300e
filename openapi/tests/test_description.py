"""The generator refuses a wrong description, with words that say where, and accepts the real one."""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "gen"))

import errors as errors_writer  # noqa: E402
import handlers as handlers_writer  # noqa: E402
import methods as methods_writer  # noqa: E402
import rows as rows_writer  # noqa: E402
from description import Description, DescriptionError  # noqa: E402

MODEL = """
schema_version = 1
api_version = [2, 21]
roles = ["pool-admin", "pool-operator", "vm-power-admin", "vm-admin", "vm-operator", "read-only"]
classes = ["Cow", "Herd"]
"""
ENUMS = 'cow_operations = ["graze", "milk"]\n'
TIERS = '[tier1]\nCow = ["milk"]\n[tier2]\nHerd = ["get_all"]\n'
REST = 'version = "1.0"\n[status]\nCOW_ASLEEP = 409\n'
ERRORS = 'COW_ASLEEP = { params = ["cow"], doc = "The cow is asleep; wait until it wakes." }\n'
HTTP = '[get_milk]\nmethod = "GET"\nuri = "/milk"\nrole = "vm-admin"\ndoc = "Carries milk away."\n'
COW = """
name = "Cow"
doc = "An animal that gives milk."
lifecycle = { published = "rio" }
database = true
persist = true
events = true
get_all = true
constructor_role = "vm-admin"
constructor = "generic"

[fields]
uuid = { type = "string", mode = "DynamicRO", doc = "Tells it apart." }
name_label = { type = "string", mode = "RW", role = "vm-admin", db = "name__label", doc = "Name on the bell." }
allowed_operations = { type = "enum cow_operations set", mode = "DynamicRO", runtime = true, doc = "What it may do now." }
herd = { type = "Herd ref", mode = "StaticRO", inverse = "cows", doc = "Herd it belongs to." }

[messages.milk]
doc = "Takes milk from the cow."
role = "vm-operator"
params = ["cow: Cow ref", "litres: int = 3"]
errors = ["COW_ASLEEP"]
async = true
handler = true
operation = "cow: milk"
"""
HERD = """
name = "Herd"
doc = "Cows that graze together."
lifecycle = { published = "rio" }
database = true
persist = true
events = true
get_all = true

[fields]
uuid = { type = "string", mode = "DynamicRO", doc = "Tells it apart." }
cows = { type = "Cow ref set", mode = "DynamicRO", inverse = "herd", doc = "Cows in the herd." }
"""


class Fixture(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)
        (self.dir / "classes").mkdir()
        self.write("model.toml", MODEL)
        self.write("enums.toml", ENUMS)
        self.write("errors.toml", ERRORS)
        self.write("alerts.toml", "COW_LOST = 3\n")
        self.write("tiers.toml", TIERS)
        self.write("http.toml", HTTP)
        self.write("rest.toml", REST)
        self.write("classes/Cow.toml", COW)
        self.write("classes/Herd.toml", HERD)

    def write(self, name, text):
        (self.dir / name).write_text(text)

    def load(self):
        return Description(self.dir)

    def refused(self, name, text, old, new, words):
        """The file with `old` replaced by `new` is refused with all of `words` in the message."""
        self.assertIn(old, text)
        self.write(name, text.replace(old, new, 1))
        with self.assertRaises(DescriptionError) as caught:
            self.load()
        for word in words:
            self.assertIn(word, str(caught.exception))


class Accepts(Fixture):
    def test_a_small_model(self):
        d = self.load()
        cow = d.classes["Cow"]
        self.assertTrue(d.classes["Herd"].fields["cows"].derived)
        self.assertIn("get_all_records_where", cow.messages)
        self.assertEqual(cow.messages["milk"].operation, (0, "cow_operations", "milk"))
        self.assertEqual(cow.messages["set_name_label"].role, "vm-admin")
        self.assertNotIn("set_uuid", cow.messages)

    def test_tiers(self):
        tiers = self.load().tiers
        self.assertEqual((tiers["Cow", "milk"], tiers["Herd", "get_all"], tiers["Cow", "get_all"]), (1, 2, 3))

    def test_what_is_written(self):
        d = self.load()
        self.assertIn("struct cow_row {", rows_writer.header(d))
        self.assertIn(".inverse = &model_fields_herd[1]", rows_writer.source(d))
        self.assertIn("struct Cow_milk_args".replace("Cow", "cow"), methods_writer.header(d))
        self.assertIn("err_cow_asleep(struct api_err *err, const char *cow)", errors_writer.header(d))
        self.assertIn("int handle_cow_milk(struct call *call, const struct cow_milk_args *args, struct api_err *err);",
                      handlers_writer.header(d))  # fmt: skip

    def test_the_real_description(self):
        d = Description(ROOT)
        self.assertGreater(sum(len(c.messages) for c in d.classes.values()), 2200)


class Refuses(Fixture):
    def test_unknown_type(self):
        self.refused("classes/Cow.toml", COW, '"litres: int', '"litres: integer', ["Cow.toml", "milk", "integer"])

    def test_tiers_of_nothing(self):
        self.refused("tiers.toml", TIERS, '"milk"', '"shear"', ["tiers.toml", "Cow.shear", "does not exist"])
        self.refused("tiers.toml", TIERS, '"milk"', '"milk", "milk"', ["Cow.milk", "twice"])
        self.refused("tiers.toml", TIERS, "tier1", "tier0", ["tier0"])

    def test_unknown_class_in_a_type(self):
        self.refused("classes/Cow.toml", COW, '"Herd ref"', '"Flock ref"', ["Cow.toml", "herd", "Flock"])

    def test_unknown_enum(self):
        self.refused("classes/Cow.toml", COW, "enum cow_operations set", "enum moo set", ["Cow.toml", "moo"])

    def test_http_action_without_a_verdict(self):
        self.refused("http.toml", HTTP, 'role = "vm-admin"\n', "", ["http.toml", "get_milk", "role", "open"])
        self.refused("http.toml", HTTP, "vm-admin", "vm-owner", ["http.toml", "get_milk", "vm-owner"])

    def test_rest_status(self):
        self.refused("rest.toml", REST, "COW_ASLEEP", "COW_AWAKE", ["rest.toml", "COW_AWAKE"])
        self.refused("rest.toml", REST, "409", "200", ["rest.toml", "COW_ASLEEP", "400 to 599"])

    def test_undeclared_error(self):
        self.refused("classes/Cow.toml", COW, '"COW_ASLEEP"', '"COW_AWAKE"', ["milk", "COW_AWAKE", "errors.toml"])

    def test_missing_role_of_a_message(self):
        self.refused("classes/Cow.toml", COW, 'role = "vm-operator"\n', "", ["milk", "no role"])

    def test_missing_role_of_a_setter(self):
        self.refused("classes/Cow.toml", COW, 'role = "vm-admin", db', "db", ["name_label", "no role"])

    def test_unknown_role(self):
        self.refused("classes/Cow.toml", COW, '"vm-operator"', '"farmer"', ["milk", "farmer"])

    def test_duplicate_field(self):
        twice = 'uuid = { type = "string", mode = "DynamicRO", doc = "Tells it apart." }\n'
        self.refused("classes/Cow.toml", COW, twice, twice + twice, ["Cow.toml", "line 14"])

    def test_message_with_the_name_of_a_generated_one(self):
        self.refused("classes/Cow.toml", COW, "[messages.milk]", "[messages.set_name_label]", ["set_name_label"])

    def test_replacing_what_is_not_generated(self):
        self.refused("classes/Cow.toml", COW, "async = true", "async = true\nreplaces = true", ["milk", "replaces"])

    def test_duplicate_parameter(self):
        self.refused("classes/Cow.toml", COW, "litres: int = 3", "cow: int = 3", ["milk", "one name"])

    def test_duplicate_class(self):
        self.refused("model.toml", MODEL, '"Cow", "Herd"', '"Cow", "Herd", "Cow"', ["model.toml", "Cow"])

    def test_class_without_a_file(self):
        self.refused("model.toml", MODEL, '"Cow", "Herd"', '"Cow", "Herd", "Sheep"', ["Sheep"])

    def test_duplicate_enum_value(self):
        self.refused("enums.toml", ENUMS, '"milk"', '"milk", "Milk"', ["cow_operations"])

    def test_one_sided_relation(self):
        self.refused("classes/Herd.toml", HERD, ', inverse = "herd"', "", ["herd", "inverse"])

    def test_optional_before_required(self):
        self.refused("classes/Cow.toml", COW, '"litres: int = 3"', '"litres: int = 3", "x: int"', ["trailing"])

    def test_default_of_another_type(self):
        self.refused("classes/Cow.toml", COW, "int = 3", "int = true", ["milk", "default"])

    def test_unknown_key(self):
        self.refused("classes/Cow.toml", COW, "async = true", "asynk = true", ["milk", "asynk"])

    def test_rehearsing_what_has_no_handler(self):
        key = "get_all = true\n"
        self.refused("classes/Cow.toml", COW, key, key + 'rehearsed = ["shear"]\n', ["rehearsed", "shear"])
        self.refused("classes/Cow.toml", COW, key, key + 'rehearsed = ["create"]\n', ["rehearsed", "create"])
        self.refused("classes/Cow.toml", COW, key, key + 'rehearsed = ["milk", "milk"]\n', ["milk", "twice"])

    def test_operation_that_the_object_lacks(self):
        self.refused("classes/Cow.toml", COW, '"cow: milk"', '"cow: shear"', ["shear", "cow_operations"])

    def test_generic_message_that_changes_no_field(self):
        self.refused("classes/Cow.toml", COW, "handler = true", "generic = true", ["milk", "generic"])

    def test_class_without_a_doc(self):
        self.refused("classes/Cow.toml", COW, 'doc = "An animal that gives milk."\n', "", ["Cow.toml: no doc"])

    def test_field_without_a_doc(self):
        self.refused("classes/Cow.toml", COW, ', doc = "Name on the bell."', "", ["Cow.toml", "name_label", "no doc"])

    def test_message_without_a_doc(self):
        self.refused("classes/Cow.toml", COW, 'doc = "Takes milk from the cow."\n', "", ["milk", "no doc"])

    def test_error_without_a_doc(self):
        doc = ', doc = "The cow is asleep; wait until it wakes."'
        self.refused("errors.toml", ERRORS, doc, "", ["COW_ASLEEP", "no doc"])

    def test_empty_doc(self):
        self.refused("classes/Cow.toml", COW, '"Name on the bell."', '" "', ["name_label", "no doc"])

    def test_error_code_in_small_letters(self):
        self.write("rest.toml", REST.replace("COW_ASLEEP = 409\n", ""))
        self.refused("errors.toml", ERRORS, "COW_ASLEEP", "cow_asleep", ["cow_asleep"])


if __name__ == "__main__":
    unittest.main()
