// What was read stays read, and nothing else is, whatever becomes of the database.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Entry, Gap_Reason } from "towncrier";
import { gap, message } from "../../client/test/support/messages.ts";
import { keep, kept } from "../src/keep.ts";
import { Marks, type ReadGroup } from "../src/marks.ts";

let names = 0;
/** Each test has an account of its own. */
const freshName = () => `towncrier/user${++names}/Web`;

/** Entries with these seqs at the places from 1 on. */
function database(seqs: number[], epoch = 7n): Entry[] {
  return seqs.map((seq, index) => ({ place: index + 1, epoch, kind: "message", message: message(seq) }));
}

/** One conversation that holds `entries`, which may grow. */
const reader =
  (entries: Entry[]): ReadGroup =>
  async (_, { after = 0, limit = 100 }) =>
    entries.filter(({ place }) => place > after).slice(0, limit);

async function marksOf(name: string, entries: Entry[]): Promise<Marks> {
  const marks = new Marks(name, reader(entries));
  await marks.load();
  return marks;
}

test("a conversation was read up to the last mark", async () => {
  const [name, entries] = [freshName(), database([1, 2, 3])];
  const marks = await marksOf(name, entries);
  assert.equal(await marks.readUpTo("notices"), 0);
  assert.equal(await marks.mark("notices", 2), true);
  assert.equal(await marks.mark("notices", 1), false);
  assert.equal(await marks.readUpTo("notices"), 2);
  assert.equal(await (await marksOf(name, entries)).readUpTo("notices"), 2);
  assert.equal(await marks.readUpTo("other"), 0);
});

test("a database that lost its oldest entries still knows what was read", async () => {
  const [name, entries] = [freshName(), database([1, 2, 3, 4])];
  await (await marksOf(name, entries)).mark("notices", 2);
  assert.equal(await (await marksOf(name, entries.slice(1))).readUpTo("notices"), 2);
  assert.equal(await (await marksOf(name, entries.slice(2))).readUpTo("notices"), 0);
});

test("after a database was lost, what was read is found by its seq, and what came later is not read", async () => {
  const name = freshName();
  await (await marksOf(name, database([1, 2, 3, 4, 5]))).mark("notices", 5);
  // 1 to 4 were deleted at the gateway; 6 and 7 came meanwhile.
  const entries: Entry[] = [];
  const marks = await marksOf(name, entries);
  assert.equal(await marks.readUpTo("notices"), 0);
  entries.push({ place: 1, epoch: 7n, kind: "gap", gap: gap(1n, 4n) });
  assert.equal(await marks.readUpTo("notices"), 1);
  entries.push(...[5, 6, 7].map((seq, index) => ({ ...database([seq])[0], place: index + 2 }) as Entry));
  assert.equal(await marks.readUpTo("notices"), 2);
  assert.equal(await marks.mark("notices", 2), false);
  assert.equal(await marks.mark("notices", 4), true);
  assert.equal(await (await marksOf(name, entries)).readUpTo("notices"), 4);
});

test("the message that was read last may itself be gone", async () => {
  const name = freshName();
  await (await marksOf(name, database([1, 2, 3, 4, 5]))).mark("notices", 4);
  assert.equal(await (await marksOf(name, database([2, 3, 5, 6]))).readUpTo("notices"), 2);
});

test("a large inbox that lands anew is looked through", async () => {
  const name = freshName();
  const seqs = Array.from({ length: 2_000 }, (_, index) => index + 1);
  await (await marksOf(name, database(seqs))).mark("notices", 1_800);
  const entries = database(seqs.slice(100));
  const marks = await marksOf(name, entries);
  assert.deepEqual(await Promise.all([marks.readUpTo("notices"), marks.readUpTo("notices")]), [1_700, 1_700]);
});

test("a new log in a new database was not read, whatever its seqs", async () => {
  const name = freshName();
  await (await marksOf(name, database([1, 2, 3]))).mark("notices", 3);
  const marks = await marksOf(name, database([1, 2, 3, 4], 8n));
  assert.equal(await marks.readUpTo("notices"), 0);
  assert.equal(await marks.mark("notices", 2), true);
});

test("a new log in the same database leaves read what was", async () => {
  const [name, entries] = [freshName(), database([1, 2, 3])];
  await (await marksOf(name, entries)).mark("notices", 3);
  entries.push({ place: 4, epoch: 8n, kind: "gap", gap: gap(1n, 0n, Gap_Reason.EPOCH_CHANGED) });
  entries.push({ place: 5, epoch: 8n, kind: "message", message: message(1) });
  assert.equal(await (await marksOf(name, entries)).readUpTo("notices"), 3);
});

test("places that an earlier release kept are taken over, and stay for it", async () => {
  const name = freshName();
  keep(`${name}/read`, JSON.stringify({ notices: 2, gone: 9 }));
  const entries = database([1, 2, 3]);
  assert.equal(await (await marksOf(name, entries)).readUpTo("notices"), 2);
  assert.equal(kept(`${name}/read`), JSON.stringify({ notices: 2, gone: 9 }));
  // From then on they stand for themselves.
  assert.equal(await (await marksOf(name, database([3, 4]))).readUpTo("notices"), 0);
});

test("what another tab marked is taken up", async () => {
  const [name, entries] = [freshName(), database([1, 2, 3])];
  const [here, there] = [await marksOf(name, entries), await marksOf(name, entries)];
  await there.mark("notices", 3);
  assert.deepEqual(here.changed("another"), []);
  assert.deepEqual(here.changed(`${name}/marks`), ["notices"]);
  assert.equal(await here.readUpTo("notices"), 3);
});

test("what cannot be read keeps nobody out", async () => {
  for (const text of ["{", "null", "3", '{"notices":{"place":"3"}}', '{"notices":{"place":3,"epoch":1.5}}']) {
    const name = freshName();
    keep(`${name}/marks`, text);
    keep(`${name}/read`, text);
    const marks = await marksOf(name, database([1, 2, 3]));
    assert.equal(await marks.readUpTo("notices"), 0, text);
    assert.equal(await marks.mark("notices", 3), true, text);
  }
});

test("what was forgotten is not kept again", async () => {
  const name = freshName();
  const marks = await marksOf(name, database([1, 2, 3]));
  await marks.mark("notices", 1);
  const late = marks.mark("notices", 2);
  marks.forget();
  await late;
  assert.deepEqual([kept(`${name}/marks`), kept(`${name}/read`)], [null, null]);
});
