// The client as an application sees it: messages, gaps and status, in every tab that shares the session.
//
// Each tab hands out what its store holds beyond the place it has come to, whoever landed it: the store is the truth, what
// the leader tells is a hint. So each tab hands out each entry once and in order, however often the lead changes hands.
import type { WebSocketConstructor } from "./connection.ts";
import { type Conversation, withRead } from "./conversations.ts";
import type { Gap, Message } from "./gen/towncrier/v1/gateway.ts";
import { onNetworkChange } from "./network.ts";
import { Session, type SessionOptions, STOPPED, type Status } from "./session.ts";
import type { Entry, HistoryQuery, Store } from "./store.ts";
import { type News, Tabs } from "./tabs.ts";

/** Entries handed out per read of the store. */
const PULL_ENTRIES = 256;

/** What a client is made of. */
export interface Options {
  /** The gateway's client port, e.g. `wss://gateway.example/ws`. */
  url: string;
  /** From `/auth/user_token`; it says which user and platform. */
  token: string;
  /** Where messages land: one store for each user and platform. */
  store: Store;
  /** Tells devices of one platform apart where the gateway's policy allows several. At most 64 bytes. */
  deviceId?: string;
  /** Name and version for the gateway's stderr log, at most 64 bytes. Default `towncrier-js/1.0`. */
  name?: string;
  /** Tabs that give the same name, and the same store, share one session. Default: this client is alone. */
  share?: string;
  /**
   * An empty store begins with the oldest message that is retained, instead of where this session last acked: a browser
   * that was used before, but not by this user, shows the whole inbox. Default false.
   */
  fromOldest?: boolean;
  /** {@link Client.onMessage} begins after this place. Default: after what the store holds at the first start. */
  since?: number;
  /** Default: the global one. Node 20 has none: give it the `ws` package's. */
  WebSocket?: WebSocketConstructor;
}

/** Takes a message; `place` is where it stands in the store, undefined for an online-only one, which is not stored. */
export type OnMessage = (message: Message, place: number | undefined) => void;
/** Takes what will not come: `fromSeq` to `toSeq`, none when `toSeq` is lower. */
export type OnGap = (gap: Gap, place: number) => void;
/** Takes all conversations, in no order, with what is unread in each. */
export type OnConversations = (conversations: Conversation[]) => void;
/** Takes the state of the connection. */
export type OnStatus = (status: Status) => void;

/** One user's session on one platform. */
export class Client {
  readonly #options: Options;
  readonly #store: Store;
  readonly #onMessage = new Set<OnMessage>();
  readonly #onGap = new Set<OnGap>();
  readonly #onConversations = new Set<OnConversations>();
  readonly #onStatus = new Set<OnStatus>();
  #status: Status = { state: "connecting" };
  /** This client takes part until it aborts; each start has its own. */
  #stop: AbortController | undefined;
  /** Why the present part ends, where that is not the caller's wish. */
  #failure: Status | undefined;
  /** The parts it took and takes, one after the other, and what is handed out. */
  #taking: Promise<void> = Promise.resolve();
  #handingOut: Promise<void> = Promise.resolve();
  #tabs: Tabs | undefined;
  readonly #session: SessionOptions;
  /** While this tab leads and its session has not ended. */
  #leading: Session | undefined;
  #isLeading = false;
  #restart: (() => void) | undefined;
  /** The user wants the session back, and no leader has answered to that. */
  #isRestartWanted = false;
  /** Entries up to this place have been handed out; it outlasts a stop. */
  #seen: number | undefined;
  #pull: "idle" | "running" | "again" = "idle";
  /** Marks that are about to be kept, by conversation, and when they are. */
  #reading = new Map<string, bigint>();
  #kept: Promise<void> | undefined;

  /** Nothing happens before {@link start}. Throws where the address, or the lack of a WebSocket, leaves nothing to try. */
  constructor(options: Options) {
    const { url, token, deviceId = "", name = "towncrier-js/1.0", fromOldest = false } = options;
    const Socket = options.WebSocket ?? globalThis.WebSocket;
    if (!Socket) throw new Error("there is no WebSocket here: give the one of the package `ws` as an option");
    if (!/^wss?:$/.test(new URL(url).protocol))
      throw new Error(`${url}: expected ws://HOST[:PORT]/ws, or wss://`);
    this.#options = options;
    this.#store = options.store;
    this.#session = { url, token, deviceId, name, fromOldest, Socket };
  }

