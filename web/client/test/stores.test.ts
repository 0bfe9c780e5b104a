// What every store promises: message and cursor together, once, in order; and what the durable ones promise across restarts.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, mock, test } from "node:test";
import { FileStore } from "../src/file.ts";
import { Gap_Reason } from "../src/index.ts";
import { IndexedDbStore, UnknownSchema } from "../src/indexeddb.ts";
import { MemoryStore } from "../src/memory.ts";
import type { Entry, Store } from "../src/store.ts";
import { gap, message } from "./support/messages.ts";

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
}

test("indexeddb: groups, and how many came after a place", async () => {
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
  assert.equal(await store.groupCount("odd"), 3);
  assert.equal(await store.groupCount("odd", odd[0]?.place), 1);
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
  (await foreign(name, 2)).close();
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
