// The past: a device that comes late, messages that retention removed, and a log that went back to a backup.
import assert from "node:assert/strict";
import { cp, rm } from "node:fs/promises";
import { test } from "node:test";
import {
  assertSame,
  conversationOf,
  deviceOf,
  each,
  entered,
  eventually,
  freshUser,
  type Gateway,
  gatewayOf,
  gatewayOfFile,
  loginOf,
  notify,
} from "./support/bench.ts";
import { CORES, IOS, PLATFORM } from "./support/device.ts";

const gateway = await gatewayOfFile();

each("a fresh device is told of nothing old, and has all of it", async (core, context) => {
  const user = freshUser();
  const ids = await notify(gateway, user, 60);
  const device = await entered(context, core, gateway, user);
  await eventually("all is unread", async () => (await device.unread(conversationOf(user))) === 60);
  assertSame(await device.historyIds(conversationOf(user)), ids, "history");
  ids.push(...(await notify(gateway, user, 1)));
  await device.isTold(ids.slice(60));
  assertSame(device.toldIds, ids.slice(60), "told");
  assertSame(await device.historyIds(conversationOf(user)), ids, "history");
});

/** First retained message of a user, as the admin API has it. */
async function firstOf(gateway: Gateway, user: string): Promise<number> {
  const { data } = await gateway.call("/conversation/list", { userID: user, beforeSeq: 0, limit: 10 });
  return (data.list as { first: number }[])[0]?.first ?? 0;
}

/** So large that the log keeps a third of 60. */
const LARGE = { content: { ex: "x".repeat(6_000) } };

test("of 60 notices of which retention leaves a part, each core has that part", async (context) => {
  const own = await gatewayOf(context, "log.segment_bytes=65536", "log.retention_bytes=131072");
  const user = freshUser();
  const known = await deviceOf(context, "native");
  const login = await loginOf(own, user, PLATFORM.native);
  await known.enter(login);
  const ids = await notify(own, user, 10, LARGE);
  await known.isTold(ids);
  await known.historyIds(conversationOf(user));
  await known.kill();
  ids.push(...(await notify(own, user, 50, LARGE)));
  let first = 0;
  await eventually("retention stands still", async () => {
    const before = first;
    first = await firstOf(own, user);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    return first > 20 && first === before;
  });
  const kept = ids.slice(first - 1);
  context.diagnostic(`${kept.length} of ${ids.length} are kept`);

  await known.start();
  await known.enter(login);
  await known.isTold(kept);
  assertSame(known.toldIds, [...ids.slice(0, 10), ...kept], "told");
  assertSame(await known.historyIds(conversationOf(user)), [...ids.slice(0, 10), ...kept], "history");
  await known.close();
  for (const core of CORES) {
    const fresh = await entered(context, core, own, user);
    assertSame(await fresh.historyIds(conversationOf(user)), kept, "history");
    assertSame(fresh.toldIds, [], "told");
    await eventually(
      `${core} counts what is kept`,
      async () => (await fresh.unread(conversationOf(user))) === kept.length,
    );
    await fresh.close();
  }
});

each(
  "after a log went back to a backup, what is new is told once and nothing twice",
  async (core, context) => {
    const own = await gatewayOf(context);
    const user = freshUser();
    const conversation = conversationOf(user);
    const device = await entered(context, core, own, user);
    const ids = await notify(own, user, 40);
    await device.isTold(ids);
    await own.drain();
    const backup = `${own.data}.backup`;
    await cp(own.data, backup, { recursive: true });
    await own.restart();
    const lost = await notify(own, user, 10);
    await device.isTold(lost);

    await own.drain();
    await rm(own.data, { recursive: true });
    await cp(backup, own.data, { recursive: true });
    await own.log("new-epoch");
    await own.restart();
    const fresh = await notify(own, user, 5);
    await device.isTold(fresh);
    assertSame(device.toldIds, [...ids, ...lost, ...fresh], "told");
    // A core with a store still has what the server lost.
    const whole = core === "js" ? [...ids, ...fresh] : [...ids, ...lost, ...fresh];
    assertSame(await device.historyIds(conversation), whole, "history");

    await device.close();
    const other = await entered(context, core, own, user);
    assertSame(await other.historyIds(conversation), [...ids, ...fresh], "history");
    assertSame(other.toldIds, [], "told");
    await eventually("all is unread", async () => (await other.unread(conversation)) === 45);
  },
);

each("over two new epochs nothing is told twice, and marks and counts hold", async (core, context) => {
  const own = await gatewayOf(context);
  const user = freshUser();
  const conversation = conversationOf(user);
  const device = await entered(context, core, own, user);
  const ids = await notify(own, user, 10);
  await device.isTold(ids);
  for (const count of [5, 3]) {
    const before = device.callbacks.length;
    await own.drain();
    await own.log("new-epoch");
    await own.restart();
    // The device may be behind when it returns.
    ids.push(...(await notify(own, user, count)));
    // A Go core that returns within 5 s of its last connect asks nothing.
    await device.hears(core === "js" ? "OnSyncServerFinish" : "OnConnectSuccess", before);
    await device.isTold(ids);
    ids.push(...(await notify(own, user, 1)));
    await device.isTold(ids);
    assertSame(device.toldIds, ids, "told");
    assertSame(await device.historyIds(conversation), ids, "history");
  }
  const phone = await entered(context, "native", own, user, IOS);
  await eventually("all is unread", async () => (await phone.unread(conversation)) === ids.length);
  await phone.markRead(conversation);
  const { data } = await own.call("/conversation/list", { userID: user, beforeSeq: 0, limit: 1 });
  assert.equal((data.list as { unread: number }[])[0]?.unread, 0);
  // The core without a store takes a mark of its own user only when it logs in.
  if (core !== "js")
    await eventually("none is unread there", async () => (await device.unread(conversation)) === 0);
  await device.close();
  const other = await entered(context, core, own, user);
  assertSame(await other.historyIds(conversation), ids, "history");
  await eventually("nothing is unread", async () => (await other.unread(conversation)) === 0);
});
