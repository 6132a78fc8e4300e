import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./bundle.mjs";

const { ago, bytes, collator, duration, parseTime, percent } = await load("src/ui/format.ts");

test("sizes are shown in the largest unit that keeps them above one", () => {
  for (const [n, text] of [
    [0, "0 B"], [1, "1 B"], [1023, "1023 B"], [1024, "1 KiB"], [1536, "1.5 KiB"], [128 * 2 ** 20, "128 MiB"],
    [8589934592, "8 GiB"], [8.25 * 2 ** 30, "8.25 GiB"], [931.5 * 2 ** 30, "932 GiB"], [2 ** 50, "1 PiB"],
    [-1, "–"], [NaN, "–"], [undefined, "–"],
  ]) {
    assert.equal(bytes(n), text, String(n));
  }
});

test("both forms of datetime are read, and never is null", () => {
  const moment = Date.UTC(2025, 2, 19, 4, 16, 24);
  assert.equal(parseTime("20250319T04:16:24Z").getTime(), moment);
  assert.equal(parseTime("2025-03-19T04:16:24Z").getTime(), moment);
  for (const never of ["19700101T00:00:00Z", "1970-01-01T00:00:00Z", "", undefined, "soon"]) {
    assert.equal(parseTime(never), null, String(never));
  }
});

test("durations have two units at most", () => {
  for (const [s, text] of [[0, "0 s"], [59, "59 s"], [95, "1 min 35 s"], [3600, "1 h"], [3661, "1 h 1 min"], [90061, "1 d 1 h"]]) {
    assert.equal(duration(s), text);
  }
});

test("a moment is told by how long ago it was", () => {
  const now = Date.UTC(2025, 0, 2);
  for (const [seconds, text] of [[0, "just now"], [-3, "just now"], [42, "42 s ago"], [180, "3 min ago"], [7200, "2 h ago"], [172800, "2 d ago"]]) {
    assert.equal(ago(new Date(now - seconds * 1000), now), text);
  }
});

test("a share is between 0 and 100", () => {
  assert.deepEqual([percent(1, 4), percent(5, 4), percent(-1, 4), percent(1, 0)], [25, 100, 0, 0]);
});

test("numbers in names count as numbers", () => {
  assert.deepEqual(["web10", "Web2", "web1"].sort(collator.compare), ["web1", "Web2", "web10"]);
});
