// One account's inbox as the page shows it: its store, its client, and the conversations with what is unread in them.
//
// All notices are one conversation, whoever sent them; it comes first and is there before anything is. What is read is
// kept by place, in localStorage, so that all tabs agree on it at once.
import { Client, type Gap, IndexedDbStore, type Message, type Status } from "towncrier";
import type { Account } from "./account.ts";
import { withdrawn } from "./content.ts";
import { keep, kept } from "./keep.ts";

/** The conversation that all notices, and all gaps, belong to. */
export const NOTICES = "notices";
/** The session type of a notice. */
const NOTIFICATION = 4;
/** How long arrivals are collected before the list is read anew, ms: a backlog of thousands is some ten readings. */
const REFRESH_AFTER = 80;

/** So much of a token's end tells it apart. */
const TOKEN_MARK = 16;

/** Later entries that are looked through at a time. */
const LATER_ENTRIES = 500;

/** What landed, as it is shown: an entry of the store, whichever log it is of. */
export type Item = { place: number } & ({ kind: "message"; message: Message } | { kind: "gap"; gap: Gap });

/** A conversation, as a line of the list. */
export interface Conversation {
  group: string;
  /** Its newest entry; there is none only where there are no notices yet. */
  newest: Item | undefined;
  unread: number;
  /** All up to this place was on the screen. */
  readUpTo: number;
}

/** What just came. */
export type Arrival = { group: string; entry: Item } | { group: string; onlineOnly: Message };

/** Which conversation a message or a gap belongs to. */
export function groupOf(entry: Message | Gap): string {
  return "sessionType" in entry && entry.sessionType !== NOTIFICATION ? entry.conversationId : NOTICES;
}

