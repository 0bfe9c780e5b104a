// Read on one device is read on all: the client against a gateway that the test scripts.
import assert from "node:assert/strict";
import { afterEach, type TestContext, test } from "node:test";
import { Client, type Conversation, MemoryStore, type Options } from "../src/index.ts";
import { ScriptedGateway } from "./support/scripted.ts";
import { outline, status, within } from "./support/waiting.ts";

const clients: Client[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.stop()));
});

function clientOf(gateway: ScriptedGateway, options: Partial<Options> = {}): Client {
  const client = new Client({
    url: "ws://gateway/ws",
    token: "t",
    store: new MemoryStore(),
    fromOldest: true,
    WebSocket: gateway.Socket,
    ...options,
  });
  clients.push(client);
  return client;
}

/** A client that has everything. */
async function liveClient(gateway: ScriptedGateway, options: Partial<Options> = {}): Promise<Client> {
  const client = clientOf(gateway, options);
  client.start();
  await status(client, "live");
  return client;
}

/** Each conversation as `id: unread of head`, by id. */
const unreadOf = (conversations: Conversation[]) =>
  conversations.map(({ id, unread, head }) => `${id}: ${unread} of ${head}`).sort();

/** Resolves when the client says that this is unread. */
async function unread(client: Client, ...expected: string[]): Promise<void> {
  const found = new Promise<void>((resolve) => {
    client.onConversations((conversations) => {
      if (unreadOf(conversations).join() === expected.join()) resolve();
    });
  });
  await within(`unread ${expected}`, found);
}

/** Until no frame is on its way. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 50; turns += 1) await new Promise(setImmediate);
}

/** A clock that the test moves on. */
function clockOf(context: TestContext): (ms: number) => Promise<void> {
  let now = 0;
  context.mock.method(performance, "now", () => now);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  return async (ms) => {
    await settled();
    now += ms;
    context.mock.timers.tick(ms);
    await settled();
  };
}

test("what is read in one client is read in the others, also in one that was away", async () => {
  const gateway = new ScriptedGateway();
  gateway.notify("a");
  gateway.notify("a");
  gateway.notify("b");
  const [store, one] = [new MemoryStore(), await liveClient(gateway)];
  const [other, away] = [await liveClient(gateway), await liveClient(gateway, { store })];
  await away.stop();
  await one.markRead("a", 2n);
  await unread(one, "a: 0 of 2", "b: 1 of 1");
  await unread(other, "a: 0 of 2", "b: 1 of 1");
  await unread(await liveClient(gateway, { store }), "a: 0 of 2", "b: 1 of 1");
  assert.deepEqual(outline(await other.history()), [1, 2, 3], "marks are no entries");
  assert.equal((await store.position()).cursor, gateway.head, "and move the cursor");
});

test("a client that is new to a user has what the gateway counts, page by page", async () => {
  const gateway = new ScriptedGateway();
  gateway.pageMax = 2;
  for (const id of ["a", "b", "c", "d", "e", "a"]) gateway.notify(id);
  gateway.read("a", 1n);
  gateway.read("c", 1n);
  const client = await liveClient(gateway);
  await unread(client, "a: 1 of 2", "b: 1 of 1", "c: 0 of 1", "d: 1 of 1", "e: 1 of 1");
  assert.ok(gateway.lists >= 3, `${gateway.lists}`);
});

test("a conversation that moves up while pages are asked for is not missed", async () => {
  const gateway = new ScriptedGateway();
  gateway.pageMax = 2;
  gateway.notify("a");
  gateway.read("a", 1n);
  // Both came before the store began.
  const store = new MemoryStore();
  await store.moveTo({ epoch: gateway.epoch, cursor: gateway.head });
  for (const id of ["b", "c", "d"]) gateway.notify(id);
  gateway.onListed = () => {
    if (gateway.lists === 1) gateway.notify("a");
  };
  const client = await liveClient(gateway, { store });
  await unread(client, "a: 1 of 2", "b: 1 of 1", "c: 1 of 1", "d: 1 of 1");
  const a = (await client.conversations()).find(({ id }) => id === "a");
  assert.equal(a?.mark, 1n);
});

test("what is read while there is no connection is told when there is one, even by the next process", async () => {
  const gateway = new ScriptedGateway();
  const store = new MemoryStore();
  gateway.notify("a");
  const client = await liveClient(gateway, { store });
  await client.stop();
  await client.markRead("a", 1n);
  assert.deepEqual(unreadOf(await client.conversations()), ["a: 0 of 1"]);
  assert.equal(gateway.reads.length, 0);
  const next = await liveClient(gateway, { store });
  await unread(await liveClient(gateway), "a: 0 of 1");
  await settled();
  assert.equal(gateway.reads.length, 1);
  assert.deepEqual(unreadOf(await next.conversations()), ["a: 0 of 1"]);
});

test("a mark that came back is not sent again", async (context) => {
  const gateway = new ScriptedGateway();
  gateway.notify("a");
  const client = clientOf(gateway);
  const pass = clockOf(context);
  client.start();
  await settled();
  await client.markRead("a", 1n);
  for (let seconds = 0; seconds < 10; seconds += 1) await pass(1_000);
  assert.equal(gateway.reads.length, 1);
  await client.stop();
});

