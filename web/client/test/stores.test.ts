// What every store promises: message and cursor together, once, in order; and what the durable ones promise across restarts.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, mock, test } from "node:test";
import { type Change, withListed, withRead } from "../src/conversations.ts";
import { FileStore } from "../src/file.ts";
import { Gap_Reason } from "../src/index.ts";
import { IndexedDbStore, UnknownSchema } from "../src/indexeddb.ts";
import { MemoryStore } from "../src/memory.ts";
import type { Entry, Store } from "../src/store.ts";
import { gap, marks, message } from "./support/messages.ts";

const folder = await mkdtemp(join(tmpdir(), "towncrier-store-"));
after(() => rm(folder, { recursive: true }));
let count = 0;
const freshPath = () => join(folder, `u${++count}`, "web.log");

const files: FileStore[] = [];
after(() => Promise.all(files.map((file) => file.close())));
async function openFile(entriesMax: number): Promise<Store> {
  const file = await FileStore.open(freshPath(), { entriesMax });
  files.push(file);
  return file;
}

const STORES: [string, (entriesMax: number) => Promise<Store>][] = [
  ["memory", async (entriesMax) => new MemoryStore({ entriesMax })],
  ["file", openFile],
  ["indexeddb", (entriesMax) => IndexedDbStore.open(`db-${++count}`, { entriesMax })],
];

const ids = (entries: Entry[]) =>
  entries.map((entry) => (entry.kind === "message" ? entry.message.serverMsgId : "gap"));

const inA = (seq: number, conversationSeq: number) => messageIn("a", seq, conversationSeq);
const inB = (seq: number, conversationSeq: number) => messageIn("b", seq, conversationSeq);
const messageIn = (conversationId: string, seq: number, conversationSeq: number) =>
  message(seq, `id-${seq}`, { conversationId, conversationSeq: BigInt(conversationSeq) });

/** Each conversation's mark, head and count. */
async function state(store: Store): Promise<Record<string, string>> {
  const all = await store.conversations();
  const pairs = all.map(({ id, mark, head, unread }) => [id, `${mark} of ${head}, ${unread} unread`]);
  return Object.fromEntries(pairs);
}

