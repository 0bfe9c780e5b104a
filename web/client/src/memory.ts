// A store that lasts as long as its process, and the shelf of entries that it shares with the file store.
import {
  afterLanding,
  type Change,
  type Conversation,
  conversationsOf,
  isMarks,
  unknownConversation,
} from "./conversations.ts";
import type { Gap, Message } from "./gen/towncrier/v1/gateway.ts";
import type { Position } from "./landing.ts";
import {
  type Entry,
  type HistoryQuery,
  isBeyond,
  isNewLog,
  LIMIT_DEFAULT,
  type Store,
  successors,
} from "./store.ts";

/** The newest entries, in memory, and the position and the conversations that belong to them. */
export class Shelf {
  readonly #entriesMax: number;
  #entries: Entry[] = [];
  #ids = new Set<string>();
  #place = 0;
  position: Position = { epoch: 0n, cursor: 0n };
  readonly conversations = new Map<string, Conversation>();

  /** Keeps `entriesMax` entries; older ones make room. */
  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** The newest place given. */
  get place(): number {
    return this.#place;
  }

  /** The messages that landing these would keep, and the conversations after it. Nothing is changed yet. */
  landing(messages: Message[]): { kept: Message[]; conversations: Conversation[] } {
    const kept = messages.filter((message) => !isMarks(message) && !this.#ids.has(message.serverMsgId));
    const before = conversationsOf(messages).map((id) => this.#conversation(id));
    return { kept, conversations: afterLanding(before, messages, new Set(kept)) };
  }

  /** These conversations after `change`, without those that it leaves as they are. Nothing is changed yet. */
  changing(ids: string[], change: Change): Conversation[] {
    const standing = { position: { ...this.position }, place: this.#place };
    return ids
      .map((id) => this.#conversation(id))
      .map((before) => ({ before, after: change(before, standing) }))
      .filter(({ before, after }) => before !== after)
      .map(({ after }) => after);
  }

  /** Puts these in the place of what was known of them. */
  know(conversations: Conversation[]): void {
    for (const conversation of conversations) this.conversations.set(conversation.id, conversation);
  }

  #conversation(id: string): Conversation {
    return this.conversations.get(id) ?? unknownConversation(id, this.#place);
  }

  /** Puts an entry at the end, at the next place or at its own. */
  keep(epoch: bigint, body: { message: Message } | { gap: Gap }, place = this.#place + 1): void {
    this.#place = place;
    if ("gap" in body) {
      this.#entries.push({ place, epoch, kind: "gap", gap: body.gap });
    } else {
      this.#ids.add(body.message.serverMsgId);
      this.#entries.push({ place, epoch, kind: "message", message: body.message });
    }
    // Twice as many before half of them go: each entry is moved once.
    if (this.#entries.length >= 2 * this.#entriesMax) this.trim();
  }

  /** Lets go of all but the newest. */
  trim(): void {
    const gone = this.#entries.splice(0, Math.max(0, this.#entries.length - this.#entriesMax));
    for (const entry of gone) if (entry.kind === "message") this.#ids.delete(entry.message.serverMsgId);
  }

  /** See {@link Store.history}. */
  history({ after, before, limit = LIMIT_DEFAULT }: HistoryQuery): Entry[] {
    if (after !== undefined) {
      const start = this.#firstFrom(after + 1);
      return this.#entries.slice(start, start + limit);
    }
    const end = before === undefined ? this.#entries.length : this.#firstFrom(before);
    return this.#entries.slice(Math.max(0, end - limit), end);
  }

  /** Index of the first entry at `place` or after it. */
  #firstFrom(place: number): number {
    let [low, high] = [0, this.#entries.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#entries[middle]?.place ?? 0) < place) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Lands in memory. What comes after a restart begins where the server says. */
export class MemoryStore implements Store {
  readonly #shelf: Shelf;

  /** Keeps between `entriesMax` and twice as many entries. */
  constructor({ entriesMax = 10_000 } = {}) {
    this.#shelf = new Shelf(entriesMax);
  }

  async position(): Promise<Position> {
    return { ...this.#shelf.position };
  }

  async land(epoch: bigint, messages: Message[]): Promise<void> {
    const fresh = successors(this.#shelf.position, epoch, messages);
    const last = fresh.at(-1);
    if (!last) return;
    const { kept, conversations } = this.#shelf.landing(fresh);
    for (const message of kept) this.#shelf.keep(epoch, { message });
    this.#shelf.know(conversations);
    this.#shelf.position = { epoch, cursor: last.seq };
  }

  async moveTo(position: Position, gap?: Gap): Promise<void> {
    if (isBeyond(this.#shelf.position, position, gap)) return;
    if (isNewLog(this.#shelf.position, position, gap)) this.#shelf.conversations.clear();
    this.#shelf.position = { ...position };
    if (gap) this.#shelf.keep(position.epoch, { gap });
  }

  async history(query: HistoryQuery): Promise<Entry[]> {
    return this.#shelf.history(query);
  }

  async conversations(): Promise<Conversation[]> {
    return [...this.#shelf.conversations.values()];
  }

  async change(ids: string[], change: Change): Promise<boolean> {
    const changed = this.#shelf.changing(ids, change);
    this.#shelf.know(changed);
    return changed.length > 0;
  }
}
