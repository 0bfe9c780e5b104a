// The client against the real gateway: each test a promise.
import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { WebSocket } from "ws";
import {
  Client,
  Gap_Reason,
  MemoryStore,
  type Options,
  type Store,
  type WebSocketConstructor,
} from "../src/index.ts";
import { Gateway } from "./support/gateway.ts";
import { Inbox, outline, status, within } from "./support/waiting.ts";

const gateway = await Gateway.start();
after(() => gateway.close());

let users = 0;
const freshUser = () => `user-${++users}`;

/** Of the present test. */
const clients: Client[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.stop()));
});

async function clientOf(
  user: string,
  options: Partial<Options> & { platform?: number } = {},
): Promise<Client> {
  const { platform, ...rest } = options;
  const client = new Client({
    url: gateway.url,
    token: await gateway.token(user, platform),
    store: new MemoryStore(),
    WebSocket,
    ...rest,
  });
  clients.push(client);
  return client;
}

async function sendMany(user: string, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const { errCode, errMsg } = await gateway.send({ recvID: user });
    assert.equal(errCode, 0, errMsg);
  }
}

test("the backlog lands, then what is live, and all of it is acked", async () => {
  const user = freshUser();
  await sendMany(user, 3);
  const client = await clientOf(user);
  const inbox = new Inbox(client);
  client.start();
  const live = await status(client, "live");
  assert.deepEqual([live.userId, live.platform, live.seq], [user, 5, 3n]);
  const { data } = await gateway.send({ recvID: user, content: { text: "大家好" } });
  await inbox.count(4);
  assert.deepEqual(inbox.seqs, [1, 2, 3, 4]);
  assert.equal(JSON.parse(new TextDecoder().decode(inbox.messages[3]?.content)).text, "大家好");
  await within("the ack", acked(data.serverMsgID));
});

/** Resolves when every session of the receiver has acked. */
async function acked(serverMsgID: unknown): Promise<void> {
  for (;;) {
    const { data } = await gateway.call("/msg/trace", { serverMsgID });
    const [receiver] = data.receivers as { state: string }[];
    if (receiver?.state === "acked") return;
  }
}

test("a client that stops lets go of its session, and may start again", async () => {
  const client = await clientOf(freshUser());
  client.start();
  await status(client, "live");
  await client.stop();
  assert.deepEqual(client.status, { state: "ended", reason: "stopped", text: "stopped" });
  client.start();
  await status(client, "live");
});

test("a stop and a start in one breath end live", async () => {
  const client = await clientOf(freshUser());
  client.start();
  const stopped = client.stop();
  client.start();
  await stopped;
  await status(client, "live");
});

test("a stop is heard while the store is read, when there is no connection yet", async () => {
  const store: Store = new MemoryStore();
  const client = await clientOf(freshUser(), { store });
  const stopped = new Promise<void>((resolve) => {
    store.position = () => {
      resolve(client.stop());
      return new MemoryStore().position();
    };
  });
  client.start();
  await within("the stop", stopped);
  assert.equal(client.status.state, "ended");
});

test("a stop takes nothing away and brings nothing twice", async () => {
  const user = freshUser();
  const store = new MemoryStore();
  await sendMany(user, 2);
  const client = await clientOf(user, { store, since: 0 });
  const inbox = new Inbox(client);
  client.start();
  await inbox.count(2);
  await client.stop();
  // Lands what comes meanwhile, as another tab would.
  const other = await clientOf(user, { store });
  await sendMany(user, 1);
  other.start();
  await status(other, "live");
  await other.stop();
  client.start();
  await sendMany(user, 1);
  await inbox.count(4);
  assert.deepEqual(inbox.seqs, [1, 2, 3, 4]);
});

test("what cannot be connected to is refused at once", () => {
  const store = new MemoryStore();
  assert.throws(
    () =>
      new Client({
        url: "https://gateway.example/ws",
        token: "",
        store,
        WebSocket,
      }),
    /expected ws:/,
  );
});

test("a client that comes back with its store goes on where it was", async () => {
  const user = freshUser();
  const store = new MemoryStore();
  await sendMany(user, 2);
  const first = await clientOf(user, { store });
  first.start();
  await status(first, "live");
  await first.stop();
  await sendMany(user, 2);
  const second = await clientOf(user, { store });
  const inbox = new Inbox(second);
  second.start();
  await inbox.count(2);
  assert.deepEqual(inbox.seqs, [3, 4]);
  assert.deepEqual(outline(await second.history()), [1, 2, 3, 4]);
});

test("an empty store resumes where the session last acked, or takes the whole inbox where that is wanted", async () => {
  const user = freshUser();
  await sendMany(user, 2);
  const before = await clientOf(user);
  before.start();
  await status(before, "live");
  const { data } = await gateway.send({ recvID: user });
  await within("the ack", acked(data.serverMsgID));
  await before.stop();
  const resuming = await clientOf(user);
  resuming.start();
  await status(resuming, "live");
  assert.deepEqual(outline(await resuming.history()), []);
  await resuming.stop();
  const whole = await clientOf(user, { fromOldest: true });
  const inbox = new Inbox(whole);
  whole.start();
  await inbox.count(3);
  assert.deepEqual(inbox.seqs, [1, 2, 3]);
});

