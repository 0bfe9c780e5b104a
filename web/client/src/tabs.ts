// Tabs of one browser that share one session: one of them leads, the others hear from it.
//
// The lead is a Web Lock: the browser hands it on when its tab closes, crashes or lets go. What the leader tells the others
// is a hint where it concerns messages (they read the store, which they share), and the whole truth about the connection.
// Web Locks exist on secure pages only (https, or localhost). Elsewhere every tab leads: the newest one keeps the session,
// by the gateway's own rule, and the others still hear from it.
import type { Message } from "./gen/towncrier/v1/gateway.ts";
import type { Status } from "./session.ts";

/** What tabs tell each other. */
export type News =
  /** The store holds new entries. */
  | { kind: "stored" }
  | { kind: "onlineOnly"; message: Message }
  | { kind: "status"; status: Status }
  /** A new tab asks the leader for its status. */
  | { kind: "hello" }
  /** The user wants the session back that has ended. */
  | { kind: "restart" };

/** This tab's place among those that share a name. */
export class Tabs {
  readonly #name: string;
  readonly #channel: BroadcastChannel;

  constructor(name: string, onNews: (news: News) => void) {
    this.#name = `towncrier/${name}`;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = (event: MessageEvent<News>) => onNews(event.data);
  }

  /** Tells all other tabs. */
  tell(news: News): void {
    this.#channel.postMessage(news);
  }

  /** Waits until this tab leads, and leads until `work` is done. Resolves at once when `stop` aborts before that. */
  async lead(stop: AbortSignal, work: () => Promise<void>): Promise<void> {
    const locks = globalThis.navigator?.locks;
    if (!locks) return work();
    try {
      await locks.request(this.#name, { signal: stop }, work);
    } catch (error) {
      if (!stop.aborted) throw error;
    }
  }

  close(): void {
    this.#channel.close();
  }
}
