// One account's inbox as the page shows it: its store, its client, and the groups with what is unread in them.
//
// The notices come first and are there before anything is. The group on the screen is marked as read, in each conversation that
// it consists of.
import {
  Client,
  type Conversation,
  type Gap,
  IndexedDbStore,
  type Message,
  type Status,
  UnknownSchema,
} from "towncrier";
import type { Account } from "./account.ts";
import { withdrawn } from "./content.ts";
import { groupOf, groupOfConversation, NOTICES } from "./group.ts";
import { ownName } from "./keep.ts";
import { forgetMarks, takeOverMarks } from "./marks.ts";
import { isServed } from "./release.ts";
import { say } from "./words.ts";

/** How long arrivals are collected before the list is read anew, ms: a backlog of thousands is some ten readings. */
const REFRESH_AFTER = 80;

/** Waits before a store that failed is tried again, ms: it doubles from the first to the longest. */
const [HEAL_FIRST, HEAL_LONGEST] = [1_000, 60_000];

/** So much of a token's end tells it apart. */
const TOKEN_MARK = 16;

/** Later entries that are looked through at a time. */
const LATER_ENTRIES = 500;

/** What landed, as it is shown: an entry of the store, whichever log it is of. */
export type Item = { place: number } & ({ kind: "message"; message: Message } | { kind: "gap"; gap: Gap });

/** A group, as a line of the list. */
export interface Group {
  group: string;
  /** Its newest entry; there is none only where there are no notices yet. */
  newest: Item | undefined;
  unread: number;
}

/** What just came. */
export type Arrival = { group: string; entry: Item } | { group: string; onlineOnly: Message };

/** One account's inbox. */
export class Mailbox {
  readonly account: Account;
  readonly store: IndexedDbStore;
  /** Another release had kept the messages, in a way that this one cannot read: they came anew. */
  readonly isAnew: boolean;
  readonly #client: Client;
  readonly #groups = new Map<string, Group>();
  readonly #changed = new Set<() => void>();
  readonly #arrived = new Set<(arrival: Arrival) => void>();
  #list: Group[] = [];
  #status: Status = { state: "connecting" };
  #known: ReadonlyMap<string, Conversation> = new Map();
  /** A group on the screen, up to a place. */
  #shown: { group: string; place: number } | undefined;
  readonly #onLost: () => void;
  #stale = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #healTimer: ReturnType<typeof setTimeout> | undefined;
  #healAfter = HEAL_FIRST;
  #isClosed = false;

  private constructor(account: Account, { store, isAnew }: Opened, onLost: () => void) {
    this.account = account;
    this.store = store;
    this.isAnew = isAnew;
    this.#onLost = onLost;
    // Beside the page, wherever that is.
    const url = new URL("ws", location.href);
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

  /**
   * Opens what is in this browser, and connects. Rejects where the browser keeps nothing. Calls `onLost` when the database
   * is gone, once or more often: then another mailbox must be opened.
   */
  static async open(account: Account, onLost: () => void): Promise<Mailbox> {
    const mailbox = new Mailbox(account, await openStore(nameOf(account), onLost), onLost);
    await mailbox.#begin();
    return mailbox;
  }

  /** Notices first, then the others, the newest first. */
  get groups(): Group[] {
    return this.#list;
  }

  /** All conversations, by id. Another map whenever one of them is another one. */
  get conversations(): ReadonlyMap<string, Conversation> {
    return this.#known;
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

  /** A group is on the screen, up to the entry at `place`, until it is shown no more or up to another one. */
  show(shown: { group: string; place: number } | undefined): void {
    this.#shown = shown;
    this.#markShown();
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
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#healTimer);
    await this.#client.stop();
    this.store.close();
  }

  /** Removes all of it from this browser. */
  async forget(): Promise<void> {
    forgetMarks(nameOf(this.account));
    await this.close();
    await IndexedDbStore.remove(nameOf(this.account));
  }

  async #begin(): Promise<void> {
    const [groups, conversations] = await Promise.all([this.store.groups(), this.store.conversations()]);
    this.#know(conversations);
    await this.#refresh(new Set([NOTICES, ...groups]));
    this.#client.onStatus((status) => {
      this.#status = status;
      if (status.state === "live") {
        this.#healAfter = HEAL_FIRST;
        // A store that fails ends the session too, which says so.
        takeOverMarks(nameOf(this.account), this.store, this.#client).catch(() => {});
      }
      if (status.state === "ended" && status.reason === "store") this.#heal();
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
    this.#client.onConversations((conversations) => {
      this.#know(conversations);
      this.#count();
      this.#markShown();
    });
    this.#client.start();
  }

