// The gateway as a process of its own on a directory of its own, so that it can be killed like one.
//
// Each start has fresh ports; clients reach it by a relay that stays, whatever becomes of the process behind it.
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const BINARY =
  process.env.TOWNCRIER_BIN ?? fileURLToPath(new URL("../../../../target/debug/towncrier", import.meta.url));
const SECRET = "scenario-secret";
/** An administrator by default. */
export const ADMIN = "openIM123456";
/** A thread that waits for a processor takes some time to stop. */
const STOPS_WITHIN_MS = 10_000;
/** Platform number of browsers. */
const WEB = 5;
/** A call that a dying gateway leaves unanswered ends by itself, ms. */
const CALL_TIMEOUT = 10_000;

/** What the admin API answers. */
export interface Answer {
  status: number;
  errCode: number;
  errMsg: string;
  data: Record<string, unknown>;
}

/** A notice to send: anything of the admin API's body. */
export interface Notice {
  recvID: string;
  clientMsgID?: string;
  content?: Record<string, unknown>;
  [key: string]: unknown;
}

/** True if the thread of this `stat` file of the kernel stands still. Its state follows its name, which is in brackets. */
function isStopped(stat: string): boolean {
  const text = readFileSync(stat, "utf8");
  return text.slice(text.lastIndexOf(")") + 2).startsWith("T");
}

export class Gateway {
  readonly #folder: string;
  readonly #settings: string[];
  readonly #relay: Relay;
  #process: ChildProcess | undefined;
  #admin = "";
  #adminToken: string | undefined;

  private constructor(folder: string, settings: string[], relay: Relay) {
    this.#folder = folder;
    this.#settings = settings;
    this.#relay = relay;
  }

  /** Starts one with these `section.key=value`, and waits until it listens. */
  static async start(...settings: string[]): Promise<Gateway> {
    const folder = await mkdtemp(join(tmpdir(), "towncrier-gateway-"));
    const file = `
      listener.listen = "127.0.0.1:0"
      listener.reactors = 2
      admin.listen = "127.0.0.1:0"
      log.dir = ${JSON.stringify(join(folder, "data"))}
      auth.secret = "${SECRET}"
      auth.token_key = "${randomBytes(16).toString("hex")}"
      drain.period = "0s"`;
    await writeFile(join(folder, "towncrier.toml"), file);
    const gateway = new Gateway(folder, settings, await Relay.start());
    await gateway.restart();
    return gateway;
  }

  /** Where clients connect, from the first start to the last. */
  get url(): string {
    return `ws://127.0.0.1:${this.#relay.port}/ws`;
  }

  /** Where the inbox page is, from the first start to the last. */
  get origin(): string {
    return `http://127.0.0.1:${this.#relay.port}`;
  }

  /** Where the console and the admin API are, until the next start. */
  get adminOrigin(): string {
    return this.#admin;
  }