test("a mark that does not come back is sent three times, then what the gateway says holds", async (context) => {
  const gateway = new ScriptedGateway();
  gateway.notify("a");
  gateway.isDeaf = true;
  const client = clientOf(gateway);
  const pass = clockOf(context);
  client.start();
  await settled();
  await client.markRead("a", 1n);
  const sends: number[] = [];
  const isUnread: boolean[] = [];
  for (let seconds = 0; seconds < 9; seconds += 1) {
    await pass(1_000);
    sends.push(gateway.reads.length);
    isUnread.push((await client.conversations())[0]?.unread === 1);
  }
  assert.deepEqual(sends, [1, 2, 2, 3, 3, 3, 3, 3, 3]);
  assert.deepEqual(
    isUnread.map((is) => (is ? 1 : 0)),
    [0, 0, 0, 0, 0, 1, 1, 1, 1],
  );
  assert.equal(gateway.lists, 2, "at the beginning, and in the end");
  // The next mark is sent all the same.
  gateway.isDeaf = false;
  await client.markRead("a", 1n);
  await pass(1_000);
  assert.equal(gateway.mark("a"), 1n);
  await client.stop();
});

test("a frame has a hundred marks at most", async () => {
  const gateway = new ScriptedGateway();
  for (let count = 0; count < 250; count += 1) gateway.notify(`c${count}`);
  const client = await liveClient(gateway);
  const all = await client.conversations();
  await Promise.all(all.map(({ id, head }) => client.markRead(id, head)));
  await settled();
  assert.deepEqual(
    gateway.reads.map(({ marks }) => marks.length),
    [100, 100, 50],
  );
});

test("a mark goes no further than what there is, and never back", async () => {
  const gateway = new ScriptedGateway();
  gateway.notify("a");
  gateway.notify("a");
  const client = await liveClient(gateway);
  await client.markRead("a", 9n);
  await client.markRead("a", 1n);
  await client.markRead("nowhere", 1n);
  gateway.notify("a");
  await unread(client, "a: 1 of 3");
  assert.equal(gateway.mark("a"), 2n);
  assert.deepEqual(
    gateway.reads.flatMap(({ marks }) => marks.map(({ conversationSeq }) => conversationSeq)),
    [2n],
  );
});

test("a new log knows nothing of what was read in the one before", async () => {
  const gateway = new ScriptedGateway();
  const store = new MemoryStore();
  gateway.notify("a");
  const client = await liveClient(gateway, { store });
  await client.stop();
  await client.markRead("a", 1n);
  gateway.beginAnew();
  gateway.notify("a");
  gateway.notify("b");
  await unread(await liveClient(gateway, { store }), "a: 1 of 1", "b: 1 of 1");
  await settled();
  assert.deepEqual(gateway.reads, []);
});

test("an older gateway is told nothing, and what is read stays so here", async () => {
  const gateway = new ScriptedGateway();
  const store = new MemoryStore();
  gateway.isOlder = true;
  gateway.notify("a");
  gateway.notify("a");
  const client = await liveClient(gateway, { store });
  await unread(client, "a: 2 of 0");
  await client.markRead("a", 0n);
  await unread(client, "a: 0 of 0");
  gateway.notify("a");
  await unread(client, "a: 1 of 0");
  await client.stop();
  const again = await liveClient(gateway, { store });
  await unread(again, "a: 1 of 0");
  assert.deepEqual([gateway.reads.length, gateway.lists], [0, 0]);
  // The next release of the gateway counts as read what it found.
  gateway.read("a", 3n);
  gateway.isOlder = false;
  gateway.cut();
  await unread(again, "a: 0 of 3");
});

/** Takes part until it is live; what is kept then. */
async function outlineOf(client: Client): Promise<(number | string)[]> {
  client.start();
  await status(client, "live");
  await client.stop();
  return outline(await client.history());
}

test("a gap over marks alone is not told, and what was read in it is read", async () => {
  const gateway = new ScriptedGateway();
  const store = new MemoryStore();
  for (const id of ["a", "a", "b"]) gateway.notify(id);
  await outlineOf(clientOf(gateway, { store }));
  gateway.read("a", 1n);
  gateway.read("a", 2n);
  gateway.notify("b");
  gateway.first = 6n;
  const client = clientOf(gateway, { store });
  assert.deepEqual(await outlineOf(client), [1, 2, 3, 6]);
  assert.deepEqual(unreadOf(await client.conversations()), ["a: 0 of 2", "b: 1 of 2"]);
  assert.equal((await store.position()).cursor, 6n);
});

for (const follows of ["nothing", "more of its conversation"]) {
  test(`a gap with a message in it is told where ${follows} follows, and the next one for itself`, async () => {
    const gateway = new ScriptedGateway();
    const store = new MemoryStore();
    gateway.notify("a");
    await outlineOf(clientOf(gateway, { store }));
    gateway.notify("a");
    gateway.read("a", 1n);
    gateway.first = 4n;
    if (follows !== "nothing") gateway.notify("a");
    const landed = await outlineOf(clientOf(gateway, { store }));
    assert.deepEqual(landed, follows === "nothing" ? [1, "2-3"] : [1, "2-3", 4]);
    gateway.read("a", 2n);
    gateway.first = gateway.head + 1n;
    gateway.notify("a");
    assert.deepEqual(await outlineOf(clientOf(gateway, { store })), [...landed, Number(gateway.head)]);
  });
}

test("a newer login is known as one while the gateway is asked", async () => {
  const gateway = new ScriptedGateway();
  gateway.isKicking = true;
  const client = clientOf(gateway);
  client.start();
  assert.equal((await status(client, "ended")).reason, "replaced");
});

test("tabs hear of what is read in one of them", async () => {
  const gateway = new ScriptedGateway();
  const shared = { store: new MemoryStore(), share: "reader" };
  gateway.notify("a");
  const [first, second] = [await liveClient(gateway, shared), await liveClient(gateway, shared)];
  await unread(first, "a: 1 of 1");
  await second.markRead("a", 1n);
  await unread(first, "a: 0 of 1");
  await settled();
  assert.equal(gateway.mark("a"), 1n);
});
