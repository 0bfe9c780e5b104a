// A client as a process of its own, so that it can be killed like one: `listener.ts URL TOKEN FILE`. It prints the place and
// seq of each message it hands out.
import { WebSocket } from "ws";
import { Client } from "../../src/index.ts";
import { FileStore } from "../../src/node.ts";

const [url = "", token = "", file = ""] = process.argv.slice(2);
const store = await FileStore.open(file);
const client = new Client({ url, token, store, WebSocket });
client.onMessage((message, place) => console.log(`${place} ${message.seq}`));
client.onStatus((status) => {
  if (status.state === "ended") throw new Error(status.text);
});
client.start();
