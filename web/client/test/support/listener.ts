// A client as a process of its own, so that it can be killed like one: `listener.ts URL TOKEN FILE READS`. It prints the place of
// each message that it hands out, in the store and in its conversation, and `read MARK UNREAD` when that changes. It reads every
// second message: the odd ones of its conversation where READS is 1, else the even ones.
import { WebSocket } from "ws";
import { Client } from "../../src/index.ts";
import { FileStore } from "../../src/node.ts";

const [url = "", token = "", file = "", reads = ""] = process.argv.slice(2);
const store = await FileStore.open(file);
const client = new Client({ url, token, store, WebSocket });
client.onMessage(({ conversationId, conversationSeq }, place) => {
  console.log(`${place} ${conversationSeq}`);
  if (conversationSeq % 2n === BigInt(reads)) void client.markRead(conversationId, conversationSeq);
});
client.onConversations(([conversation]) =>
  console.log(`read ${conversation?.mark ?? 0} ${conversation?.unread ?? 0}`),
);
client.onStatus((status) => {
  if (status.state === "ended") throw new Error(status.text);
});
client.start();
