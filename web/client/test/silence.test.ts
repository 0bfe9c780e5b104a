// A gateway that is there and says nothing is left, and come back to.
import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "ws";
import { ServerFrame } from "../src/gen/towncrier/v1/gateway.ts";
import { Client, MemoryStore } from "../src/index.ts";
import { Session } from "../src/session.ts";
import { Gateway } from "./support/gateway.ts";
import { status } from "./support/waiting.ts";

/** A socket to a gateway that answers `Connect`, with a heartbeat of one second, and says nothing more. */
class SilentSocket {
  binaryType = "";
  readyState = 1;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: ArrayBuffer }) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  #isGreeted = false;

  constructor() {
    setImmediate(() => this.onopen?.());
  }

  send(): void {
    if (this.#isGreeted) return;
    this.#isGreeted = true;
    const value = {
      connectionId: "c",
      epoch: 7n,
      cursor: 0n,
      head: 0n,
      first: 1n,
      heartbeatMs: 1_000,
      window: 256,
    };
    const connected = { ...value, serverTimeMs: 0n, userId: "alice", platform: 5, features: 0n };
    const { buffer } = ServerFrame.encode({ body: { $case: "connected", value: connected } })
      .finish()
      .slice();
    setImmediate(() => this.onmessage?.({ data: buffer as ArrayBuffer }));
  }

  close(): void {}
}

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

test("the silence is noticed at its end and not at the next ping", async (context) => {
  let now = 0;
  context.mock.method(performance, "now", () => now);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  for (const random of [0.1, 0.5, 0.9]) {
    context.mock.method(Math, "random", () => random);
    const began = now;
    const stop = new AbortController();
    let lostAt: number | undefined;
    const session = new Session(
      {
        url: "ws://gateway/ws",
        token: "t",
        deviceId: "",
        name: "test/1",
        fromOldest: false,
        Socket: SilentSocket,
      },
      new MemoryStore(),
      {
        stored: () => {},
        onlineOnly: () => {},
        status: ({ state }) => {
          if (state === "reconnecting") lostAt ??= now;
        },
      },
    );
    const run = session.run(stop.signal);
    while (lostAt === undefined) {
      // The session's promises go on before the next moment.
      await new Promise(setImmediate);
      now += 100;
      context.mock.timers.tick(100);
      assert.ok(now - began <= 10_000, "nothing was noticed");
    }
    const silence = now - began;
    assert.ok(silence >= 2_500 && silence <= 2_900, `${silence} ms`);
    stop.abort();
    await run;
  }
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
