// Logging in with each of OpenIM's cores: who is let in, who is thrown out, and what the app is told of it.
import assert from "node:assert/strict";
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
import { IOS, PLATFORM } from "./support/device.ts";

const gateway = await gatewayOfFile();

async function isOnline(gateway: Gateway, user: string): Promise<boolean> {
  const { data } = await gateway.call("/user/get_users_online_status", { userIDList: [user] });
  return (data as unknown as { status: string }[])[0]?.status === "online";
}

each("logs in, is online, and out again", async (core, context) => {
  const user = freshUser();
  const device = await entered(context, core, gateway, user);
  await device.hears("OnConnectSuccess");
  assert.ok(!device.callbacks.some(({ event }) => event === "OnSyncServerFailed"));
  await eventually("it is online", () => isOnline(gateway, user));
  await device.logout();
  await eventually("it is offline", async () => !(await isOnline(gateway, user)));
});

each("a second login with another token throws the older one out, for good", async (core, context) => {
  const user = freshUser();
  const older = await entered(context, core, gateway, user);
  const newer = await entered(context, core, gateway, user);
  await older.hears("OnKickedOffline");
  const sent = await notify(gateway, user, 2);
  await newer.isTold(sent);
  assertSame(newer.toldIds, sent, "told");
  assertSame(older.toldIds, [], "told");
  assert.ok(!newer.callbacks.some(({ event }) => event === "OnKickedOffline"));
});

each("a second login with the same token throws the older one out, for good", async (core, context) => {
  const user = freshUser();
  const login = await loginOf(gateway, user, PLATFORM[core]);
  const older = await deviceOf(context, core);
  await older.enter(login);
  const newer = await deviceOf(context, core);
  await newer.enter(login);
  await older.hears("OnKickedOffline");
  const sent = await notify(gateway, user, 2);
  await newer.isTold(sent);
  assertSame(newer.toldIds, sent, "told");
  assert.ok(!newer.callbacks.some(({ event }) => event === "OnKickedOffline"));
});

test("devices on two platforms are both told", async (context) => {
  const user = freshUser();
  const windows = await entered(context, "native", gateway, user);
  const phone = await entered(context, "native", gateway, user, IOS);
  const sent = await notify(gateway, user, 3);
  for (const device of [windows, phone]) {
    await device.isTold(sent);
    assertSame(device.toldIds, sent, "told");
    assertSame(await device.historyIds(conversationOf(user)), sent, "history");
  }
});

each("a wrong token is said to be invalid", async (core, context) => {
  const user = freshUser();
  const login = await loginOf(gateway, user, PLATFORM[core]);
  const device = await deviceOf(context, core);
  // Where the call itself fails, the callback comes all the same.
  await device.login({ ...login, token: `${login.token}x` }).catch(() => {});
  await device.hears("OnUserTokenInvalid");
});

each("an expired token is said to be expired", async (core, context) => {
  const own = await gatewayOf(context, "auth.token_lifetime=1s");
  const user = freshUser();
  const login = await loginOf(own, user, PLATFORM[core]);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const device = await deviceOf(context, core);
  await device.login(login).catch(() => {});
  await device.hears("OnUserTokenExpired");
});
