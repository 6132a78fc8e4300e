import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./bundle.mjs";

const { describedDisks, disksIn } = await load("src/state/provision.ts");
const SR = "0d9a7a4f-1111-2222-3333-444455556666";

test("each disk of the description gets the SR, and keeps the rest", () => {
  for (const [before, after] of [
    [`<provision><disk device="0" size="8589934592" sr="" bootable="true" type="system"/></provision>`,
      `<provision><disk device="0" size="8589934592" bootable="true" type="system" sr="${SR}"/></provision>`],
    [`<provision>\n  <disk device='0' size='1'/>\n  <disk device='1' size='2' sr='old'></disk>\n</provision>`,
      `<provision>\n  <disk device='0' size='1' sr="${SR}"/>\n  <disk device='1' size='2' sr="${SR}"></disk>\n</provision>`],
    [`<?xml version="1.0"?><provision/>`, `<?xml version="1.0"?><provision/>`],
  ]) {
    assert.equal(disksIn(before, SR), after);
  }
});

test("what is not of the form is refused", () => {
  for (const bad of ["disks", "<provision><!-- x --></provision>", `<disk size="1" <b>/>`, "<![CDATA[<disk/>]]>", `<!DOCTYPE x><provision/>`]) {
    assert.throws(() => disksIn(bad, SR), /cannot be read/, bad);
  }
  assert.throws(() => disksIn("<provision/>", `"><disk`), /UUID/);
});

test("the disks of a description are told with their sizes", () => {
  assert.deepEqual(describedDisks(`<provision><disk device="0" size="8589934592" sr="" bootable="true"/><disk device="1" size="5"/></provision>`), [
    { device: "0", size: 8589934592, bootable: true }, { device: "1", size: 5, bootable: false },
  ]);
  assert.deepEqual(describedDisks(undefined), []);
});
