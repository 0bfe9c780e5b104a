// A browser's push service, of which Chromium here has none: the gateway's relay sends to it, and it decrypts as the browser does.
import { createDecipheriv, createECDH, hkdfSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

const HOST = "updates.push.services.mozilla.com";

/** A push that came: what the service sees of it, and what only the browser reads. */
export interface Pushed {
  headers: IncomingHttpHeaders;
  data: string;
}

export class PushService {
  readonly #key = createECDH("prime256v1");
  readonly #auth = randomBytes(16);
  readonly #pushed: Pushed[] = [];
  readonly #server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    const isHere = request.url === `/${HOST}/wpush/v2/1`;
    if (isHere) this.#pushed.push({ headers: request.headers, data: this.#decrypt(Buffer.concat(parts)) });
    response.writeHead(isHere ? 201 : 404).end();
    this.#server.emit("pushed");
  });

  static async start(): Promise<PushService> {
    const service = new PushService();
    service.#key.generateKeys();
    service.#server.listen(0, "127.0.0.1");
    await once(service.#server, "listening");
    return service;
  }

  /** For `push.webpush.url`. */
  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The browser's subscription in its own words. */
  get subscription(): object {
    const keys = { p256dh: this.#key.getPublicKey("base64url"), auth: this.#auth.toString("base64url") };
    return { endpoint: `https://${HOST}/wpush/v2/1`, expirationTime: null, keys };
  }

  /** The next push, once it comes. */
  async next(): Promise<Pushed> {
    for (;;) {
      const pushed = this.#pushed.shift();
      if (pushed) return pushed;
      await once(this.#server, "pushed");
    }
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** RFC 8291. */
  #decrypt(content: Buffer): string {
    const [salt, sender, record] = [content.subarray(0, 16), content.subarray(21, 86), content.subarray(86)];
    const expand = (salt: Buffer, inputs: Buffer, info: Buffer, length: number) =>
      Buffer.from(hkdfSync("sha256", inputs, salt, info, length));
    const info = Buffer.concat([Buffer.from("WebPush: info\0"), this.#key.getPublicKey(), sender]);
    const inputs = expand(this.#auth, this.#key.computeSecret(sender), info, 32);
    const key = expand(salt, inputs, Buffer.from("Content-Encoding: aes128gcm\0"), 16);
    const nonce = expand(salt, inputs, Buffer.from("Content-Encoding: nonce\0"), 12);
    const cipher = createDecipheriv("aes-128-gcm", key, nonce);
    cipher.setAuthTag(record.subarray(-16));
    const plain = Buffer.concat([cipher.update(record.subarray(0, -16)), cipher.final()]);
    return plain.subarray(0, plain.lastIndexOf(2)).toString();
  }
}
