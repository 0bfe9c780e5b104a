// Releases from before the gateway knew of reads: the page of one, and a gateway that says no more than one did.
import { readFile } from "node:fs/promises";
import type { BrowserContext } from "playwright-core";
import { ServerFrame } from "../../client/src/gen/towncrier/v1/gateway.ts";
import type { Front } from "./front.ts";

/** As the release before read state built them. */
const FOLDER = new URL("../earlier/", import.meta.url);
const TYPES: Record<string, string> = {
  "index.html": "text/html",
  "app.js": "text/javascript",
  "app.css": "text/css",
};

/** Serves the earlier page in place of the gateway's; returns how to end that. */
export async function serveEarlierPage(front: Front): Promise<() => void> {
  const files = new Map<string, string>();
  for (const name of Object.keys(TYPES)) files.set(name, await readFile(new URL(name, FOLDER), "utf8"));
  front.refuse = (path) => {
    const name = path === "/" ? "index.html" : path.slice(1).replace(/\?.*/, "");
    const body = files.get(name);
    return body === undefined
      ? undefined
      : { status: 200, headers: { "content-type": TYPES[name] ?? "" }, body };
  };
  return () => {
    front.refuse = () => undefined;
  };
}

/** Takes from what the gateway says all that an older one does not know. */
export async function makeGatewayOlder(context: BrowserContext): Promise<void> {
  await context.routeWebSocket(/\/ws$/, (page) => {
    const gateway = page.connectToServer();
    gateway.onMessage((data) => page.send(Buffer.from(olderFrame(data as Buffer))));
  });
}

function olderFrame(data: Buffer): Uint8Array {
  const { body } = ServerFrame.decode(new Uint8Array(data));
  if (body?.$case === "connected") body.value.features = 0n;
  if (body?.$case === "push") for (const message of body.value.messages) message.conversationSeq = 0n;
  return ServerFrame.encode({ body }).finish();
}
