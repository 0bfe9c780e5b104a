// P5 and P6 by a seed: a gateway, a wire that loses and repeats, and a client that crashes around its commit, in any order.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Gap, Gap_Reason, type Message } from "../src/gen/towncrier/v1/gateway.ts";
import { emptyBatch, Landing, Misled } from "../src/landing.ts";
import { MemoryStore } from "../src/memory.ts";
import { connected, gap, message, seeded } from "./support/messages.ts";

const SEEDS = 200;
const STEPS = 500;

type Frame = { push: Message[] } | { gap: Gap };

class World {
  readonly #random: () => number;
  readonly store = new MemoryStore({ entriesMax: 100_000 });
  landing = new Landing({ epoch: 0n, cursor: 0n });
  epoch = 1n;
  head = 0n;
  first = 1n;
  /** Of the present connection: the highest seq sent, and what is on the wire. */
  sent = 0n;
  wire: Frame[] = [];
  /** Announced as gone: of log, from, to. */
  gone: [bigint, bigint, bigint][] = [];

  constructor(seed: number) {
    this.#random = seeded(seed);
  }

  /** From `low` to `high`. */
  between(low: bigint | number, high: bigint | number): bigint {
    return BigInt(low) + BigInt(Math.floor(this.#random() * (Number(high) - Number(low) + 1)));
  }

  /** A new connection, maybe by a process that lost all it had not committed. */
  async connect(): Promise<void> {
    this.wire = [];
    this.landing = new Landing(await this.store.position());
    const connect = this.landing.connect({ token: "", deviceId: "", name: "" }, this.between(0, 1) === 0n);
    const cursor = connect.cursor ?? this.first - 1n;
    const isForeign = connect.epoch !== 0n && (connect.epoch !== this.epoch || cursor > this.head);
    this.sent = isForeign || cursor < this.first - 1n ? this.first - 1n : cursor;
    const beginning = this.landing.connected(connected(this.epoch, this.sent, this.head));
    if (beginning) await this.store.moveTo(beginning);
    if (isForeign) this.wire.push({ gap: gap(1n, this.first - 1n, Gap_Reason.EPOCH_CHANGED) });
    else if (cursor < this.sent) this.wire.push({ gap: gap(cursor + 1n, this.sent) });
  }

  /** The server sends from its cursor on: a gap where retention was faster, then messages. */
  send(): void {
    if (this.sent + 1n < this.first) {
      this.wire.push({ gap: gap(this.sent + 1n, this.first - 1n) });
      this.sent = this.first - 1n;
    }
    const messages: Message[] = [];
    for (let left = this.between(1, 4); left > 0n && this.sent < this.head; left -= 1n) {
      this.sent += 1n;
      messages.push(message(this.sent, `${this.epoch}-${this.sent}`));
    }
    this.wire.push({ push: messages });
  }

  /** The client takes the next frame off the wire; it may crash before the commit, or after it, before the ack. */
  async receive(mayCrash: boolean): Promise<void> {
    const crash = mayCrash ? this.between(0, 19) : 2n;
    const frame = this.wire.shift();
    if (!frame) return;
    if ("gap" in frame) return this.#receiveGap(frame.gap);
    const batch = emptyBatch();
    this.landing.push({ messages: frame.push }, batch);
    if (crash === 0n) return this.connect();
    await this.store.land(this.landing.position.epoch, batch.land);
    if (crash === 1n) return this.connect();
    const { cursor } = await this.store.position();
    assert.ok((batch.ack ?? 0n) <= cursor, "an ack ahead of the store");
    if (batch.resend !== undefined) this.sent = batch.resend;
  }

  async #receiveGap(gap: Gap): Promise<void> {
    try {
      const position = this.landing.gap(gap);
      if (!position) return;
      this.gone.push([this.epoch, gap.fromSeq, gap.toSeq]);
      await this.store.moveTo(position, gap);
    } catch (error) {
      // A gap beyond a hole: the client comes back.
      assert.ok(error instanceof Misled);
      await this.connect();
    }
  }

  async step(): Promise<void> {
    const chance = this.between(0, 99);
    if (chance < 25) this.head += this.between(1, 3);
    else if (chance < 55) this.send();
    else if (chance < 85) await this.receive(true);
    else if (chance < 89) this.#loseAPush();
    else if (chance < 93) await this.#rewind();
    else if (chance < 96) await this.connect();
    else if (chance < 99) this.first = this.between(this.first, this.head + 1n);
    else await this.#restore();
  }

  #loseAPush(): void {
    const [next] = this.wire;
    if (next && "push" in next) this.wire.shift();
  }

  /** To what was acked. */
  async #rewind(): Promise<void> {
    const { cursor } = await this.store.position();
    if (cursor < this.sent) this.sent = cursor;
  }

  /** Another log takes the place of this one. */
  async #restore(): Promise<void> {
    this.epoch += 1n;
    this.head = this.between(0, 9);
    this.first = this.between(1, this.head + 1n);
    await this.connect();
  }

  /** The rest arrives undisturbed. */
  async settle(): Promise<void> {
    await this.connect();
    while ((await this.store.position()).cursor < this.head || this.wire.length > 0) {
      if (this.sent < this.head) this.send();
      await this.receive(false);
    }
  }
}

async function checkEachLandedOnceInOrder(world: World): Promise<void> {
  const entries = await world.store.history({ limit: 1_000_000 });
  const landed = new Map<bigint, bigint[]>();
  for (const entry of entries) {
    if (entry.kind !== "message") continue;
    assert.equal(entry.message.serverMsgId, `${entry.epoch}-${entry.message.seq}`);
    landed.set(entry.epoch, [...(landed.get(entry.epoch) ?? []), entry.message.seq]);
  }
  for (const [epoch, seqs] of landed) {
    for (const [index, seq] of seqs.entries()) {
      assert.ok(index === 0 || seq > (seqs[index - 1] ?? 0n), `epoch ${epoch}: ${seq} twice or out of order`);
    }
  }
  const ofLast = new Set(landed.get(world.epoch));
  for (let seq = world.first; seq <= world.head; seq += 1n) {
    const isGone = world.gone.some(([epoch, from, to]) => epoch === world.epoch && from <= seq && seq <= to);
    assert.ok(isGone || ofLast.has(seq), `seq ${seq} went in silence`);
  }
}

test("whatever is lost, repeated or crashed, each message lands once, in order", async () => {
  const start = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  for (let seed = start; seed < start + SEEDS; seed += 1) {
    const world = new World(seed);
    try {
      await world.connect();
      for (let step = 0; step < STEPS; step += 1) await world.step();
      await world.settle();
      await checkEachLandedOnceInOrder(world);
    } catch (error) {
      throw new Error(`SEED=${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  }
});