  /** Calls `listener` once for each message that lands, in order, after it is durable. Returns how to end that. */
  onMessage(listener: OnMessage): () => void {
    return listen(this.#onMessage, listener);
  }

  /** Calls `listener` once for each gap. Returns how to end that. */
  onGap(listener: OnGap): () => void {
    return listen(this.#onGap, listener);
  }

  /**
   * Calls `listener` with all conversations once this client is started, and whenever one of them may be another one: a
   * message landed, or something was read, on whichever device. Returns how to end that.
   */
  onConversations(listener: OnConversations): () => void {
    const end = listen(this.#onConversations, listener);
    this.#announce();
    return end;
  }

  /** Calls `listener` now and at each change of the connection. Returns how to end that. */
  onStatus(listener: OnStatus): () => void {
    listener(this.#status);
    return listen(this.#onStatus, listener);
  }

  /** How the connection stands. */
  get status(): Status {
    return this.#status;
  }

  /** What has landed, messages and gaps, ascending by place. Works offline. */
  history(query: HistoryQuery = {}): Promise<Entry[]> {
    return this.#store.history(query);
  }

  /** All conversations, in no order, with what is unread in each. Works offline. */
  conversations(): Promise<Conversation[]> {
    return this.#store.conversations();
  }

  /**
   * The user has read a conversation up to this seq of it; up to all that has landed where the gateway gives no such seqs. Holds
   * here at once, offline too, and on the user's other devices as soon as the gateway knows. Nothing is ever unread again.
   * Calls made together are kept together; resolves when they are, rejects as the store does.
   */
  markRead(conversationId: string, conversationSeq: bigint): Promise<void> {
    const before = this.#reading.get(conversationId) ?? 0n;
    this.#reading.set(conversationId, conversationSeq > before ? conversationSeq : before);
    this.#kept ??= Promise.resolve().then(() => this.#keepReads());
    return this.#kept;
  }

  async #keepReads(): Promise<void> {
    const reading = this.#reading;
    this.#reading = new Map();
    this.#kept = undefined;
    const isNew = await this.#store.change([...reading.keys()], (before, standing) =>
      withRead(before, reading.get(before.id) ?? 0n, standing),
    );
    if (isNew) this.#tell({ kind: "read" });
  }

  /** Connects, or comes back after the session has ended: also after another login took it. */
  start(): void {
    if (this.#isStopped) {
      const stop = new AbortController();
      this.#stop = stop;
      // A part that is being stopped ends first.
      this.#taking = this.#taking.then(() => this.#takePart(stop));
    } else if (this.#status.state === "ended") {
      this.#isRestartWanted = true;
      this.#tabs?.tell({ kind: "restart" });
      this.#restart?.();
    }
  }

  /**
   * Lets go of the session; another tab takes it over. What was committed stays in the store. Once this resolves nothing
   * more is handed out; the next start goes on from there.
   */
  async stop(): Promise<void> {
    this.#stop?.abort();
    await this.#taking;
    await this.#handingOut;
  }

  get #isStopped(): boolean {
    return this.#stop?.signal.aborted ?? true;
  }

  async #takePart(stop: AbortController): Promise<void> {
    const { share, since } = this.#options;
    const ignoreNetwork = onNetworkChange(() => this.#leading?.nudge());
    try {
      if (stop.signal.aborted) return;
      if (this.#status.state === "ended") this.#take({ kind: "status", status: { state: "connecting" } });
      this.#seen ??= since ?? (await this.#store.history({ limit: 1 })).at(-1)?.place ?? 0;
      this.#announce();
      if (share === undefined) {
        await this.#lead(stop.signal);
      } else {
        const tabs = new Tabs(share, (news) => this.#hear(news));
        this.#tabs = tabs;
        await tabs.lead(stop.signal, (lead) => this.#lead(lead));
      }
    } catch (error) {
      this.#storeFailed(error);
    } finally {
      ignoreNetwork();
      this.#tabs?.close();
      this.#tabs = undefined;
      if (this.#failure) this.#take({ kind: "status", status: this.#failure });
      else if (this.#status.state !== "ended") this.#take({ kind: "status", status: STOPPED });
      this.#failure = undefined;
    }
  }

  /** Runs the session, again and again as the user wishes, until `stop`: the client stops, or another tab took the lead. */
  async #lead(stop: AbortSignal): Promise<void> {
    this.#isLeading = true;
    try {
      // A session that ended under another tab's lead stays ended: coming back could take it from where it is used now.
      while (this.#status.state !== "ended" || (await this.#restarted(stop))) {
        const status = (status: Status) => this.#tell({ kind: "status", status });
        this.#leading = new Session(this.#session, this.#store, {
          stored: () => this.#tell({ kind: "stored" }),
          onlineOnly: (message) => this.#tell({ kind: "onlineOnly", message }),
          status,
        });
        const ended = await this.#leading.run(stop);
        // The others hear from whoever leads next.
        if (stop.aborted) return;
        status(ended);
      }
    } finally {
      this.#leading = undefined;
      this.#isLeading = false;
    }
  }

  /** True when the user wants the session back; false when `stop` aborts. */
  async #restarted(stop: AbortSignal): Promise<boolean> {
    if (this.#isRestartWanted && !stop.aborted) return true;
    await new Promise<void>((resolve) => {
      this.#restart = resolve;
      stop.addEventListener("abort", () => resolve());
      if (stop.aborted) resolve();
    });
    this.#restart = undefined;
    return !stop.aborted;
  }

  #tell(news: News): void {
    this.#tabs?.tell(news);
    this.#take(news);
  }

  /** What another tab says. */
  #hear(news: News): void {
    if (news.kind === "hello") {
      if (this.#isLeading) this.#tabs?.tell({ kind: "status", status: this.#status });
    } else if (news.kind === "restart") {
      this.#restart?.();
    } else if (news.kind !== "status" || !this.#isLeading) {
      // Where there are no locks several lead, and each knows best about its own connection.
      this.#take(news);
    }
  }

  #take(news: News): void {
    switch (news.kind) {
      case "read":
        this.#leading?.sendReads();
        this.#announce();
        break;
      case "stored":
        this.#announce();
        break;
      case "onlineOnly":
        call(this.#onMessage, news.message, undefined);
        break;
      case "status":
        this.#status = news.status;
        if (news.status.state !== "ended") this.#isRestartWanted = false;
        call(this.#onStatus, news.status);
        break;
    }
  }

  /** Hands out what the store holds beyond what was handed out, and the conversations as they are. */
  #announce(): void {
    if (this.#isStopped || this.#seen === undefined) return;
    if (this.#pull !== "idle") {
      this.#pull = "again";
      return;
    }
    this.#pull = "running";
    this.#handingOut = this.#handOut().catch((error) => this.#storeFailed(error));
  }

  async #handOut(): Promise<void> {
    try {
      let isMore = true;
      while (isMore) {
        this.#pull = "running";
        const entries = await this.#store.history({ after: this.#seen ?? 0, limit: PULL_ENTRIES });
        for (const entry of entries) {
          // The next start goes on from here.
          if (this.#isStopped) return;
          this.#seen = entry.place;
          if (entry.kind === "message") call(this.#onMessage, entry.message, entry.place);
          else call(this.#onGap, entry.gap, entry.place);
        }
        isMore = entries.length === PULL_ENTRIES;
        if (isMore) continue;
        await this.#handOutConversations();
        // Something may have landed while the store was read, which only this read's end makes visible.
        isMore = this.#wasAskedAgain();
      }
    } finally {
      this.#pull = "idle";
    }
  }

  async #handOutConversations(): Promise<void> {
    if (this.#onConversations.size === 0) return;
    const conversations = await this.#store.conversations();
    if (!this.#isStopped) call(this.#onConversations, conversations);
  }

  #wasAskedAgain(): boolean {
    return this.#pull === "again";
  }

  /** Without its store a client takes no part: another tab may lead, and a start tries again. */
  #storeFailed(error: unknown): void {
    if (this.#isStopped) return;
    const text = error instanceof Error ? error.message : String(error);
    this.#failure = { state: "ended", reason: "store", text: `the local store failed: ${text}` };
    this.#stop?.abort();
  }
}

function listen<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A listener that throws keeps nothing from the others; its error surfaces as an uncaught one. */
function call<A extends unknown[]>(listeners: Set<(...args: A) => void>, ...args: A): void {
  for (const listener of listeners) {
    try {
      listener(...args);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