/** One account's inbox. */
export class Mailbox {
  readonly account: Account;
  readonly store: IndexedDbStore;
  readonly #client: Client;
  readonly #conversations = new Map<string, Conversation>();
  readonly #changed = new Set<() => void>();
  readonly #arrived = new Set<(arrival: Arrival) => void>();
  #list: Conversation[] = [];
  #status: Status = { state: "connecting" };
  #marks: Record<string, number> = {};
  #stale = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  private constructor(account: Account, store: IndexedDbStore) {
    this.account = account;
    this.store = store;
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const name = nameOf(account);
    const options = {
      url: url.href,
      token: account.token,
      store,
      // A tab with a new token does not wait for the others, which still have one that is refused.
      share: `${name}/${account.token.slice(-TOKEN_MARK)}`,
      name: "inbox/1.0",
      fromOldest: true,
    };
    this.#client = new Client(options);
  }

  /** Opens what is in this browser, and connects. Rejects where the browser keeps nothing. */
  static async open(account: Account): Promise<Mailbox> {
    const store = await IndexedDbStore.open(nameOf(account), { group: groupOf });
    const mailbox = new Mailbox(account, store);
    await mailbox.#begin();
    return mailbox;
  }

  /** Notices first, then the others, the newest first. */
  get conversations(): Conversation[] {
    return this.#list;
  }

  get unread(): number {
    return this.#list.reduce((sum, { unread }) => sum + unread, 0);
  }

  get status(): Status {
    return this.#status;
  }

  /** Calls `listener` when any of the above is another one. Returns how to end that. */
  onChange(listener: () => void): () => void {
    this.#changed.add(listener);
    return () => this.#changed.delete(listener);
  }

  /** Calls `listener` for each arrival, in order. Returns how to end that. */
  onArrival(listener: (arrival: Arrival) => void): () => void {
    this.#arrived.add(listener);
    return () => this.#arrived.delete(listener);
  }

  /** All of a conversation up to `place` was on the screen. */
  markRead(group: string, place: number): void {
    if (place <= (this.#marks[group] ?? 0)) return;
    // What other tabs marked meanwhile stays.
    this.#marks = { ...this.#readMarks(), [group]: place };
    keep(this.#marksKey, JSON.stringify(this.#marks));
    this.#refreshSoon(group);
  }

  /** Whether a later message of the conversation withdrew this one. */
  async isWithdrawn(group: string, place: number, { clientMsgId }: Message): Promise<boolean> {
    let after: number | undefined = place;
    while (after !== undefined) {
      const page: Item[] = await this.store.groupHistory(group, { after, limit: LATER_ENTRIES });
      if (page.some((entry) => entry.kind === "message" && withdrawn(entry.message) === clientMsgId))
        return true;
      after = page.length === LATER_ENTRIES ? page.at(-1)?.place : undefined;
    }
    return false;
  }

  /** Connects again after the session has ended. */
  reconnect(): void {
    this.#client.start();
  }

  /** Lets go of the session. */
  async close(): Promise<void> {
    removeEventListener("storage", this.#onStorage);
    clearTimeout(this.#timer);
    await this.#client.stop();
    this.store.close();
  }

  /** Removes all of it from this browser. */
  async forget(): Promise<void> {
    await this.close();
    keep(this.#marksKey);
    await IndexedDbStore.remove(nameOf(this.account));
  }

  async #begin(): Promise<void> {
    this.#marks = this.#readMarks();
    addEventListener("storage", this.#onStorage);
    const groups = await this.store.groups();
    await this.#refresh(new Set([NOTICES, ...groups]));
    this.#client.onStatus((status) => {
      this.#status = status;
      this.#tellChanged();
    });
    this.#client.onMessage((message, place) => {
      const group = groupOf(message);
      if (place === undefined) return this.#tellArrived({ group, onlineOnly: message });
      this.#tellArrived({ group, entry: { kind: "message", place, message } });
      this.#refreshSoon(group);
    });
    this.#client.onGap((gap, place) => {
      this.#tellArrived({ group: NOTICES, entry: { kind: "gap", place, gap } });
      this.#refreshSoon(NOTICES);
    });
    this.#client.start();
  }

  /** Reads these conversations anew. */
  async #refresh(groups: Set<string>): Promise<void> {
    for (const group of groups) {
      const readUpTo = this.#marks[group] ?? 0;
      const [[newest], unread] = await Promise.all([
        this.store.groupHistory(group, { limit: 1 }),
        this.store.groupCount(group, readUpTo),
      ]);
      this.#conversations.set(group, { group, newest, unread, readUpTo });
    }
    this.#list = [...this.#conversations.values()].sort(
      (a, b) =>
        Number(b.group === NOTICES) - Number(a.group === NOTICES) ||
        (b.newest?.place ?? 0) - (a.newest?.place ?? 0),
    );
    this.#tellChanged();
  }

  #refreshSoon(group: string): void {
    this.#stale.add(group);
    this.#timer ??= setTimeout(() => {
      const groups = this.#stale;
      this.#stale = new Set();
      this.#timer = undefined;
      // A store that fails ends the session too, which says so.
      this.#refresh(groups).catch(() => {});
    }, REFRESH_AFTER);
  }

  get #marksKey(): string {
    return `${nameOf(this.account)}/read`;
  }

  #readMarks(): Record<string, number> {
    return JSON.parse(kept(this.#marksKey) ?? "{}");
  }

  /** Another tab marked something read. */
  readonly #onStorage = (event: StorageEvent) => {
    if (event.key !== this.#marksKey) return;
    const before = this.#marks;
    this.#marks = this.#readMarks();
    for (const [group, place] of Object.entries(this.#marks))
      if (before[group] !== place) this.#refreshSoon(group);
  };

  #tellChanged(): void {
    for (const listener of this.#changed) listener();
  }

  #tellArrived(arrival: Arrival): void {
    for (const listener of this.#arrived) listener(arrival);
  }
}

/** Names an account's store and lock. */
function nameOf({ user, platform }: Account): string {
  return `towncrier/${user}/${platform}`;
}
