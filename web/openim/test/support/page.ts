// A device whose core runs in a page in Chromium: the core in Go as wasm, with SQLite in IndexedDB.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { type Callback, CHROMIUM, Device, isComplaint, type Login, PLATFORM, Refused } from "./device.ts";

const SDK = join(dirname(createRequire(import.meta.url).resolve("@openim/wasm-client-sdk")), "..");
const PAGE = fileURLToPath(new URL("page.html", import.meta.url));
const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".wasm": "application/wasm",
};

/** Serves the page, which then calls the gateway as another origin, as apps do. */
async function servePage(): Promise<Server> {
  const server = createServer(async ({ url = "" }, response) => {
    const file = url.startsWith("/sdk/") ? join(SDK, normalize(url.slice(4))) : PAGE;
    const body = await readFile(file).catch(() => undefined);
    // The database asks for memory that threads share, which only such a page gets.
    response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
    response.setHeader("Cross-Origin-Embedder-Policy", "credentialless");
    response.setHeader("Content-Type", TYPES[extname(file)] ?? "application/octet-stream");
    response.writeHead(body ? 200 : 404).end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** Once for each process of tests, when the first page is opened. */
let shared: Promise<{ browser: Browser; server: Server }> | undefined;

async function share(): Promise<{ browser: Browser; server: Server }> {
  // Tests run as root in containers, where the sandbox cannot be set up.
  const args = ["--no-sandbox", "--disable-dev-shm-usage"];
  return { browser: await chromium.launch({ executablePath: CHROMIUM, args }), server: await servePage() };
}

/** Ends Chromium, where a test has started it. */
export async function leaveChromium(): Promise<void> {
  const { browser, server } = (await shared) ?? {};
  shared = undefined;
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
}

export class PageDevice extends Device {
  readonly core = "wasm";
  readonly #logged: string[] = [];
  #context: BrowserContext | undefined;
  #page: Page | undefined;

  async start(): Promise<void> {
    shared ??= share();
    const { browser, server } = await shared;
    if (!this.#context) {
      this.#context = await browser.newContext();
      await this.#context.exposeBinding("tell", (_source, callback: Callback) => this.take(callback));
      this.#context.on("console", (line) => {
        if (["error", "warning"].includes(line.type()) || isComplaint(line.text()))
          this.#logged.push(`${line.type()}: ${line.text()}`);
      });
    }
    const before = this.callbacks.length;
    this.#page = await this.#context.newPage();
    await this.#page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await this.hears("Started", before);
  }

  async complaints(): Promise<string[]> {
    return this.#logged;
  }

  /** Loads the page again, as somebody who is impatient does. */
  async reload(): Promise<void> {
    const before = this.callbacks.length;
    await this.#page?.reload();
    await this.hears("Started", before);
  }

  /** Kill -9 of the processes that show pages: those of all devices in this browser. */
  async kill(): Promise<void> {
    const page = this.#page;
    this.#page = undefined;
    if (!page) return;
    const session = await this.#context?.browser()?.newBrowserCDPSession();
    const { processInfo = [] } = (await session?.send("SystemInfo.getProcessInfo")) ?? {};
    const gone = once(page as never, "crash");
    for (const { id, type } of processInfo) if (type === "renderer") process.kill(id, "SIGKILL");
    await gone;
    await session?.detach();
    await page.close();
  }

  async close(): Promise<void> {
    await this.#context?.close();
    this.#context = undefined;
    this.#page = undefined;
  }

  async call<T>(method: string, ...args: unknown[]): Promise<T> {
    type Answer = { data: T } | { errCode: number; errMsg: string };
    const page = this.#page;
    if (!page) throw new Refused(method, 0, "the page is closed");
    const answer = await page.evaluate<Answer, [string, unknown[]]>(
      ([method, args]) =>
        (globalThis as unknown as { call: (method: string, args: unknown[]) => Promise<Answer> }).call(
          method,
          args,
        ),
      [method, args],
    );
    if ("errCode" in answer) throw new Refused(method, answer.errCode, answer.errMsg);
    return answer.data;
  }

  async login({ origin, user, token, platform = PLATFORM.wasm }: Login): Promise<void> {
    const addresses = { wsAddr: origin.replace("http", "ws"), apiAddr: origin, platformID: platform };
    await this.call("login", { userID: user, token, ...addresses });
  }
}