for (const [name, open] of STORES) {
  test(`${name}: messages and cursor move together`, async () => {
    const store = await open(100);
    assert.deepEqual(await store.position(), { epoch: 0n, cursor: 0n });
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(7n, [message(1), message(2)]);
    assert.deepEqual(await store.position(), { epoch: 7n, cursor: 2n });
    const [first] = await store.history({});
    assert.ok(first?.kind === "message");
    assert.deepEqual([first.epoch, first.message], [7n, message(1)]);
  });

  test(`${name}: what landed already is left out, what does not follow is refused`, async () => {
    const store = await open(100);
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(7n, [message(1), message(2)]);
    await store.land(7n, [message(2), message(3)]);
    await assert.rejects(store.land(7n, [message(5)]), /cannot follow/);
    await assert.rejects(store.land(8n, [message(4)]), /cannot follow/);
    assert.deepEqual(ids(await store.history({})), ["id-1", "id-2", "id-3"]);
    assert.deepEqual(await store.position(), { epoch: 7n, cursor: 3n });
  });

  test(`${name}: the position goes back for a new log only`, async () => {
    const store = await open(100);
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(7n, [message(1), message(2)]);
    // Another session, which began when the store was empty, and one that had not come as far.
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.moveTo({ epoch: 7n, cursor: 1n }, gap(1n, 1n));
    assert.deepEqual(await store.position(), { epoch: 7n, cursor: 2n });
    await store.land(7n, [message(3)]);
    assert.deepEqual(ids(await store.history({})), ["id-1", "id-2", "id-3"]);
    await store.moveTo({ epoch: 7n, cursor: 1n }, gap(1n, 1n, Gap_Reason.EPOCH_CHANGED));
    assert.deepEqual(await store.position(), { epoch: 7n, cursor: 1n });
  });

  test(`${name}: a log that returns brings nothing twice`, async () => {
    const store = await open(100);
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(7n, [message(1, "a"), message(2, "b")]);
    await store.moveTo({ epoch: 9n, cursor: 0n }, gap(1n, 0n));
    await store.land(9n, [message(1, "a"), message(2, "other")]);
    assert.deepEqual(ids(await store.history({})), ["a", "b", "gap", "other"]);
    assert.deepEqual(await store.position(), { epoch: 9n, cursor: 2n });
  });

  test(`${name}: history goes both ways from a place`, async () => {
    const store = await open(100);
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(
      7n,
      [1, 2, 3, 4, 5].map((seq) => message(seq)),
    );
    const all = await store.history({});
    const third = all[2]?.place ?? 0;
    assert.deepEqual(ids(await store.history({ limit: 2 })), ["id-4", "id-5"]);
    assert.deepEqual(ids(await store.history({ before: third, limit: 1 })), ["id-2"]);
    assert.deepEqual(ids(await store.history({ after: third, limit: 1 })), ["id-4"]);
    assert.deepEqual(ids(await store.history({ after: all[4]?.place ?? 0 })), []);
  });

  test(`${name}: only the newest entries are kept`, async () => {
    const store = await open(10);
    await store.moveTo({ epoch: 7n, cursor: 0n });
    for (let seq = 1; seq <= 45; seq += 1) await store.land(7n, [message(seq)]);
    const kept = ids(await store.history({}));
    assert.ok(kept.length >= 10 && kept.length < 20, `${kept.length}`);
    assert.equal(kept.at(-1), "id-45");
    await store.land(7n, [message(46)]);
    assert.equal((await store.position()).cursor, 46n);
  });

  test(`${name}: marks move with the cursor, never back, and are no entries`, async () => {
    const store = await open(100);
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(7n, [inA(1, 1), inA(2, 2), inB(3, 1), marks(4, { a: 1 }, "id-1"), inA(5, 3)]);
    assert.deepEqual(await state(store), { a: "1 of 3, 2 unread", b: "0 of 1, 1 unread" });
    await store.land(7n, [marks(6, { a: 3, b: 1 }, "id-5")]);
    await store.land(7n, [marks(7, { a: 2 }, "id-2"), marks(8, { c: 4 }, "id-0")]);
    assert.deepEqual(await state(store), {
      a: "3 of 3, 0 unread",
      b: "1 of 1, 0 unread",
      c: "4 of 4, 0 unread",
    });
    assert.deepEqual(ids(await store.history({})), ["id-1", "id-2", "id-3", "id-5"]);
    assert.deepEqual(await store.position(), { epoch: 7n, cursor: 8n });
    await assert.rejects(store.land(7n, [marks(10, { a: 3 }, "id-5")]), /cannot follow/);
  });

  test(`${name}: to an older client an entry of marks is a message that it has`, async () => {
    const store = await open(100);
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(7n, [inA(1, 1)]);
    // The field is not there for it.
    await store.land(7n, [{ ...marks(2, { a: 1 }, "id-1"), marks: [] }]);
    assert.deepEqual(ids(await store.history({})), ["id-1"]);
    assert.equal((await store.position()).cursor, 2n);
  });

  test(`${name}: what changes conversations sees where the store stands, and tells whether it changed any`, async () => {
    const store = await open(100);
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(7n, [inA(1, 1), inB(2, 1)]);
    const [newest] = await store.history({ limit: 1 });
    const read: Change = (before, standing) => {
      assert.deepEqual(standing, { position: { epoch: 7n, cursor: 2n }, place: newest?.place });
      return withRead(before, 1n, standing);
    };
    assert.equal(await store.change(["a", "nowhere"], read), true);
    assert.equal(await store.change(["a", "nowhere"], read), false);
    assert.deepEqual(await state(store), { a: "1 of 1, 0 unread", b: "0 of 1, 1 unread" });
  });

  test(`${name}: conversations are forgotten with a new log, by another epoch or further back`, async () => {
    for (const epoch of [7n, 8n]) {
      const store = await open(100);
      await store.moveTo({ epoch: 7n, cursor: 0n });
      await store.land(7n, [inA(1, 1), inA(2, 2), marks(3, { a: 2 }, "id-2")]);
      await store.moveTo({ epoch: 7n, cursor: 4n }, gap(4n, 4n));
      assert.deepEqual(await state(store), { a: "2 of 2, 0 unread" });
      await store.moveTo({ epoch, cursor: 0n }, gap(1n, 0n, Gap_Reason.EPOCH_CHANGED));
      assert.deepEqual(await state(store), {});
    }
  });

  test(`${name}: without numbers, what is there twice is unread once`, async () => {
    const store = await open(100);
    const older = { conversationId: "a", conversationSeq: 0n };
    await store.moveTo({ epoch: 7n, cursor: 0n });
    await store.land(7n, [message(1, "x", older), message(2, "y", older)]);
    assert.deepEqual(await state(store), { a: "0 of 0, 2 unread" });
    const places = (await store.history({})).map(({ place }) => place);
    await store.change(["a"], (before, standing) => withRead(before, 0n, standing));
    await store.moveTo({ epoch: 9n, cursor: 0n }, gap(1n, 0n, Gap_Reason.EPOCH_CHANGED));
    await store.land(9n, [message(1, "x", older), message(2, "z", older)]);
    assert.deepEqual(await state(store), { a: "0 of 0, 1 unread" });
    // The entries of the log before are read.
    const [a] = await store.conversations();
    assert.ok(a && a.readPlace >= (places.at(-1) ?? 0));
  });
}