  /** Tries again with a store that failed, as one that was full, unless it cannot even be read: then it is lost. */
  async #heal(): Promise<void> {
    try {
      await this.store.position();
    } catch {
      this.#onLost();
      return;
    }
    if (this.#isClosed) return;
    clearTimeout(this.#healTimer);
    this.#healTimer = setTimeout(() => this.#client.start(), this.#healAfter);
    this.#healAfter = Math.min(this.#healAfter * 2, HEAL_LONGEST);
  }

  #know(conversations: Conversation[]): void {
    this.#known = new Map(conversations.map((conversation) => [conversation.id, conversation]));
  }

  /** Reads the newest entries of these groups anew. */
  async #refresh(groups: Set<string>): Promise<void> {
    for (const group of groups) {
      const [newest] = await this.store.groupHistory(group, { limit: 1 });
      this.#groups.set(group, { group, newest, unread: 0 });
    }
    this.#count();
  }

  /** Counts what is unread in each group, and lists them. */
  #count(): void {
    const unread = new Map<string, number>();
    for (const conversation of this.#known.values()) {
      const group = groupOfConversation(conversation.id);
      unread.set(group, (unread.get(group) ?? 0) + conversation.unread);
    }
    this.#list = [...this.#groups.values()]
      .map((one) => ({ ...one, unread: unread.get(one.group) ?? 0 }))
      .sort(
        (a, b) =>
          Number(b.group === NOTICES) - Number(a.group === NOTICES) ||
          (b.newest?.place ?? 0) - (a.newest?.place ?? 0),
      );
    this.#tellChanged();
  }

  /** Marks as read what is on the screen. A store that fails ends the session too, which says so. */
  #markShown(): void {
    this.#markRead().catch(() => {});
  }

  async #markRead(): Promise<void> {
    const shown = this.#shown;
    if (!shown) return;
    const unread = [...this.#known.values()].filter(
      ({ id, unread }) => unread > 0 && groupOfConversation(id) === shown.group,
    );
    if (unread.length === 0) return;
    const { cursor } = await this.store.position();
    const [newest] = await this.store.groupHistory(shown.group, { limit: 1 });
    // A message that is not on the screen yet, or has not landed, comes there in a moment and is marked then.
    if (newest && newest.place > shown.place) return;
    const whole = unread.filter(({ lastSeq }) => lastSeq <= cursor);
    await Promise.all(whole.map(({ id, head }) => this.#client.markRead(id, head)));
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

  #tellChanged(): void {
    for (const listener of this.#changed) listener();
  }

  #tellArrived(arrival: Arrival): void {
    for (const listener of this.#arrived) listener(arrival);
  }
}

interface Opened {
  store: IndexedDbStore;
  isAnew: boolean;
}

/**
 * Opens the database. One of another release is removed, since the gateway has the messages: but only where the gateway
 * serves this very release, which was then put back in place of that one. Else it is this page that is out of date.
 */
async function openStore(name: string, onClosed: () => void): Promise<Opened> {
  const options = { group: groupOf, onClosed };
  try {
    return { store: await IndexedDbStore.open(name, options), isAnew: false };
  } catch (error) {
    if (!(error instanceof UnknownSchema)) throw error;
    if (!(await isServed())) throw new Error(say("otherRelease"));
    await IndexedDbStore.remove(name);
    return { store: await IndexedDbStore.open(name, options), isAnew: true };
  }
}

/** Names an account's store and lock. */
function nameOf({ user, platform }: Account): string {
  return ownName(`towncrier/${user}/${platform}`);
}
