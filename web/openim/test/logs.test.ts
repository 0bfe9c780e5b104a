// The SDKs' own logs: an app's developer reads them first when something is wrong. Each warning and each error in them is one that
// docs/openim.md explains.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { conversationOf, each, entered, eventually, freshUser, gatewayOf, notify } from "./support/bench.ts";

/** Lines that the table explains for this core: each has all texts of a row. */
async function explained(core: string): Promise<string[][]> {
  const page = await readFile(new URL("../../../docs/openim.md", import.meta.url), "utf8");
  const section =
    page.split(/^## /m).find((part) => part.startsWith("What the SDKs' logs call errors\n")) ?? "";
  const rows = section.matchAll(/^\| (`[^|]+`) \| ([^|]*) \|/gm);
  const own = [...rows].filter(([, , cores]) => cores?.includes(core));
  return own.map(([, texts]) => [...(texts ?? "").matchAll(/`([^`]+)`/g)].map(([, text]) => text as string));
}

each("its log has no error that is not explained", async (core, context) => {
  const gateway = await gatewayOf(context, "log.segment_bytes=65536", "log.retention_bytes=131072");
  const user = freshUser();
  const conversation = conversationOf(user);
  const device = await entered(context, core, gateway, user);
  // Notices, one of them online-only, and what an app asks for.
  const ids = await notify(gateway, user, 5);
  await notify(gateway, user, 1, { isOnlineOnly: true });
  await device.isTold(ids);
  await device.historyIds(conversation);
  await device.call("subscribeUsersStatus", [user, "somebody"]);
  await device.markRead(conversation);
  await eventually("nothing is unread", async () => (await device.unread(conversation)) === 0);
  await device.call("setConversation", { conversationID: conversation, isPinned: true });
  // A link that breaks twice within five seconds.
  for (let breaks = 0; breaks < 2; breaks += 1) {
    const before = device.callbacks.length;
    gateway.shutOut();
    ids.push(...(await notify(gateway, user, 4)));
    gateway.letIn();
    await device.hears("OnConnectSuccess", before);
  }
  await device.isTold(ids);
  // Kill -9 of the gateway.
  let before = device.callbacks.length;
  await gateway.kill();
  await gateway.restart();
  ids.push(...(await notify(gateway, user, 3)));
  await device.hears("OnConnectSuccess", before);
  await device.isTold(ids);
  // A gap: retention removed what came while it was away.
  before = device.callbacks.length;
  gateway.shutOut();
  const large = { content: { ex: "x".repeat(6_000) } };
  const missed = await notify(gateway, user, 60, large);
  await eventually("retention left a part", async () => {
    const { data } = await gateway.call("/conversation/list", { userID: user, beforeSeq: 0, limit: 1 });
    return ((data.list as { first: number }[])[0]?.first ?? 0) > ids.length;
  });
  gateway.letIn();
  await device.isTold(missed.slice(-1));
  await device.historyIds(conversation);
  await device.logout();

  const rows = await explained(core);
  const complaints = await device.complaints();
  const isExplained = (line: string) => rows.some((texts) => texts.every((text) => line.includes(text)));
  const strange = complaints.filter((line) => !isExplained(line));
  context.diagnostic(`${complaints.length - strange.length} lines are explained`);
  assert.deepEqual(strange, []);
});
