// Reads by a seed: a gateway that forgets, and two devices that come, read and go, in any order.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Client, Gap_Reason, MemoryStore } from "../src/index.ts";
import { seeded } from "./support/messages.ts";
import { ScriptedGateway } from "./support/scripted.ts";

const SEEDS = 20;
const STEPS = 80;
const IDS = ["a", "b", "c"];

/** A device of the user: process after process on one store. */
class Device {
  readonly store = new MemoryStore({ entriesMax: 100_000 });
  readonly #gateway: ScriptedGateway;
  client!: Client;
  /** The marks of the log that the store is in, by conversation. */
  #epoch = 0n;
  #marks = new Map<string, bigint>();

  isAway = true;

  constructor(gateway: ScriptedGateway) {
    this.#gateway = gateway;
    this.start();
  }

  /** The next process. */
  start(): void {
    this.isAway = false;
    this.client = new Client({
      url: "ws://gateway/ws",
      token: "t",
      store: this.store,
      fromOldest: true,
      WebSocket: this.#gateway.Socket,
    });
    this.client.start();
  }

  async stop(): Promise<void> {
    this.isAway = true;
    await this.client.stop();
  }

  /** Marks only move forward within a log. */
  async checkMarks(): Promise<void> {
    const { epoch } = await this.store.position();
    if (epoch !== this.#epoch) this.#marks = new Map();
    this.#epoch = epoch;
    for (const { id, mark } of await this.client.conversations()) {
      const before = this.#marks.get(id) ?? 0n;
      assert.ok(mark >= before, `the mark in ${id} went back from ${before} to ${mark}`);
      this.#marks.set(id, mark);
    }
  }

  /** Everything landed or was told to be gone, and no gap was told that held marks alone. */
  async checkMessages(): Promise<void> {
    const entries = await this.store.history({ limit: 1_000_000 });
    const ids = new Set(entries.map((entry) => (entry.kind === "message" ? entry.message.serverMsgId : "")));
    const gaps = entries.flatMap((entry) =>
      entry.kind === "gap" && entry.epoch === this.#gateway.epoch ? entry.gap : [],
    );
    for (const { seq, serverMsgId } of this.#gateway.messages) {
      const isGone = gaps.some(({ fromSeq, toSeq }) => fromSeq <= seq && seq <= toSeq);
      assert.ok(isGone || ids.has(serverMsgId), `seq ${seq} went in silence`);
    }
    for (const { fromSeq, toSeq, reason } of gaps) {
      const held = this.#gateway.messages.some(({ seq }) => fromSeq <= seq && seq <= toSeq);
      assert.ok(held || reason === Gap_Reason.EPOCH_CHANGED, `${fromSeq} to ${toSeq} held marks alone`);
    }
  }

  /** Each conversation as `mark of head`, with what is unread where that is asked for. */
  async state(withUnread: boolean): Promise<Record<string, string>> {
    const all = await this.client.conversations();
    return Object.fromEntries(all.map((one) => [one.id, outline(one, withUnread)]));
  }
}

function outline(
  { mark, head, unread }: { mark: bigint; head: bigint; unread: number },
  withUnread: boolean,
) {
  return `${mark} of ${head}${withUnread ? `, ${unread} unread` : ""}`;
}

async function live(seed: number, pass: (ms: number) => Promise<void>): Promise<void> {
  const random = seeded(seed);
  const below = (end: number) => Math.floor(random() * end);
  const gateway = new ScriptedGateway();
  gateway.pageMax = 1 + below(3);
  const devices = [new Device(gateway), new Device(gateway)] as const;
  const anyId = () => IDS[below(IDS.length)] ?? "";
  const step = async () => {
    const chance = below(100);
    const device = devices[below(2)] ?? devices[0];
    if (chance < 35) gateway.notify(anyId());
    else if (chance < 50) gateway.read(anyId(), BigInt(1 + below(8)));
    else if (chance < 70) await device.client.markRead(anyId(), BigInt(1 + below(8)));
    else if (chance < 75) gateway.cut();
    else if (chance < 90) await (device.isAway ? device.start() : device.stop());
    else if (chance < 98) gateway.expire(below(12));
    else gateway.beginAnew();
  };
  const expected = (withUnread: boolean) =>
    Object.fromEntries(gateway.list().map((one) => [one.conversationId, outline(one, withUnread)]));
  for (let steps = 0; steps < STEPS; steps += 1) {
    await step();
    await pass(below(3) * 200);
    for (const device of devices) await device.checkMarks();
  }
  for (const device of devices) if (device.isAway) device.start();
  await pass(60_000);
  for (const device of devices) {
    assert.equal(device.client.status.state, "live");
    assert.deepEqual(await device.state(false), expected(false));
    await device.checkMessages();
    // The next process counts the messages that retention removed since.
    await device.stop();
    device.start();
    await pass(1_000);
    assert.deepEqual(await device.state(true), expected(true));
    await device.stop();
  }
}

test("marks, counts and gaps are the gateway's, whatever comes when", async (context: TestContext) => {
  let now = 0;
  context.mock.method(performance, "now", () => now);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const pass = async (ms: number) => {
    for (let turns = 0; turns < 30; turns += 1) await new Promise(setImmediate);
    // A timer that is set by one that rings needs a moment of its own.
    for (let passed = 0; passed < ms; passed += 1_000) {
      const part = Math.min(1_000, ms - passed);
      now += part;
      context.mock.timers.tick(part);
      for (let turns = 0; turns < 30; turns += 1) await new Promise(setImmediate);
    }
  };
  const start = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  for (let seed = start; seed < start + SEEDS; seed += 1) {
    try {
      await live(seed, pass);
    } catch (error) {
      throw new Error(`SEED=${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  }
});
