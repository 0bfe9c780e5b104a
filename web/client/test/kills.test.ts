// P5 under kill -9 of both sides: each accepted message is in the client's store once, in order, whatever was killed when. And
// the client reads each: marks never go back, and reach the gateway and the store.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { FileStore } from "../src/node.ts";
import { Gateway } from "./support/gateway.ts";
import { Sender } from "./support/sender.ts";
import { within } from "./support/waiting.ts";

/** Kills of each kind. */
const ROUNDS = Number(process.env.KILLS ?? 20);
/** A kill comes after up to so many further messages were handed out. */
const MESSAGES_BETWEEN_MAX = 20;
const USER = "alice";

const folder = await mkdtemp(join(tmpdir(), "towncrier-kills-"));
after(() => rm(folder, { recursive: true }));
// Built once, so that a life begins in a tenth of a second. Beside the sources, where its packages are found.
const program = fileURLToPath(new URL(`../dist/listener-${process.pid}.mjs`, import.meta.url));
after(() => rm(program));
await build({
  entryPoints: [fileURLToPath(new URL("support/listener.ts", import.meta.url))],
  outfile: program,
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
});

/** The client's process, life after life on one store. */
class Listener {
  readonly file = join(folder, "web.log");
  readonly #args: string[];
  #process!: ChildProcess;
  #lines!: Interface;
  /** Handed out last, by its place in the conversation. */
  #conversationSeq = 0;

  constructor(url: string, token: string) {
    this.#args = [program, url, token, this.file];
    this.restart();
  }

  restart(): void {
    this.#process = spawn(process.execPath, this.#args, { stdio: ["ignore", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream as never });
    let before = 0;
    this.#lines.on("line", (line) => {
      const [place = 0, conversationSeq = 0] = line.split(" ").map(Number);
      if (place <= before) throw new Error(`one life handed out place ${place} after ${before}`);
      before = place;
      this.#conversationSeq = conversationSeq;
    });
  }

  /** Resolves when it has handed out `count` more. */
  async handedOut(count: number): Promise<void> {
    for (let left = count; left > 0; left -= 1) await within("a message", once(this.#lines, "line"));
  }

  /** Resolves when it has handed out the message at this place in the conversation. */
  async handedOutUpTo(conversationSeq: number): Promise<void> {
    while (this.#conversationSeq < conversationSeq) await this.handedOut(1);
  }

  async kill(): Promise<void> {
    if (this.#process.signalCode !== null) return;
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
  }
}

/** The user's mark in the only conversation. */
async function markAt(gateway: Gateway): Promise<number> {
  const { data } = await gateway.call("/conversation/list", { userID: USER, beforeSeq: 0, limit: 10 });
  const [conversation] = data.list as { mark: number }[];
  return conversation?.mark ?? 0;
}

test(`${ROUNDS} kills of the gateway and as many of the client lose and repeat nothing`, async (context) => {
  const gateway = await Gateway.start();
  context.after(() => gateway.close());
  const listener = new Listener(gateway.url, await gateway.token(USER));
  context.after(() => listener.kill());
  const sender = new Sender(gateway, USER);
  sender.start();
  const someMessages = () => 1 + Math.floor(Math.random() * MESSAGES_BETWEEN_MAX);
  let mark = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    await listener.handedOut(someMessages());
    await gateway.kill();
    await gateway.restart();
    const before = mark;
    mark = await markAt(gateway);
    assert.ok(mark >= before, `a mark went back from ${before} to ${mark}`);
    await listener.handedOut(someMessages());
    await listener.kill();
    listener.restart();
  }
  await sender.stop();
  await listener.handedOutUpTo(sender.accepted.length);
  const marked = (async () => {
    while ((await markAt(gateway)) < sender.accepted.length);
  })();
  await within("the last mark", marked);
  await listener.kill();

  const store = await FileStore.open(listener.file);
  const landed = await store.history({ limit: 1_000_000 });
  const [conversation] = await store.conversations();
  await store.close();
  const ids = landed.map((entry) => (entry.kind === "message" ? entry.message.clientMsgId : "gap"));
  const seqs = landed.map((entry) => (entry.kind === "message" ? entry.message.conversationSeq : 0n));
  assert.deepEqual(ids, sender.accepted);
  assert.deepEqual(
    seqs,
    ids.map((_, index) => BigInt(index + 1)),
  );
  assert.deepEqual([conversation?.mark, conversation?.unread], [BigInt(ids.length), 0]);
  context.diagnostic(`${ids.length} accepted, lost 0, duplicated 0`);
});
