// docs/protocol.md#reconnecting, and which close codes forbid to come back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { askedDelay, Backoff, mayComeBack } from "../src/backoff.ts";

/** The longest waits of one client after another. */
function ceilings(backoff: Backoff, count: number): number[] {
  return Array.from({ length: count }, () => backoff.next(0, () => 1));
}

test("waits are jittered fully and double to thirty seconds", () => {
  assert.deepEqual(ceilings(new Backoff(), 8), [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  assert.equal(
    new Backoff().next(0, () => 0),
    0,
  );
});

test("only a session of a minute, or a network that came back, restarts at the minimum", () => {
  const backoff = new Backoff();
  ceilings(backoff, 3);
  backoff.endedAfter(59_000);
  assert.deepEqual(ceilings(backoff, 1), [4000]);
  backoff.endedAfter(60_000);
  assert.deepEqual(ceilings(backoff, 1), [500]);
  backoff.restart();
  assert.deepEqual(ceilings(backoff, 1), [500]);
});

test("what the server asks for is waited for, within reason", () => {
  assert.equal(askedDelay(4503, "7000"), 7000);
  assert.equal(askedDelay(4503, "soon"), undefined);
  assert.equal(askedDelay(4500, "7000"), undefined);
  assert.equal(
    new Backoff().next(7000, () => 0.5),
    7250,
  );
  assert.equal(
    new Backoff().next(1e12, () => 0),
    600_000,
  );
});

test("codes 4000 to 4499 stay away and all others come back", () => {
  for (const code of [4000, 4400, 4401, 4403, 4409, 4410, 4429, 4499])
    assert.ok(!mayComeBack(code), `${code}`);
  for (const code of [1000, 1001, 1006, 1009, 1011, 4500, 4503, 4508, 4999])
    assert.ok(mayComeBack(code), `${code}`);
});
