// Unread counts and marks, on all devices of a user alike, whatever protocol each speaks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, MemoryStore } from "towncrier";
import { WebSocket } from "ws";
import { Inbox } from "../../client/test/support/waiting.ts";
import {
  assertSame,
  conversationOf,
  deviceOf,
  each,
  entered,
  eventually,
  freshUser,
  gatewayOfFile,
  loginOf,
  notify,
} from "./support/bench.ts";
import { IOS, PLATFORM } from "./support/device.ts";

const gateway = await gatewayOfFile();

/** Unread, as the admin API has it. */
async function unreadOf(user: string): Promise<number | undefined> {
  const { data } = await gateway.call("/conversation/list", { userID: user, beforeSeq: 0, limit: 10 });
  return (data.list as { unread: number }[])[0]?.unread;
}

each("what one device reads is read on the others", async (core, context) => {
  const user = freshUser();
  const conversation = conversationOf(user);
  const phone = await entered(context, "native", gateway, user, IOS);
  const login = await loginOf(gateway, user, PLATFORM[core]);
  const device = await deviceOf(context, core);
  await device.enter(login);
  const sent = await notify(gateway, user, 5);
  for (const one of [phone, device]) {
    await one.isTold(sent);
    await eventually("5 are unread", async () => (await one.unread(conversation)) === 5);
  }
  await device.markRead(conversation);
  await eventually("none is unread where it was read", async () => (await device.unread(conversation)) === 0);
  await eventually("none is unread on the phone", async () => (await phone.unread(conversation)) === 0);
  assert.equal(await unreadOf(user), 0);

  const more = await notify(gateway, user, 2);
  for (const one of [phone, device]) {
    await one.isTold(more);
    await eventually("2 are unread", async () => (await one.unread(conversation)) === 2);
  }
  await phone.markRead(conversation);
  // The core without a store takes a mark of its own user only when it logs in.
  if (core === "js") {
    await device.kill();
    await device.start();
    await device.enter(login);
  }
  await eventually("none is unread on the other", async () => (await device.unread(conversation)) === 0);
  assert.equal(await unreadOf(user), 0);
  assertSame(phone.toldIds, [...sent, ...more], "told");
});

test("an OpenIM session and one of towncrier.v1 of the same user are told alike and read for each other", async (context) => {
  const user = freshUser();
  const conversation = conversationOf(user);
  const login = await loginOf(gateway, user, IOS);
  const phone = await deviceOf(context, "native");
  await phone.enter(login);
  const token = await gateway.token(user);
  const client = new Client({ url: gateway.url, token, store: new MemoryStore(), WebSocket });
  context.after(() => client.stop());
  const inbox = new Inbox(client);
  let unread = -1;
  client.onConversations(([first]) => {
    unread = first?.unread ?? 0;
  });
  client.start();
  const sent = await notify(gateway, user, 6);
  gateway.cut();
  sent.push(...(await notify(gateway, user, 6)));
  await inbox.count(sent.length);
  await phone.isTold(sent);
  const ids = inbox.messages.map(({ clientMsgId }) => clientMsgId);
  assert.deepEqual(ids, sent);
  assertSame(phone.toldIds, sent, "told");
  const numbers = (await phone.history(conversation)).map(
    ({ clientMsgID, seq }) => `${clientMsgID} at ${seq}`,
  );
  assert.deepEqual(
    inbox.messages.map(({ clientMsgId, conversationSeq }) => `${clientMsgId} at ${conversationSeq}`),
    numbers,
  );

  // A core in Go takes any mark for all of its conversation, and counts anew when it logs in.
  await client.markRead(conversation, 4n);
  await eventually("the mark is kept", async () => (await unreadOf(user)) === 8);
  await phone.kill();
  await phone.start();
  await phone.enter(login);
  await eventually("8 are unread on the phone", async () => (await phone.unread(conversation)) === 8);
  await phone.markRead(conversation);
  await eventually("none is unread in the client", async () => unread === 0);
  assert.equal(await unreadOf(user), 0);
});