test("indexeddb: groups", async () => {
  const group = (entry: { fromSeq?: bigint; seq?: bigint }) =>
    entry.seq === undefined ? "gaps" : entry.seq % 2n ? "odd" : "even";
  const store = await IndexedDbStore.open(`db-${++count}`, { group });
  await store.moveTo({ epoch: 7n, cursor: 0n }, gap(1n, 0n));
  await store.land(
    7n,
    [1, 2, 3, 4, 5].map((seq) => message(seq)),
  );
  assert.deepEqual(await store.groups(), ["even", "gaps", "odd"]);
  const odd = await store.groupHistory("odd", { limit: 2 });
  assert.deepEqual(ids(odd), ["id-3", "id-5"]);
  assert.deepEqual(ids(await store.groupHistory("odd", { before: odd[0]?.place ?? 0 })), ["id-1"]);
});

test("indexeddb: what the database says is why it failed", async () => {
  const { transaction } = IDBDatabase.prototype;
  const store = await IndexedDbStore.open(`db-${++count}`);
  // As a browser does whose disk is full or gone: it aborts by itself, and what was asked for fails with that.
  IDBDatabase.prototype.transaction = function (...args) {
    const begun = transaction.apply(this, args);
    queueMicrotask(() => begun.abort());
    return begun;
  };
  try {
    await assert.rejects(store.land(7n, [message(1)]), { name: "AbortError" });
  } finally {
    IDBDatabase.prototype.transaction = transaction;
  }
});

test("file: what landed is there after opening again, an unfinished line is cut", async () => {
  const path = freshPath();
  let store = await FileStore.open(path, { entriesMax: 4 });
  await store.moveTo({ epoch: 7n, cursor: 0n });
  for (let seq = 1; seq <= 9; seq += 1) await store.land(7n, [message(seq)]);
  const before = await store.history({});
  await store.close();
  await appendFile(path, '{"epoch":"7","cursor":"10","at":10,"entr');
  store = await FileStore.open(path, { entriesMax: 4 });
  assert.deepEqual(await store.position(), { epoch: 7n, cursor: 9n });
  assert.deepEqual(await store.history({}), before);
  await store.land(7n, [message(10)]);
  await store.close();
  store = await FileStore.open(path, { entriesMax: 4 });
  assert.deepEqual(ids((await store.history({})).slice(-2)), ["id-9", "id-10"]);
  await store.close();
});

test("file: what was known of conversations is there after opening again, however often it changed", async () => {
  const path = freshPath();
  const options = { entriesMax: 4 };
  let store = await FileStore.open(path, options);
  await store.moveTo({ epoch: 7n, cursor: 0n });
  await store.land(7n, [inA(1, 1), inB(2, 1)]);
  for (let seq = 3; seq < 100; seq += 2)
    await store.land(7n, [inA(seq, (seq + 1) / 2), marks(seq + 1, { a: (seq + 1) / 2 }, `id-${seq}`)]);
  const before = await state(store);
  await store.close();
  assert.ok((await readFile(path, "utf8")).split("\n").length < 15, "the file is written anew in time");
  store = await FileStore.open(path, options);
  assert.deepEqual(await state(store), before);
  assert.deepEqual(before, { a: "50 of 50, 0 unread", b: "0 of 1, 1 unread" });
  await store.moveTo({ epoch: 9n, cursor: 0n }, gap(1n, 0n, Gap_Reason.EPOCH_CHANGED));
  await store.close();
  store = await FileStore.open(path, options);
  assert.deepEqual(await state(store), {});
  await store.close();
});

test("file: what is landed and what is read at once are both there", async () => {
  const path = freshPath();
  let store = await FileStore.open(path);
  await store.moveTo({ epoch: 7n, cursor: 0n });
  await store.land(7n, [inA(1, 1)]);
  await Promise.all([
    store.land(7n, [inA(2, 2)]),
    store.change(["a"], (before, standing) => withRead(before, 1n, standing)),
    store.land(7n, [inA(3, 3)]),
  ]);
  await store.close();
  store = await FileStore.open(path);
  assert.deepEqual(await state(store), { a: "1 of 3, 2 unread" });
  await store.close();
});

