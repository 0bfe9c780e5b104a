// A gateway that is there and says nothing is left, and come back to.
import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "ws";
import { Client, MemoryStore } from "../src/index.ts";
import { Gateway } from "./support/gateway.ts";
import { status } from "./support/waiting.ts";

/** A live client of a gateway with this heartbeat. */
async function liveClient(heartbeat: string) {
  const gateway = await Gateway.start(`sessions.heartbeat=${heartbeat}`);
  const client = new Client({
    url: gateway.url,
    token: await gateway.token("alice"),
    store: new MemoryStore(),
    WebSocket,
  });
  client.start();
  await status(client, "live");
  const close = async () => {
    await client.stop();
    await gateway.close();
  };
  return { gateway, client, close };
}

test("two and a half heartbeats without a word", async (context) => {
  const { gateway, client, close } = await liveClient("1s");
  context.after(close);
  gateway.freeze();
  assert.equal((await status(client, "reconnecting")).text, "the gateway is silent");
  gateway.thaw();
  await status(client, "live");
});

test("when the network changes, seconds are enough to find out", async (context) => {
  const page = new EventTarget();
  const { addEventListener, removeEventListener } = globalThis;
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  // Two and a half of these are more than this test waits for.
  const { gateway, client, close } = await liveClient("60s");
  context.after(close);
  context.after(() => Object.assign(globalThis, { addEventListener, removeEventListener }));
  gateway.freeze();
  page.dispatchEvent(new Event("offline"));
  assert.equal((await status(client, "reconnecting")).text, "the gateway is silent");
  gateway.thaw();
  page.dispatchEvent(new Event("online"));
  await status(client, "live");
});
