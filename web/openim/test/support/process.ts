// A device whose core runs in Node: in a process of its own, so that it can be killed like one.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Device, isComplaint, type Login, PLATFORM, Refused } from "./device.ts";
import type { Call, Told } from "./wire.ts";

interface Asked {
  method: string;
  resolve: (data: never) => void;
  reject: (error: Error) => void;
}

export class ProcessDevice extends Device {
  readonly core: "native" | "js";
  #folder: string | undefined;
  #process: ChildProcess | undefined;
  readonly #asked = new Map<number, Asked>();
  #calls = 0;
  /** The warnings and errors that the core in JavaScript wrote to its console. */
  readonly #logged: string[] = [];

  constructor(core: "native" | "js") {
    super();
    this.core = core;
  }

  async start(): Promise<void> {
    this.#folder ??= await mkdtemp(join(tmpdir(), "towncrier-openim-"));
    const program = fileURLToPath(new URL(`${this.core}.ts`, import.meta.url));
    const said = process.env.TOWNCRIER_LOG ? "inherit" : "ignore";
    const child = fork(program, [this.#folder], {
      execArgv: ["--import", "tsx"],
      // The SDKs say much, on both.
      stdio: ["ignore", said, said, "ipc"],
    });
    this.#process = child;
    const before = this.callbacks.length;
    child.on("message", (told: Told) => this.#take(told));
    child.on("exit", (code) => {
      if (code !== null) this.take({ event: "Ended", data: code });
      this.#forget("the process ended");
    });
    await this.hears("Started", before);
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  }

  async close(): Promise<void> {
    await this.kill();
    if (this.#folder) await rm(this.#folder, { recursive: true });
    this.#folder = undefined;
  }

  async call<T>(method: string, ...args: unknown[]): Promise<T> {
    const id = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { method, resolve, reject });
      this.#process?.send({ id, method, args } satisfies Call);
    });
  }

  async login({ origin, user, token, platform = PLATFORM[this.core] }: Login): Promise<void> {
    const addresses = { wsAddr: origin.replace("http", "ws"), apiAddr: origin, platformID: platform };
    if (this.core === "js") {
      await this.call("login", { userID: user, token, ...addresses });
      return;
    }
    await this.call("initSDK", addresses);
    await this.call("login", { userID: user, token });
  }

  async complaints(): Promise<string[]> {
    if (this.core === "js") return this.#logged;
    const folder = this.#folder ?? "";
    const names = (await readdir(folder)).filter((name) => name.startsWith("open-im-sdk-core"));
    const logs = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
    return logs.flatMap((log) => log.split("\n")).filter(isComplaint);
  }

  #take(told: Told): void {
    if ("logged" in told) {
      this.#logged.push(told.logged);
      return;
    }
    if ("event" in told) {
      this.take(told);
      return;
    }
    const asked = this.#asked.get(told.id);
    this.#asked.delete(told.id);
    if ("data" in told || !("errCode" in told)) asked?.resolve((told as { data: unknown }).data as never);
    else asked?.reject(new Refused(asked.method, told.errCode, told.errMsg));
  }

  #forget(why: string): void {
    for (const { method, reject } of this.#asked.values()) reject(new Refused(method, 0, why));
    this.#asked.clear();
  }
}
