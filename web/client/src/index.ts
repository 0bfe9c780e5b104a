/**
 * Client of the Towncrier push gateway for browsers and Node: every message lands exactly once in a local store, whatever
 * crashes in between.
 *
 * - `client.ts`: what an application uses; tabs that share a session: `tabs.ts`
 * - `session.ts`: the loop: connect, land, ack, ping, reconnect; `reads.ts`: what was read, to the gateway and back
 * - `landing.ts`, `conversations.ts`, `backoff.ts`: which messages to accept, what is unread, when to come back; pure
 * - `store.ts`: where messages land; `memory.ts`, `indexeddb.ts`, and for Node `file.ts`
 * - `connection.ts`: one WebSocket; `alarm.ts`: a timer that a hidden page keeps
 * - `gen/`: the protocol's types, from `proto/towncrier/v1/gateway.proto`
 */
export {
  Client,
  type OnConversations,
  type OnGap,
  type OnMessage,
  type OnStatus,
  type Options,
} from "./client.ts";
export type { WebSocketConstructor } from "./connection.ts";
export type { Change, Conversation, Standing } from "./conversations.ts";
export { type Gap, Gap_Reason, type Message, type OfflinePush } from "./gen/towncrier/v1/gateway.ts";
export { type IndexedDbOptions, IndexedDbStore, UnknownSchema } from "./indexeddb.ts";
export type { Position } from "./landing.ts";
export { MemoryStore } from "./memory.ts";
export type { Ended, Status } from "./session.ts";
export type { Entry, HistoryQuery, Store } from "./store.ts";
