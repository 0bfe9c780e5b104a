// docs/protocol.md#landing and #epochs: what is accepted, acked and asked for again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Gap_Reason } from "../src/gen/towncrier/v1/gateway.ts";
import { type Batch, emptyBatch, Landing, Misled } from "../src/landing.ts";
import { connected, gap, push } from "./support/messages.ts";

const ALICE = { token: "t", deviceId: "d", name: "c" };

/** A machine at `cursor` of log 7, connected to it. */
function landingAt(cursor: bigint): Landing {
  const landing = new Landing({ epoch: 7n, cursor });
  landing.connect(ALICE, false);
  assert.equal(landing.connected(connected(7n, cursor, 1000n)), undefined);
  return landing;
}

function pushed(landing: Landing, ...seqs: number[]): Batch {
  const batch = emptyBatch();
  landing.push(push(...seqs), batch);
  return batch;
}

const seqs = (batch: Batch) => batch.land.map(({ seq }) => Number(seq));

test("successors land and are acked once for many", () => {
  const batch = pushed(landingAt(4n), 5, 6, 7);
  assert.deepEqual(seqs(batch), [5, 6, 7]);
  assert.deepEqual([batch.ack, batch.resend], [7n, undefined]);
});

test("duplicates are dropped and acked again", () => {
  const batch = pushed(landingAt(4n), 3, 4);
  assert.deepEqual(seqs(batch), []);
  assert.equal(batch.ack, 4n);
});

test("a hole lands nothing beyond it and asks once", () => {
  const landing = landingAt(4n);
  const batch = pushed(landing, 5, 7, 8);
  assert.deepEqual([seqs(batch), batch.ack, batch.resend], [[5], 5n, 5n]);
  assert.deepEqual(pushed(landing, 9), emptyBatch(), "already asked");
  assert.deepEqual(seqs(pushed(landing, 6, 7)), [6, 7]);
  assert.equal(pushed(landing, 9).resend, 7n, "a new hole asks again");
});

test("a hole that the same batch fills is not asked for", () => {
  const batch = pushed(landingAt(4n), 6, 5, 6);
  assert.deepEqual([seqs(batch), batch.ack, batch.resend], [[5, 6], 6n, undefined]);
});

test("online-only messages are shown and neither stored nor acked", () => {
  const batch = pushed(landingAt(4n), 0);
  assert.equal(batch.onlineOnly.length, 1);
  assert.deepEqual([seqs(batch), batch.ack], [[], undefined]);
});

test("an empty store begins where the server says and names no cursor", () => {
  const landing = new Landing({ epoch: 0n, cursor: 0n });
  const first = landing.connect(ALICE, false);
  assert.deepEqual([first.epoch, first.cursor], [0n, undefined]);
  assert.deepEqual(landing.connected(connected(7n, 12n, 20n)), { epoch: 7n, cursor: 12n });
  assert.deepEqual(seqs(pushed(landing, 13)), [13]);
  const again = landing.connect(ALICE, false);
  assert.deepEqual([again.epoch, again.cursor], [7n, 13n]);
});

test("an empty store that wants all of it names cursor 0, and hears what expired once", () => {
  const landing = new Landing({ epoch: 0n, cursor: 0n });
  assert.equal(landing.connect(ALICE, true).cursor, 0n);
  landing.connected(connected(7n, 5n, 9n));
  assert.deepEqual(landing.gap(gap(1n, 5n)), { epoch: 7n, cursor: 5n });
  assert.equal(landing.gap(gap(1n, 5n)), undefined);
  assert.deepEqual(seqs(pushed(landing, 6)), [6]);
});

test("an expired gap moves the cursor forwards only", () => {
  const landing = landingAt(4n);
  assert.deepEqual(landing.gap(gap(5n, 9n)), { epoch: 7n, cursor: 9n });
  assert.equal(landing.gap(gap(5n, 9n)), undefined);
  assert.throws(() => landing.gap(gap(12n, 13n)), Misled);
});

test("another epoch takes its gap and only then messages", () => {
  const landing = new Landing({ epoch: 7n, cursor: 40n });
  landing.connect(ALICE, false);
  landing.connected(connected(8n, 0n, 2n));
  assert.throws(() => pushed(landing, 1), Misled);
  assert.throws(() => landing.gap(gap(41n, 42n)), Misled);
  assert.deepEqual(landing.gap(gap(1n, 0n, Gap_Reason.EPOCH_CHANGED)), { epoch: 8n, cursor: 0n });
  assert.deepEqual(seqs(pushed(landing, 1, 2)), [1, 2]);
});

test("a cursor above head takes the same way back", () => {
  const landing = new Landing({ epoch: 7n, cursor: 40n });
  landing.connect(ALICE, false);
  landing.connected(connected(7n, 0n, 30n));
  assert.deepEqual(landing.gap(gap(1n, 10n, Gap_Reason.EPOCH_CHANGED)), { epoch: 7n, cursor: 10n });
});

test("what the protocol rules out is refused", () => {
  const landing = new Landing({ epoch: 7n, cursor: 4n });
  landing.connect(ALICE, false);
  assert.throws(() => pushed(landing, 5), Misled);
  assert.throws(() => landing.connected(connected(0n, 0n, 0n)), Misled);
  landing.connected(connected(7n, 4n, 9n));
  assert.throws(() => landing.connected(connected(7n, 4n, 9n)), Misled);
  assert.throws(() => landing.gap(gap(1n, 0n, Gap_Reason.EPOCH_CHANGED)), Misled);
});