  /** Starts it again on the same directory. */
  async restart(...settings: string[]): Promise<void> {
    if (this.#process) throw new Error("it still runs");
    const sets = [...this.#settings, ...settings].flatMap((setting) => ["--set", setting]);
    const child = spawn(BINARY, ["serve", "--config", join(this.#folder, "towncrier.toml"), ...sets], {
      stdio: ["ignore", "pipe", process.env.TOWNCRIER_LOG ? "inherit" : "ignore"],
    });
    this.#process = child;
    const lines = createInterface({ input: child.stdout });
    const [line] = await Promise.race([
      once(lines, "line"),
      once(child, "exit").then(() => {
        throw new Error(`${BINARY} ended before it listened`);
      }),
    ]);
    const [, clients, admin] = /^listening ws=(\S+) admin=(\S+)$/.exec(line) ?? [];
    if (!clients || !admin) throw new Error(`expected \`listening ws=… admin=…\`: ${line}`);
    this.#admin = `http://${admin}`;
    this.#relay.portBehind = Number(clients.slice(clients.lastIndexOf(":") + 1));
  }

  /** Kill -9: the process is gone when this resolves. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** SIGTERM, and until it has drained. */
  drain(): Promise<void> {
    return this.#end("SIGTERM");
  }

  /** Holds it still: it takes what comes, and says nothing. */
  /** Stops the process, and returns when every thread of it stands still. */
  freeze(): void {
    const process = this.#process;
    if (process?.pid === undefined) return;
    process.kill("SIGSTOP");
    const tasks = `/proc/${process.pid}/task`;
    const deadline = Date.now() + STOPS_WITHIN_MS;
    while (!readdirSync(tasks).every((task) => isStopped(`${tasks}/${task}/stat`))) {
      if (Date.now() > deadline) throw new Error("the gateway does not stop");
    }
  }

  thaw(): void {
    this.#process?.kill("SIGCONT");
  }

  /** Cuts every connection of clients; new ones come through. */
  cut(): void {
    this.#relay.cut();
  }

  /** Cuts every connection of clients, and new ones too until they are let in again. */
  shutOut(): void {
    this.#relay.isOpen = false;
    this.#relay.cut();
  }

  letIn(): void {
    this.#relay.isOpen = true;
  }

  /** Its data directory: to be copied or replaced while it does not run. */
  get data(): string {
    return join(this.#folder, "data");
  }

  /** Runs `towncrier log ACTION` on the directory. It must not run. */
  async log(action: string): Promise<void> {
    if (this.#process) throw new Error("it still runs");
    const file = join(this.#folder, "towncrier.toml");
    const child = spawn(BINARY, ["log", action, "--config", file], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const [code] = await once(child, "exit");
    if (code !== 0) throw new Error(`towncrier log ${action} ended with ${code}`);
  }

  /** Ends it and removes its directory. */
  async close(): Promise<void> {
    await this.kill();
    await this.#relay.close();
    await rm(this.#folder, { recursive: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child) return;
    child.kill(signal);
    await once(child, "exit");
  }

  /** A token for `user` in a browser. */
  async token(user: string, platform = WEB): Promise<string> {
    const body = { secret: SECRET, platform, userID: user, operationID: "test" };
    const { data, errMsg } = await this.#post("/auth/user_token", body);
    if (typeof data?.token !== "string") throw new Error(`no token for ${user}: ${errMsg}`);
    return data.token;
  }

  /** The administrator's token is asked for anew: another key signs. */
  forgetTokens(): void {
    this.#adminToken = undefined;
  }

  /** Any call of the admin API, as an administrator. Rejects where the gateway is gone. */
  async call(path: string, body: Record<string, unknown>): Promise<Answer> {
    this.#adminToken ??= await this.token(ADMIN, 10);
    return this.#post(path, { operationID: "test", ...body }, { token: this.#adminToken });
  }

  /** Sends a notice; anything given stands in place of what is usual. */
  async send(notice: Notice): Promise<Answer> {
    const content = {
      notificationName: "Office",
      notificationType: 1,
      text: "hello",
      mixType: 0,
      ...notice.content,
    };
    const usual = {
      sendID: ADMIN,
      senderPlatformID: 10,
      senderNickname: "Office",
      contentType: 1400,
      sessionType: 4,
    };
    return this.call("/manager/send_msg", { ...usual, ...notice, content });
  }

  async #post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const response = await fetch(this.#admin + path, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_TIMEOUT),
    });
    return { status: response.status, ...((await response.json()) as Omit<Answer, "status">) };
  }
}

/** A port that stays, in front of ports that change. */
class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  portBehind = 0;
  /** Whether newcomers are let in. */
  isOpen = true;

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (client) => {
      if (!this.isOpen) {
        client.destroy();
        return;
      }
      const gateway = connect(this.portBehind, "127.0.0.1");
      for (const [one, other] of [
        [client, gateway],
        [gateway, client],
      ] as const) {
        this.#sockets.add(one);
        // A relay that waits to fill its packets would change the order of what comes by two connections.
        one.setNoDelay(true);
        one.pipe(other);
        // What one side did, the other sees: an end is an end, a cut is a cut.
        one.on("error", () => other.destroy());
        one.on("close", () => {
          this.#sockets.delete(one);
          other.destroy();
        });
      }
    });
  }

  static async start(): Promise<Relay> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Relay(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }
}
