// A client as a process of its own, so that it can be killed like one: `listener.ts URL TOKEN FILE`. It prints the place of each
// message it hands out, in the store and in its conversation, and reads it.
import { WebSocket } from "ws";
import { Client } from "../../src/index.ts";
import { FileStore } from "../../src/node.ts";

const [url = "", token = "", file = ""] = process.argv.slice(2);
const store = await FileStore.open(file);
const client = new Client({ url, token, store, WebSocket });
client.onMessage(({ conversationId, conversationSeq }, place) => {
  console.log(`${place} ${conversationSeq}`);
  void client.markRead(conversationId, conversationSeq);
});
client.onStatus((status) => {
  if (status.state === "ended") throw new Error(status.text);
});
client.start();
