// P5 under kill -9 of the gateway and of the whole browser: each accepted message is in IndexedDB once, in order, and read.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import type { Message } from "towncrier";
import { Gateway } from "../../client/test/support/gateway.ts";
import { Sender } from "../../client/test/support/sender.ts";
import { LAUNCH, PATIENCE_MS, until } from "../support/browser.ts";

/** Kills of each kind. */
const ROUNDS = Number(process.env.KILLS ?? 5);
/** A kill comes after up to so many further messages landed. */
const MESSAGES_BETWEEN_MAX = 20;
const USER = "alice";

/** A browser, life after life on one profile, with the inbox open. */
class Browser {
  readonly #folder: string;
  readonly #origin: string;
  #context!: BrowserContext;
  #page!: Page;

  constructor(folder: string, origin: string) {
    this.#folder = folder;
    this.#origin = origin;
  }

  /**
   * Opens the page. Signed in it is from the first life on, unless the kill came within the seconds that the browser takes to
   * bring a sign-in to its disk: then it is signed in again, and goes on with what has landed.
   */
  async start(token: string): Promise<void> {
    this.#context = await chromium.launchPersistentContext(this.#folder, { ...LAUNCH, locale: "en-GB" });
    this.#context.setDefaultTimeout(PATIENCE_MS);
    await this.#context.addInitScript("globalThis.__name = (named) => named");
    this.#page = this.#context.pages()[0] ?? (await this.#context.newPage());
    await this.#page.goto(this.#origin);
    const form = this.#page.getByLabel("Access token");
    await form.or(this.#page.getByRole("navigation")).first().waitFor();
    if (!(await form.isVisible())) return;
    await form.fill(token);
    await this.#page.getByRole("button", { name: "Sign in" }).click();
    await this.#page.getByText("Up to date").waitFor();
  }

  /** Kill -9 of the browser's first process, with which all others end. */
  async kill(): Promise<void> {
    const session = await this.#context.browser()?.newBrowserCDPSession();
    const { processInfo } = (await session?.send("SystemInfo.getProcessInfo")) ?? { processInfo: [] };
    const { id } =
      processInfo.find(({ type }) => type === "browser") ?? assert.fail("the browser has no process");
    const gone = new Promise<void>((resolve) => {
      this.#context.once("close", () => resolve());
    });
    process.kill(id, "SIGKILL");
    await gone;
  }

  async close(): Promise<void> {
    await this.#context.close();
  }

  /** Resolves when `count` more have landed. */
  async lands(count: number): Promise<void> {
    const wanted = (await this.cursor()) + count;
    await until(`seq ${wanted} lands`, async () => (await this.cursor()) >= wanted);
  }

  /** The seq up to which all has landed. */
  async cursor(): Promise<number> {
    const position = await this.#read<{ cursor: bigint } | undefined>("state", "position");
    return Number(position?.cursor ?? 0);
  }

  /** clientMsgIDs in the order in which they landed, each with its place in the conversation. */
  async landed(): Promise<string[]> {
    const entries = await this.#read<{ kind: string; message: Message }[]>("entries");
    return entries.map(({ kind, message }) =>
      kind === "gap" ? kind : `${message.clientMsgId} at ${message.conversationSeq}`,
    );
  }

  /** A row of a table of the page's database, or all of them. The page must have made it. */
  async #read<T>(table: string, key?: string): Promise<T> {
    const read = async ([database, table, key]: (string | undefined)[]): Promise<T> => {
      const done = <T>(request: IDBRequest<T>) =>
        new Promise<T>((resolve, reject) => {
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
      const open = await done(indexedDB.open(database ?? ""));
      const rows = open.transaction(table ?? "").objectStore(table ?? "");
      const found = await done(key ? rows.get(key) : rows.getAll());
      open.close();
      return found;
    };
    return this.#page.evaluate(read, [`towncrier/${USER}/Web`, table, key]);
  }
}

test(`${ROUNDS} kills of the gateway and as many of the browser lose and repeat nothing`, async (context) => {
  const folder = await mkdtemp(join(tmpdir(), "towncrier-browser-"));
  const gateway = await Gateway.start();
  const browser = new Browser(folder, gateway.origin);
  context.after(async () => {
    await browser.close();
    await gateway.close();
    await rm(folder, { recursive: true, force: true });
  });
  const token = await gateway.token(USER);
  await browser.start(token);
  const sender = new Sender(gateway, USER);
  sender.start();
  const someMessages = () => 1 + Math.floor(Math.random() * MESSAGES_BETWEEN_MAX);
  for (let round = 0; round < ROUNDS; round += 1) {
    await browser.lands(someMessages());
    await gateway.kill();
    await gateway.restart();
    await browser.lands(someMessages());
    await browser.kill();
    await browser.start(token);
  }
  await sender.stop();
  const expected = sender.accepted.map((id, index) => `${id} at ${index + 1}`);
  await until("all has landed", async () => (await browser.landed()).length >= expected.length);
  assert.deepEqual(await browser.landed(), expected);
  // The notices are on the screen.
  await until("all of it is read", async () => {
    const { data } = await gateway.call("/conversation/list", { userID: USER, beforeSeq: 0, limit: 10 });
    const [listed] = data.list as { head: number; mark: number; unread: number }[];
    return listed?.head === expected.length && listed.mark === listed.head && listed.unread === 0;
  });
  context.diagnostic(`${expected.length} accepted, lost 0, duplicated 0`);
});
