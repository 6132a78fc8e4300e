import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./bundle.mjs";

const { readUpdates, readArchives, joined } = await load("src/api/measurements.ts");
const { timeTicks, valueText, valueTicks } = await load("src/ui/scale.ts");

const vm = { kind: "vm", uuid: "u1", live: true };
const updates = (end, rows, legend = ["AVERAGE:vm:u1:cpu0", "AVERAGE:vm:u2:cpu0"]) => ({
  meta: { start: "0", step: "5", end: String(end), rows: String(rows.length), columns: "2", legend },
  data: rows.map((value, i) => ({ t: String(end - 5 * i), values: [value, "9"] })),
});
const values = (measured) => [...measured.sources.get("cpu0")];

test("rows come newest first and are kept oldest first; what is missing or no number is unknown", () => {
  const measured = readUpdates(updates(100, ["0.5", "NaN", "0.25"]), vm, 4);
  assert.deepEqual([measured.step, measured.end, [...measured.sources.keys()]], [5, 100, ["cpu0"]]);
  assert.deepEqual(values(measured), [NaN, 0.25, NaN, 0.5]);
  assert.equal(readUpdates(updates(100, ["1"], ["AVERAGE:vm:u2:cpu0"]), vm, 4), null);
  assert.deepEqual(values(readUpdates(updates(100, ["Infinity", "1"]), vm, 2)), [1, NaN]);
});

test("new rows push the old ones out, and a known value is never replaced by an unknown one", () => {
  const old = readUpdates(updates(100, ["4", "3", "2", "1"]), vm, 4);
  assert.deepEqual(values(joined(old, readUpdates(updates(110, ["6", "5"]), vm, 4))), [3, 4, 5, 6]);
  assert.deepEqual(values(joined(old, readUpdates(updates(105, ["5", "NaN"]), vm, 4))), [2, 3, 4, 5]);
  assert.deepEqual(values(joined(old, readUpdates(updates(200, ["9"]), vm, 4))), [NaN, NaN, NaN, 9]);
});

test("of all archives the one with the wanted step is read", () => {
  const dump = {
    lastupdate: "7205.2", ds: [{ name: "cpu0" }, { name: "memory" }],
    rra: [
      { cf: "AVERAGE", pdp_per_row: "1", database: [["0", "0"]] }, { cf: "MIN", pdp_per_row: "12", database: [["0", "0"]] },
      { cf: "AVERAGE", pdp_per_row: "12", database: [["0.1", "1"], ["NaN", "2"], ["0.3", "3"]] },
    ],
  };
  const measured = readArchives(dump, 60, 2);
  assert.deepEqual([measured.end, values(measured), [...measured.sources.get("memory")]], [7200, [NaN, 0.3], [2, 3]]);
  assert.equal(readArchives(dump, 3600, 2), null);
});

test("the value axis ends at or above the largest value, in round steps", () => {
  assert.deepEqual(valueTicks("share", 0.1), [0, 0.25, 0.5, 0.75, 1]);
  for (const largest of [0, 1, 3, 1000, 4096, 5000, 16 * 2 ** 30]) {
    const ticks = valueTicks("bytes", largest);
    assert.ok(ticks.at(-1) >= largest && ticks.length >= 2 && ticks.length <= 6, `${largest}: ${ticks}`);
  }
  for (const [unit, value, text] of [["share", 0, "0 %"], ["share", 0.034, "3.4 %"], ["share", 0.5, "50 %"], ["bytes", 2048, "2 KiB"], ["bytes/s", 0.4, "0 B/s"], ["bytes", NaN, "–"]]) {
    assert.equal(valueText(unit, value), text);
  }
});

test("marks of time are round by the clock of who looks, few, and within the graph", () => {
  for (const [seconds, most] of [[600, 3], [600, 12], [7200, 6], [7 * 86400, 8], [366 * 86400, 4], [366 * 86400, 12]]) {
    const from = Date.UTC(2026, 2, 27, 13, 7, 42) / 1000;
    const ticks = timeTicks(from, from + seconds, most);
    assert.ok(ticks.length >= 2 && ticks.length <= most + 1, `${seconds}: ${ticks.length}`);
    assert.ok(ticks.every((t, i) => t >= from && t <= from + seconds && new Date(t * 1000).getSeconds() === 0 && (i === 0 || t > ticks[i - 1])));
  }
});
