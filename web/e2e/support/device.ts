// A device of a user without a page: the client on its own, in this process.
import { Client, MemoryStore, type WebSocketConstructor } from "towncrier";
import { WebSocket } from "ws";
import type { Gateway } from "../../client/test/support/gateway.ts";
import { status } from "../../client/test/support/waiting.ts";

/** Connected, and told whatever waited for it. */
export async function device(gateway: Gateway, user: string, platform: number): Promise<Client> {
  const client = new Client({
    url: gateway.url,
    token: await gateway.token(user, platform),
    store: new MemoryStore(),
    WebSocket: WebSocket as unknown as WebSocketConstructor,
  });
  client.start();
  await status(client, "live");
  return client;
}
