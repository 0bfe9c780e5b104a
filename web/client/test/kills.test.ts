// P5 under kill -9 of all sides: each accepted message is in both clients' stores once, in order, whatever was killed when. The
// clients read by turns: marks never go back, and those of each reach the other.
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
/** Platforms by number: a user has one session on each. */
const [IOS, WEB] = [1, 5];

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

/** A client's process, life after life on one store. */
class Listener {
  readonly file: string;
  readonly #args: string[];
  #process!: ChildProcess;
  #lines!: Interface;
  /** Messages that were handed out, and the last one's place in the conversation. */
  #handedOut = 0;
  #conversationSeq = 0;
  /** Of the conversation, as last heard. */
  #mark = 0;
  #unread = 0;

  /** It reads the odd messages of the conversation where `reads` is 1, else the even ones. */
  constructor(url: string, token: string, reads: 0 | 1) {
    this.file = join(folder, `${reads}.log`);
    this.#args = [program, url, token, this.file, String(reads)];
    this.restart();
  }

  restart(): void {
    this.#process = spawn(process.execPath, this.#args, { stdio: ["ignore", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream as never });
    let before = 0;
    this.#lines.on("line", (line) => {
      const [first, ...numbers] = line.split(" ");
      if (first === "read") {
        const [mark = 0, unread = 0] = numbers.map(Number);
        if (mark < this.#mark) throw new Error(`a mark went back from ${this.#mark} to ${mark}`);
        [this.#mark, this.#unread] = [mark, unread];
        return;
      }
      const place = Number(first);
      if (place <= before) throw new Error(`one life handed out place ${place} after ${before}`);
      before = place;
      this.#handedOut += 1;
      this.#conversationSeq = Number(numbers[0]);
    });
  }

  /** Resolves when it has handed out `count` more. */
  async handedOut(count: number): Promise<void> {
    const wanted = this.#handedOut + count;
    await this.#until(`${count} messages`, () => this.#handedOut >= wanted);
  }

  /** Resolves when it has handed out the message at this place in the conversation, and knows all of it to be read. */
  async knowsAllRead(conversationSeq: number): Promise<void> {
    const isSo = () => this.#conversationSeq >= conversationSeq && this.#mark >= conversationSeq;
    await this.#until(`${conversationSeq} read messages`, () => isSo() && this.#unread === 0);
  }

  async kill(): Promise<void> {
    if (this.#process.signalCode !== null) return;
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
  }

  async #until(what: string, isSo: () => boolean): Promise<void> {
    while (!isSo()) await within(what, once(this.#lines, "line"));
  }
}

/** Each entry of a store, as the sender's id and the place in the conversation. */
async function landedIn(file: string): Promise<string[]> {
  const store = await FileStore.open(file);
  const entries = await store.history({ limit: 1_000_000 });
  await store.close();
  return entries.map((entry) =>
    entry.kind === "gap" ? "gap" : `${entry.message.clientMsgId} at ${entry.message.conversationSeq}`,
  );
}

test(`${ROUNDS} kills of the gateway and as many of each client lose and repeat nothing`, async (context) => {
  const gateway = await Gateway.start();
  context.after(() => gateway.close());
  const listeners = [
    new Listener(gateway.url, await gateway.token(USER, WEB), 0),
    new Listener(gateway.url, await gateway.token(USER, IOS), 1),
  ];
  context.after(() => Promise.all(listeners.map((listener) => listener.kill())));
  const sender = new Sender(gateway, USER);
  sender.start();
  const someMessages = () => 1 + Math.floor(Math.random() * MESSAGES_BETWEEN_MAX);
  for (let round = 0; round < ROUNDS; round += 1) {
    await listeners[0]?.handedOut(someMessages());
    await gateway.kill();
    await gateway.restart();
    for (const listener of listeners) {
      await listener.handedOut(someMessages());
      await listener.kill();
      listener.restart();
    }
  }
  await sender.stop();
  const expected = sender.accepted.map((id, index) => `${id} at ${index + 1}`);
  // The last mark is known where it was made before the gateway has it: nobody is killed until the other knows it too.
  await Promise.all(listeners.map((listener) => listener.knowsAllRead(expected.length)));
  for (const listener of listeners) {
    await listener.kill();
    assert.deepEqual(await landedIn(listener.file), expected);
  }
  const { data } = await gateway.call("/conversation/list", { userID: USER, beforeSeq: 0, limit: 10 });
  const [listed] = data.list as { head: number; mark: number; unread: number }[];
  assert.deepEqual([listed?.head, listed?.mark, listed?.unread], [expected.length, expected.length, 0]);
  context.diagnostic(`${expected.length} accepted, lost 0, duplicated 0`);
});