test("file: damage before the end is reported, not shortened", async () => {
  const path = freshPath();
  const store = await FileStore.open(path);
  await store.moveTo({ epoch: 7n, cursor: 0n });
  await store.land(7n, [message(1)]);
  await store.land(7n, [message(2)]);
  await store.close();
  const text = await readFile(path, "utf8");
  await writeFile(path, text.replace('"cursor":"1"', '"cursor"\0"1"'));
  await assert.rejects(FileStore.open(path), /line 2 is damaged/);
});

test("file: a second opener is told that it is in use", async () => {
  const path = freshPath();
  const store = await FileStore.open(path);
  await assert.rejects(FileStore.open(path), /in use/);
  await store.close();
  // Of a process that was killed.
  await writeFile(`${path}.lock`, "4194999");
  await (await FileStore.open(path)).close();
});

test("indexeddb: a database of the first release is upgraded, and filled by what the gateway lists", async () => {
  const name = `db-${++count}`;
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => {
    const entries = request.result.createObjectStore("entries", { keyPath: "place", autoIncrement: true });
    entries.createIndex("id", "id", { unique: true });
    entries.createIndex("group", ["group", "place"]);
    const { conversationSeq: _, marks: __, ...older } = message(1);
    entries.add({ kind: "message", epoch: 7n, message: older, id: "id-1", group: "g" });
    request.result.createObjectStore("state").put({ epoch: 7n, cursor: 1n }, "position");
  };
  await new Promise((resolve) => {
    request.onsuccess = resolve;
  });
  request.result.close();
  const store = await IndexedDbStore.open(name);
  assert.deepEqual(await store.position(), { epoch: 7n, cursor: 1n });
  const [entry] = await store.history({});
  assert.ok(entry?.kind === "message");
  assert.deepEqual(entry.message, message(1, "id-1", { conversationSeq: 0n }));
  assert.deepEqual(await state(store), {});
  const listed = { conversationId: "a", head: 9n, first: 2n, mark: 4n, unread: 5, lastTime: 0n, lastSeq: 1n };
  await store.change(["a"], (before, standing) => withListed(before, listed, standing));
  assert.deepEqual(await state(store), { a: "4 of 9, 5 unread" });
  const [a] = await store.conversations();
  assert.deepEqual([a?.landed, a?.readPlace], [9n, entry.place]);
});

/** A database of this version and with this object store, as somebody else makes it; open. */
function foreign(name: string, version: number, store?: string): Promise<IDBDatabase> {
  const request = indexedDB.open(name, version);
  request.onupgradeneeded = () => {
    if (store) request.result.createObjectStore(store);
  };
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

test("indexeddb: a database of another release is told apart, left as it is, and removed when asked", async () => {
  for (const [version, store] of [
    [3, "entries"],
    [2, "entries"],
    [1, "entries"],
    [1, undefined],
  ] as const) {
    const name = `db-${++count}`;
    (await foreign(name, version, store)).close();
    await assert.rejects(IndexedDbStore.open(name), UnknownSchema);
    const before = (await indexedDB.databases()).find((database) => database.name === name);
    assert.equal(before?.version, version);
    await IndexedDbStore.remove(name);
    await (await IndexedDbStore.open(name)).land(0n, []);
  }
});

test("indexeddb: whoever wants the database gets it, and its user hears of it", async () => {
  const name = `db-${++count}`;
  let closed = 0;
  const store = await IndexedDbStore.open(name, { onClosed: () => (closed += 1) });
  (await foreign(name, 3)).close();
  assert.equal(closed, 1);
  await assert.rejects(store.position());
});

test("indexeddb: a database that another tab holds is not waited for, and goes when that tab lets go", async (t) => {
  t.after(() => mock.timers.reset());
  const name = `db-${++count}`;
  // A tab that is frozen does not hear that somebody wants it.
  const held = await foreign(name, 1);
  mock.timers.enable({ apis: ["setTimeout"] });
  const removed = assert.rejects(IndexedDbStore.remove(name), /another tab holds the database/);
  const opened = assert.rejects(IndexedDbStore.open(name), /another tab holds the database/);
  mock.timers.tick(10_000);
  await Promise.all([removed, opened]);
  mock.timers.reset();
  held.close();
  const store = await IndexedDbStore.open(name);
  assert.deepEqual(await store.position(), { epoch: 0n, cursor: 0n });
});