test("online-only messages are handed out and not stored", async () => {
  const user = freshUser();
  const client = await clientOf(user);
  const inbox = new Inbox(client);
  client.start();
  await status(client, "live");
  await gateway.send({ recvID: user, isOnlineOnly: true });
  await inbox.count(1);
  assert.deepEqual(inbox.seqs, [0]);
  assert.deepEqual(await client.history(), []);
});

test("a cut connection comes back, and nothing is missing", async () => {
  const user = freshUser();
  const client = await clientOf(user);
  const inbox = new Inbox(client);
  client.start();
  await status(client, "live");
  gateway.cut();
  await status(client, "reconnecting");
  await sendMany(user, 2);
  await inbox.count(2);
  assert.deepEqual(inbox.seqs, [1, 2]);
});

test("clients that share a session hand out each message once each, whoever leads", async () => {
  const user = freshUser();
  const shared = { store: new MemoryStore(), share: user };
  const first = await clientOf(user, shared);
  const ofFirst = new Inbox(first);
  first.start();
  await status(first, "live");
  const second = await clientOf(user, shared);
  const ofSecond = new Inbox(second);
  second.start();
  await status(second, "live");
  await sendMany(user, 2);
  await Promise.all([ofFirst.count(2), ofSecond.count(2)]);
  await first.stop();
  await sendMany(user, 1);
  await ofSecond.count(3);
  assert.deepEqual(
    [ofFirst.seqs, ofSecond.seqs],
    [
      [1, 2],
      [1, 2, 3],
    ],
  );
  await status(second, "live");
});

test("a newer login replaces it, it stays away, and comes back when told", async () => {
  const user = freshUser();
  const older = await clientOf(user);
  older.start();
  await status(older, "live");
  const newer = await clientOf(user);
  newer.start();
  const ended = await status(older, "ended");
  assert.equal(ended.reason, "replaced");
  older.start();
  assert.equal((await status(newer, "ended")).reason, "replaced");
  await status(older, "live");
});

test("an administrator logs it out", async () => {
  const user = freshUser();
  const client = await clientOf(user);
  client.start();
  await status(client, "live");
  await gateway.call("/auth/force_logout", { fromUserID: user, platform: 5 });
  const ended = await status(client, "ended");
  assert.equal(ended.reason, "logged_out");
});

test("a token that is not good ends it", async () => {
  const client = await clientOf(freshUser(), { token: "not.a.token" });
  client.start();
  const ended = await status(client, "ended");
  assert.deepEqual([ended.reason, ended.text.slice(0, 16)], ["refused", "closed with 4401"]);
});

test("what was deleted before it came is announced as a gap, and kept as one", async () => {
  const user = freshUser();
  await sendMany(user, 4);
  const { errCode, errMsg } = await gateway.call("/msg/del_msg", {
    userID: user,
    opUserID: user,
    seqList: [1, 2],
  });
  assert.equal(errCode, 0, errMsg);
  const client = await clientOf(user, { fromOldest: true });
  const gaps: string[] = [];
  client.onGap((gap) => gaps.push(`${gap.fromSeq}-${gap.toSeq} ${gap.reason}`));
  client.start();
  await status(client, "live");
  assert.deepEqual(gaps, [`1-2 ${Gap_Reason.EXPIRED}`]);
  assert.deepEqual(outline(await client.history()), ["1-2", 3, 4]);
});

test("a store that fails ends it, and says so", async () => {
  const user = freshUser();
  await sendMany(user, 1);
  const store = new MemoryStore();
  store.land = () => Promise.reject(new Error("the disk is full"));
  const client = await clientOf(user, { store });
  client.start();
  const ended = await status(client, "ended");
  assert.deepEqual([ended.reason, ended.text], ["store", "the local store failed: the disk is full"]);
});

test("a store that cannot be read ends it, and a start tries again", async () => {
  const user = freshUser();
  const store = new MemoryStore();
  const client = await clientOf(user, { store });
  const inbox = new Inbox(client);
  client.start();
  await status(client, "live");
  const history = store.history.bind(store);
  store.history = () => {
    throw new Error("the database is closed");
  };
  await sendMany(user, 1);
  assert.equal((await status(client, "ended")).reason, "store");
  store.history = history;
  client.start();
  await inbox.count(1);
  await status(client, "live");
});

test("where no connection can be made it ends, and says why", async () => {
  class Insecure {
    constructor() {
      throw new Error("an insecure connection from a secure page");
    }
  }
  const client = await clientOf(freshUser(), { WebSocket: Insecure as unknown as WebSocketConstructor });
  client.start();
  const ended = await status(client, "ended");
  assert.deepEqual([ended.reason, ended.text], ["refused", "an insecure connection from a secure page"]);
});

test("a gateway that drains is come back to", async () => {
  const user = freshUser();
  const client = await clientOf(user);
  const inbox = new Inbox(client);
  client.start();
  await status(client, "live");
  await gateway.drain();
  await status(client, "reconnecting");
  await gateway.restart();
  await sendMany(user, 1);
  await inbox.count(1);
});
