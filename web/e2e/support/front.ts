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
  readonly #path: string;
  readonly #live = new Set<Duplex>();
  /** Says what the gateway is not asked for; undefined lets a request through. */
  refuse: (path: string) => Refusal | undefined = () => undefined;
  /** Paths that were asked for outside of the gateway's. */
  readonly strays: string[] = [];

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  /** Serves the gateway at `behind`, under `path`, which begins and ends with a slash and is taken off. */
  static async start(behind: string, path = "/"): Promise<Front> {
    const server = createServer();
    const front = new Front(server, path);
    const { hostname, port } = new URL(behind);
    server.on("request", (asked, answer) => {
      const refusal = front.#answer(asked);
      if (refusal) {
        answer.writeHead(refusal.status, { "content-type": "text/html", ...refusal.headers });
        answer.end(refusal.body);
        return;
      }
      const { method, headers } = asked;
      const passed = request({ hostname, port, method, headers, path: front.#inner(asked) }, (reply) => {
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
      const gateway = connect(Number(port), hostname);
      const { rawHeaders } = asked;
      const lines = rawHeaders.map((word, at) => (at % 2 === 0 ? `${word}: ` : `${word}\r\n`));
      gateway.write(`GET ${front.#inner(asked)} HTTP/1.1\r\n${lines.join("")}\r\n`);
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

  /** Where the page is. */
  get home(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}${this.#path}`;
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

  #answer({ url = "" }: IncomingMessage): Refusal | undefined {
    if (url.startsWith(this.#path)) return this.refuse(url);
    this.strays.push(url);
    return { status: 404 };
  }

  #inner({ url = "" }: IncomingMessage): string {
    return url.slice(this.#path.length - 1);
  }
}
