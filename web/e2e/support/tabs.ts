// Chromium whose tabs go to the background as they do for a user: Playwright holds every page for the one in front, and such
// a page is never frozen. So this speaks the DevTools protocol itself, as little of it as is needed.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { LAUNCH, until } from "./browser.ts";

/** A reply of the protocol. */
interface Reply {
  id?: number;
  result?: Record<string, unknown>;
  error?: { message: string };
}

/** A browser with a profile of its own. */
export class Tabs {
  readonly #process: ChildProcess;
  readonly #folder: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #calls = 0;

  private constructor(process: ChildProcess, folder: string, socket: WebSocket) {
    this.#process = process;
    this.#folder = folder;
    this.#socket = socket;
    socket.on("message", (data) => {
      const reply: Reply = JSON.parse(String(data));
      this.#waiting.get(reply.id ?? 0)?.(reply);
    });
  }

  static async launch(): Promise<Tabs> {
    const folder = await mkdtemp(join(tmpdir(), "towncrier-tabs-"));
    const child = spawn(
      LAUNCH.executablePath,
      [
        ...LAUNCH.args,
        "--headless=new",
        "--remote-debugging-port=0",
        `--user-data-dir=${folder}`,
        "--lang=en-GB",
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    let address: string | undefined;
    const lines = createInterface({ input: child.stderr });
    lines.on("line", (line) => (address ??= /^DevTools listening on (\S+)/.exec(line)?.[1]));
    await until("Chromium listens", async () => address !== undefined);
    const socket = new WebSocket(address ?? "");
    await once(socket, "open");
    return new Tabs(child, folder, socket);
  }

  /** Opens a tab, in front of the others. */
  async open(url: string): Promise<Tab> {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    const tab = new Tab((method, params) => this.call(method, params, String(sessionId)));
    await tab.call("Page.navigate", { url });
    return tab;
  }

  async call(
    method: string,
    params: object = {},
    sessionId: string | undefined = undefined,
  ): Promise<Record<string, unknown>> {
    this.#calls += 1;
    const id = this.#calls;
    const replied = new Promise<Reply>((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    const { result, error } = await replied;
    this.#waiting.delete(id);
    if (!result) throw new Error(`${method}: ${error?.message}`);
    return result;
  }

  async close(): Promise<void> {
    const exited = once(this.#process, "exit");
    this.#process.kill();
    await exited;
    await rm(this.#folder, { recursive: true, maxRetries: 5 });
  }
}

/** One tab. */
export class Tab {
  readonly call: (method: string, params?: object) => Promise<Record<string, unknown>>;

  constructor(call: (method: string, params?: object) => Promise<Record<string, unknown>>) {
    this.call = call;
  }

  /** The value of an expression in the page; undefined where it throws, as before the page is there. */
  async read(expression: string): Promise<unknown> {
    const { result } = await this.call("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    return (result as { value?: unknown }).value;
  }

  async shows(text: string): Promise<void> {
    const expression = `document.body.innerText.includes(${JSON.stringify(text)})`;
    await until(`the page shows ${text}`, async () => (await this.read(expression)) === true);
  }

  /** Clicks the button with this text. */
  async click(text: string): Promise<void> {
    const button = `[...document.querySelectorAll("button")].find((one) => one.innerText.includes(${JSON.stringify(text)}))`;
    await until(
      `the button ${text}`,
      async () => (await this.read(`${button}?.click() ?? !!${button}`)) === true,
    );
  }

  /** As a browser does to a tab that was not looked at for long. */
  async freeze(): Promise<void> {
    await until("the tab is in the background", async () => (await this.read("document.hidden")) === true);
    await this.read(`document.addEventListener("freeze", () => { globalThis.isFrozen = true })`);
    await this.call("Page.setWebLifecycleState", { state: "frozen" });
    await until("the tab is frozen", async () => (await this.read("isFrozen")) === true);
  }

  async wake(): Promise<void> {
    await this.call("Page.setWebLifecycleState", { state: "active" });
  }
}
