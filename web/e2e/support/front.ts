// What operators put in front of a gateway: a proxy that passes on, or answers itself.
import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request,
  type Server,
  STATUS_CODES,
} from "node:http";
import { type AddressInfo, connect } from "node:net";
import type { Duplex } from "node:stream";

/** What is said instead of what the gateway would say. */
export interface Refusal {
  status: number;
  headers?: OutgoingHttpHeaders;
  body?: string;
}

/** A proxy on a port of its own. */
export class Front {
  readonly #server: Server;
  readonly #behind: Record<string, string>;
  readonly #live = new Set<Duplex>();
  /** Says what the gateway is not asked for; undefined lets a request through. */
  refuse: (path: string) => Refusal | undefined = () => undefined;
  /** Paths that were asked for outside of the gateway's. */
  readonly strays: string[] = [];

  private constructor(server: Server, behind: Record<string, string>) {
    this.#server = server;
    this.#behind = behind;
  }

  /** Serves a gateway's origin, or several, each under a path that begins and ends with a slash and is taken off. */
  static async start(behind: string | Record<string, string>): Promise<Front> {
    const server = createServer();
    const front = new Front(server, typeof behind === "string" ? { "/": behind } : behind);
    server.on("request", (asked, answer) => {
      const refusal = front.#answer(asked);
      if (refusal) {
        answer.writeHead(refusal.status, { "content-type": "text/html", ...refusal.headers });
        answer.end(refusal.body);
        return;
      }
      const { method, headers } = asked;
      const { hostname, port, path } = front.#inner(asked);
      const passed = request({ hostname, port, path, method, headers }, (reply) => {
        answer.writeHead(reply.statusCode ?? 502, reply.headers);
        reply.pipe(answer);
      });
      passed.on("error", () => answer.writeHead(502).end());
      asked.pipe(passed);
    });
    server.on("upgrade", (asked: IncomingMessage, client: Duplex, head: Buffer) => {
      const refusal = front.#answer(asked);
      if (refusal) {
        const lines = Object.entries(refusal.headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`);
        client.end(
          `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\n${lines.join("")}Content-Length: 0\r\n\r\n`,
        );
        return;
      }
      const { hostname, port, path } = front.#inner(asked);
      const gateway = connect(port, hostname);
      const { rawHeaders } = asked;
      const lines = rawHeaders.map((word, at) => (at % 2 === 0 ? `${word}: ` : `${word}\r\n`));
      gateway.write(`GET ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
      gateway.write(head);
      for (const [one, other] of [
        [client, gateway],
        [gateway, client],
      ] as const) {
        front.#live.add(one);
        one.pipe(other);
        one.on("error", () => other.destroy());
        one.on("close", () => {
          front.#live.delete(one);
          other.destroy();
        });
      }
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return front;
  }

  /** Where the page is, or that of one of several gateways. */
  home(path = Object.keys(this.#behind)[0] ?? ""): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}${path}`;
  }

  /** Cuts every WebSocket. */
  cut(): void {
    for (const socket of this.#live) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  #answer(asked: IncomingMessage): Refusal | undefined {
    const { url = "" } = asked;
    if (this.#pathOf(asked)) return this.refuse(url);
    this.strays.push(url);
    return { status: 404 };
  }

  #pathOf({ url = "" }: IncomingMessage): string | undefined {
    return Object.keys(this.#behind).find((path) => url.startsWith(path));
  }

  /** Where it goes. */
  #inner(asked: IncomingMessage): { hostname: string; port: number; path: string } {
    const path = this.#pathOf(asked) ?? "";
    const { hostname, port } = new URL(this.#behind[path] ?? "");
    return { hostname, port: Number(port), path: (asked.url ?? "").slice(path.length - 1) };
  }
}
