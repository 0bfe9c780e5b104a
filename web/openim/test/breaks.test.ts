// Breaks of every kind: the app is told of each notice once, in order, and finds each once in its history.
import { type TestContext, test } from "node:test";
import {
  assertSame,
  conversationOf,
  deviceOf,
  each,
  entered,
  eventually,
  freshUser,
  gatewayOf,
  gatewayOfFile,
  loginOf,
  notify,
} from "./support/bench.ts";
import { CORES, type Device, PLATFORM } from "./support/device.ts";
import type { PageDevice } from "./support/page.ts";

const gateway = await gatewayOfFile();

/** Resolves when the device was told of these and no others, and its history is the same. */
async function hasExactly(device: Device, user: string, ids: string[]): Promise<void> {
  await device.isTold(ids);
  assertSame(device.toldIds, ids, "told");
  assertSame(await device.historyIds(conversationOf(user)), ids, "history");
  // A core counts a moment after it told.
  const isCounted = async () => (await device.unread(conversationOf(user))) === ids.length;
  await eventually(`${ids.length} are unread`, isCounted);
}

each("30 notices sent while it is cut off are told when it is back", async (core, context) => {
  const own = await gatewayOf(context);
  const user = freshUser();
  const device = await entered(context, core, own, user);
  const ids = await notify(own, user, 3);
  await device.isTold(ids);
  own.shutOut();
  ids.push(...(await notify(own, user, 30)));
  own.letIn();
  await device.isTold(ids);
  ids.push(...(await notify(own, user, 1)));
  await hasExactly(device, user, ids);
});

each("a link that breaks twice within five seconds leaves nothing out", async (core, context) => {
  const own = await gatewayOf(context);
  const user = freshUser();
  const device = await entered(context, core, own, user);
  const ids = await notify(own, user, 1);
  await device.isTold(ids);
  for (let breaks = 0; breaks < 2; breaks += 1) {
    const before = device.callbacks.length;
    own.shutOut();
    ids.push(...(await notify(own, user, 4)));
    own.letIn();
    await device.hears("OnConnectSuccess", before);
  }
  // Nothing is sent meanwhile that could make it ask.
  await hasExactly(device, user, ids);
});

each("kill -9 of the gateway costs nothing", async (core, context) => {
  const own = await gatewayOf(context);
  const user = freshUser();
  const device = await entered(context, core, own, user);
  // For a new conversation a core calls the gateway. Where that call is cut off, it counts wrongly until its next login.
  const ids = await notify(own, user, 1);
  await eventually("the first is unread", async () => (await device.unread(conversationOf(user))) === 1);
  ids.push(...(await notify(own, user, 5)));
  await own.kill();
  await own.restart();
  ids.push(...(await notify(own, user, 5)));
  await hasExactly(device, user, ids);
});

/** Notices before, during and after an end of the device: each told once, and all in the history. */
async function survives(context: TestContext, device: Device, end: () => Promise<void>): Promise<void> {
  const user = freshUser();
  const login = await loginOf(gateway, user, PLATFORM[device.core]);
  await device.enter(login);
  const ids = await notify(gateway, user, 5);
  await device.isTold(ids);
  // A notice is in the store a moment after the app was told of it. The history is read after that.
  await device.historyIds(conversationOf(user));
  await end();
  ids.push(...(await notify(gateway, user, 5)));
  await device.enter(login);
  ids.push(...(await notify(gateway, user, 1)));
  await hasExactly(device, user, ids);
  context.diagnostic(`${ids.length} notices`);
}

test("native: kill -9 of the app costs nothing", async (context) => {
  const device = await deviceOf(context, "native");
  await survives(context, device, async () => {
    await device.kill();
    await device.start();
  });
});

test("wasm: a reload of the page costs nothing", { skip: !CORES.includes("wasm") }, async (context) => {
  const device = (await deviceOf(context, "wasm")) as PageDevice;
  await survives(context, device, () => device.reload());
});

test("js: a restart costs nothing that history does not have", async (context) => {
  const user = freshUser();
  const login = await loginOf(gateway, user, PLATFORM.js);
  const device = await deviceOf(context, "js");
  await device.enter(login);
  const ids = await notify(gateway, user, 5);
  await device.isTold(ids);
  await device.kill();
  ids.push(...(await notify(gateway, user, 5)));
  await device.start();
  await device.enter(login);
  const [last = ""] = await notify(gateway, user, 1);
  await device.isTold([last]);
  // The core keeps nothing: notices from before its login are history.
  assertSame(device.toldIds, [...ids.slice(0, 5), last], "told");
  assertSame(await device.historyIds(conversationOf(user)), [...ids, last], "history");
});
