// A device of a user without a page: the client on its own, in this process.
import { Client, MemoryStore, type WebSocketConstructor } from "towncrier";
import { WebSocket } from "ws";
import type { Gateway } from "../../client/test/support/gateway.ts";
import { status, within } from "../../client/test/support/waiting.ts";

/** Connected, and told whatever waited for it. */
export async function device(gateway: Gateway, user: string, platform: number): Promise<Client> {
  const client = clientWith(gateway, await gateway.token(user, platform));
  client.start();
  await status(client, "live");
  return client;
}

/** Tries a token that no gateway takes, once. */
export async function guess(gateway: Gateway): Promise<void> {
  const client = clientWith(gateway, "none");
  const isAnswered = new Promise<void>((resolve) => {
    client.onStatus(({ state }) => {
      if (state === "ended" || state === "reconnecting") resolve();
    });
  });
  client.start();
  await within("the gateway's answer", isAnswered);
  await client.stop();
}

function clientWith(gateway: Gateway, token: string): Client {
  return new Client({
    url: gateway.url,
    token,
    store: new MemoryStore(),
    WebSocket: WebSocket as unknown as WebSocketConstructor,
  });
}
