// Up to where each conversation was read: kept in localStorage, so that all tabs agree on it at once.
//
// A mark is an entry: its place in this browser's database, and its epoch and seq in the user's inbox. The place is quick to
// compare. The seq still holds after the browser has lost the database, whose successor counts its places anew. So a place
// is believed only where that entry stands there; else the mark is looked for by its seq, as entries land.
import type { Entry, HistoryQuery } from "towncrier";
import { keep, kept } from "./keep.ts";

/** Entries looked through at a time. */
const PAGE_ENTRIES = 500;

/** The newest entry of a conversation that was read. Epoch and seq are decimal: JSON has no such numbers. */
interface Mark {
  place: number;
  epoch: string;
  seq: string;
}

/** Where a mark is in this database. */
interface Found {
  place: number;
  /** Entries up to here were looked through. */
  lookedUpTo: number;
  /** What lands later does not move it. */
  isFinal: boolean;
}

/** Reads a conversation, as a store does. */
export type ReadGroup = (group: string, query: HistoryQuery) => Promise<Entry[]>;

/** The marks of one account. */
export class Marks {
  readonly #key: string;
  readonly #placesKey: string;
  readonly #read: ReadGroup;
  #marks = new Map<string, Mark>();
  readonly #found = new Map<string, Found>();
  #isForgotten = false;

  constructor(name: string, read: ReadGroup) {
    this.#key = `${name}/marks`;
    // Earlier releases kept places alone. They stay for whoever goes back to such a release.
    this.#placesKey = `${name}/read`;
    this.#read = read;
  }

  /** Takes up what is kept. */
  async load(): Promise<void> {
    const text = kept(this.#key);
    if (text !== null) {
      this.#marks = parse(text);
      return;
    }
    for (const [group, place] of entriesOf(kept(this.#placesKey)))
      if (typeof place === "number") await this.mark(group, place);
  }

  /** The place up to which a conversation was read; 0: nothing of what is here. */
  async readUpTo(group: string): Promise<number> {
    const mark = this.#marks.get(group);
    if (!mark) return 0;
    const found = this.#found.get(group) ?? (await this.#check(group, mark));
    let isMore = !found.isFinal;
    while (isMore) {
      const page = await this.#read(group, { after: found.lookedUpTo, limit: PAGE_ENTRIES });
      look(page, mark, found);
      isMore = !found.isFinal && page.length === PAGE_ENTRIES;
    }
    return found.place;
  }

  /** All up to `place` was read. True where that is new. */
  async mark(group: string, place: number): Promise<boolean> {
    if (place <= (await this.readUpTo(group))) return false;
    const entry = await this.#entryAt(group, place);
    // Another call may have come further meanwhile.
    if (!entry || this.#isForgotten || place <= (this.#found.get(group)?.place ?? 0)) return false;
    // What other tabs marked meanwhile stays.
    this.#marks = parse(kept(this.#key));
    this.#marks.set(group, { place, epoch: String(entry.epoch), seq: String(seqOf(entry)) });
    this.#found.set(group, { place, lookedUpTo: place, isFinal: true });
    keep(this.#key, JSON.stringify(Object.fromEntries(this.#marks)));
    return true;
  }

  /** Takes up what another tab marked; the conversations where that is new. `key` is the one of the storage event. */
  changed(key: string | null): string[] {
    if (key !== this.#key) return [];
    const before = this.#marks;
    this.#marks = parse(kept(this.#key));
    const isNew = ([group, { place }]: [string, Mark]) => before.get(group)?.place !== place;
    const groups = [...this.#marks].filter(isNew).map(([group]) => group);
    for (const group of groups) this.#found.delete(group);
    return groups;
  }

  /** Removes them from this browser. */
  forget(): void {
    this.#isForgotten = true;
    keep(this.#key);
    keep(this.#placesKey);
  }

  /** Whether the entry is where its mark says; else it is looked for from the oldest entry on. */
  async #check(group: string, mark: Mark): Promise<Found> {
    const entry = await this.#entryAt(group, mark.place);
    const isHere = entry && String(entry.epoch) === mark.epoch && String(seqOf(entry)) === mark.seq;
    const place = isHere ? mark.place : 0;
    const found = { place, lookedUpTo: place, isFinal: isHere === true };
    this.#found.set(group, found);
    return found;
  }

  async #entryAt(group: string, place: number): Promise<Entry | undefined> {
    const [entry] = await this.#read(group, { after: place - 1, limit: 1 });
    return entry?.place === place ? entry : undefined;
  }
}

/** Moves `found` to the last of these entries that the mark covers: within one log, places ascend as seqs do. */
function look(page: Entry[], mark: Mark, found: Found): void {
  for (const entry of page) {
    if (String(entry.epoch) === mark.epoch) {
      found.isFinal = seqOf(entry) > BigInt(mark.seq);
      if (found.isFinal) return;
      found.place = Math.max(found.place, entry.place);
    }
    found.lookedUpTo = Math.max(found.lookedUpTo, entry.place);
  }
}

function seqOf(entry: Entry): bigint {
  return entry.kind === "message" ? entry.message.seq : entry.gap.toSeq;
}

/** What cannot be read, as where another release wrote it, was not read. */
function parse(text: string | null): Map<string, Mark> {
  return new Map(entriesOf(text).filter((entry): entry is [string, Mark] => isMark(entry[1])));
}

function isMark(value: unknown): boolean {
  const { place, epoch, seq } = (value ?? {}) as Partial<Mark>;
  return typeof place === "number" && /^\d+$/.test(`${epoch}`) && /^\d+$/.test(`${seq}`);
}

function entriesOf(text: string | null): [string, unknown][] {
  try {
    return Object.entries(JSON.parse(text ?? "{}"));
  } catch {
    return [];
  }
}
