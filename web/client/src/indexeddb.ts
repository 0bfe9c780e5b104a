// The store of a browser: one IndexedDB database, message and cursor in one transaction.
//
// | object store | key | value | lifetime |
// |---|---|---|---|
// | `entries` | place, counted up | the entry; its `group`; a message's `id` (serverMsgId), unique | the newest `entriesMax` |
// | `state` | `"position"` | epoch and cursor | as long as the database |
// | `conversations` | id | what is known of the conversation | until a new log |
//
// A browser may close the database under its page (Safari does so to pages in the background, every browser when site data
// is cleared), another tab may want it gone or newer, and another release may have made it: each of these is told apart.
//
// Transactions are strict where the browser knows the word: an ack never runs ahead of the disk. Several tabs may have the
// same database open; each landing checks in its own transaction that it follows on the position.
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

/** As made here. A higher number, or other object stores, are another release's. */
const VERSION = 2;
/** The object stores of version 1. */
const FIRST_STORES = ["entries", "state"];
const STORES = [...FIRST_STORES, "conversations"];
const FOREIGN = "the database was made by something else";
/** A tab that is frozen holds on to a database that others want to open or to remove, ms. */
const OPEN_TIMEOUT = 10_000;

/**
 * Another release made the database, and this one cannot read it. Either this program is out of date, or its release was
 * taken back; then {@link IndexedDbStore.remove} begins anew, and the gateway sends all that it retains.
 */
export class UnknownSchema extends Error {
  override name = "UnknownSchema";
}

/** How an {@link IndexedDbStore} keeps what lands. */
export interface IndexedDbOptions {
  /** Older entries make room. Default 50,000: some 50 MB of ordinary notices. */
  entriesMax?: number;
  /** Names the group that an entry belongs to, for {@link IndexedDbStore.groups}. Default: a message's conversationId. */
  group?: (entry: Message | Gap) => string;
  /** Called once when the browser, or another tab, closed the database. Open another store, and make another client. */
  onClosed?: () => void;
}

/** Lands in IndexedDB. */
export class IndexedDbStore implements Store {
  readonly #database: IDBDatabase;
  readonly #entriesMax: number;
  readonly #group: (entry: Message | Gap) => string;

  private constructor(database: IDBDatabase, options: IndexedDbOptions) {
    this.#database = database;
    this.#entriesMax = options.entriesMax ?? 50_000;
    this.#group = options.group ?? ((entry) => ("conversationId" in entry ? entry.conversationId : ""));
    database.onclose = () => options.onClosed?.();
    // Whoever wants the database gone, on signing out, or newer, gets it.
    database.onversionchange = () => {
      database.close();
      options.onClosed?.();
    };
  }

  /**
   * Opens or makes the database; one of an earlier release is upgraded. Throws {@link UnknownSchema}, or where the browser has
   * none for us or another tab holds it.
   */
  static async open(name: string, options: IndexedDbOptions = {}): Promise<IndexedDbStore> {
    const request = indexedDB.open(name, VERSION);
    let isForeign = false;
    request.onupgradeneeded = ({ oldVersion }) => {
      if (oldVersion === 0) makeFirstStores(request.result);
      isForeign = !hasStores(request.result, FIRST_STORES);
      // A foreign database stays as it is.
      if (isForeign) request.transaction?.abort();
      else request.result.createObjectStore("conversations", { keyPath: "id" });
    };
    const database = await inTime(request, (late) => late.close()).catch((error) => {
      throw isForeign ? new UnknownSchema(FOREIGN) : error;
    });
    if (hasStores(database, STORES)) return new IndexedDbStore(database, options);
    database.close();
    throw new UnknownSchema(FOREIGN);
  }

  /**
   * Removes the database and all that landed in it. Rejects where another tab holds it; it is removed all the same as soon
   * as that tab lets go.
   */
  static async remove(name: string): Promise<void> {
    await inTime(indexedDB.deleteDatabase(name), () => {});
  }

  async position(): Promise<Position> {
    return readPosition(this.#read("state"));
  }

  async land(epoch: bigint, entries: Message[]): Promise<void> {
    await this.#write(async (transaction) => {
      const fresh = successors(await readPosition(transaction), epoch, entries);
      const last = fresh.at(-1);
      if (!last) return;
      const before = await readConversations(
        transaction,
        conversationsOf(fresh),
        await newestPlace(transaction),
      );
      const messages = fresh.filter((message) => !isMarks(message));
      const isKept = await Promise.all(
        messages.map((message) => this.#keep(transaction, { kind: "message", epoch, message })),
      );
      const kept = new Set(messages.filter((_, index) => isKept[index]));
      for (const conversation of afterLanding(before, fresh, kept))
        transaction.objectStore("conversations").put(conversation);
      writePosition(transaction, { epoch, cursor: last.seq });
    });
  }

  async moveTo(position: Position, gap?: Gap): Promise<void> {
    await this.#write(async (transaction) => {
      const before = await readPosition(transaction);
      if (isBeyond(before, position, gap)) return;
      if (isNewLog(before, position, gap)) transaction.objectStore("conversations").clear();
      if (gap) await this.#keep(transaction, { kind: "gap", epoch: position.epoch, gap });
      writePosition(transaction, position);
    });
  }

  async history(query: HistoryQuery): Promise<Entry[]> {
    return page(this.#read("entries").objectStore("entries"), query, (place) => place);
  }

  conversations(): Promise<Conversation[]> {
    return result(this.#read("conversations").objectStore("conversations").getAll());
  }

  async change(ids: string[], change: Change): Promise<boolean> {
    let isChanged = false;
    await this.#write(async (transaction) => {
      const standing = { position: await readPosition(transaction), place: await newestPlace(transaction) };
      for (const before of await readConversations(transaction, ids, standing.place)) {
        const after = change(before, standing);
        if (after === before) continue;
        isChanged = true;
        transaction.objectStore("conversations").put(after);
      }
    });
    return isChanged;
  }

  /** The same as {@link history}, of one group. */
  async groupHistory(group: string, query: HistoryQuery = {}): Promise<Entry[]> {
    const index = this.#read("entries").objectStore("entries").index("group");
    return page(index, query, (place) => [group, place]);
  }

  /** The names of all groups: one step in the index for each, however many entries it has. */
  async groups(): Promise<string[]> {
    const index = this.#read("entries").objectStore("entries").index("group");
    const names: string[] = [];
    await walk(index.openKeyCursor(), (cursor) => {
      const [name] = cursor.key as [string, number];
      names.push(name);
      cursor.continue([name, Number.POSITIVE_INFINITY]);
    });
    return names;
  }

  /** Lets go of the database. */
  close(): void {
    this.#database.close();
  }

  /** Resolves to whether the entry is kept; it is not where it is there already. */
  async #keep(
    transaction: IDBTransaction,
    entry:
      | Omit<Extract<Entry, { kind: "message" }>, "place">
      | Omit<Extract<Entry, { kind: "gap" }>, "place">,
  ): Promise<boolean> {
    const entries = transaction.objectStore("entries");
    const body = entry.kind === "message" ? entry.message : entry.gap;
    const id = entry.kind === "message" ? { id: entry.message.serverMsgId } : {};
    const request = entries.add({ ...entry, ...id, group: this.#group(body) });
    return new Promise((resolve, reject) => {
      request.onsuccess = () => {
        const oldest = Number(request.result) - this.#entriesMax;
        if (oldest > 0) entries.delete(IDBKeyRange.upperBound(oldest));
        resolve(true);
      };
      request.onerror = (event) => {
        if (request.error?.name !== "ConstraintError") return reject(request.error);
        // The message is there already: the transaction goes on without it.
        event.preventDefault();
        event.stopPropagation();
        resolve(false);
      };
    });
  }

  #read(store: "entries" | "state" | "conversations"): IDBTransaction {
    return this.#database.transaction(store, "readonly");
  }

  /** Resolves when all that `work` asked for is durable. */
  async #write(work: (transaction: IDBTransaction) => Promise<void>): Promise<void> {
    const transaction = this.#database.transaction(STORES, "readwrite", { durability: "strict" });
    const durable = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () =>
        reject(transaction.error ?? new Error("the database let go of a transaction"));
    });
    try {
      await work(transaction);
    } catch (error) {
      // The reason is `error`; the abort adds nothing. Where it was the database that aborted, there is none to be made.
      const ended = durable.catch(() => {});
      try {
        transaction.abort();
      } catch {}
      await ended;
      throw error;
    }
    await durable;
  }
}

function makeFirstStores(database: IDBDatabase): void {
  const entries = database.createObjectStore("entries", { keyPath: "place", autoIncrement: true });
  entries.createIndex("id", "id", { unique: true });
  entries.createIndex("group", ["group", "place"]);
  database.createObjectStore("state");
}

function hasStores(database: IDBDatabase, stores: string[]): boolean {
  return stores.every((store) => database.objectStoreNames.contains(store));
}

async function readPosition(transaction: IDBTransaction): Promise<Position> {
  const position: Position | undefined = await result(transaction.objectStore("state").get("position"));
  return position ?? { epoch: 0n, cursor: 0n };
}

function writePosition(transaction: IDBTransaction, position: Position): void {
  transaction.objectStore("state").put(position, "position");
}

/** These conversations, each as known or unknown; `place` is that of the newest entry. */
async function readConversations(
  transaction: IDBTransaction,
  ids: string[],
  place: number,
): Promise<Conversation[]> {
  const conversations = transaction.objectStore("conversations");
  const known = await Promise.all(ids.map((id) => result<Conversation | undefined>(conversations.get(id))));
  return ids.map((id, index) => known[index] ?? unknownConversation(id, place));
}

/** Where the newest entry is; 0 when there is none. */
async function newestPlace(transaction: IDBTransaction): Promise<number> {
  const newest = await result(transaction.objectStore("entries").openKeyCursor(null, "prev"));
  return Number(newest?.key ?? 0);
}

/** What a query asks for, of a store or an index whose keys are made of places. */
async function page(
  source: IDBObjectStore | IDBIndex,
  { after, before = Number.POSITIVE_INFINITY, limit = LIMIT_DEFAULT }: HistoryQuery,
  key: (place: number) => IDBValidKey,
): Promise<Entry[]> {
  if (after !== undefined) {
    const range = IDBKeyRange.bound(key(after), key(Number.POSITIVE_INFINITY), true);
    return (await result(source.getAll(range, limit))).map(whole);
  }
  const rows: Entry[] = [];
  const range = IDBKeyRange.bound(key(0), key(before), false, true);
  await walk(source.openCursor(range, "prev"), (cursor) => {
    rows.push(cursor.value);
    if (rows.length < limit) cursor.continue();
  });
  return rows.reverse().map(whole);
}

/** With the fields that an earlier release, which kept the entry, did not know. */
function whole(entry: Entry): Entry {
  if (entry.kind === "gap") return entry;
  const absent = { conversationSeq: 0n, marks: [] };
  return { ...entry, message: { ...absent, ...entry.message } };
}

/** Calls `step` at each stop of a cursor, until it does not ask for another one, or there is none. */
async function walk<C extends IDBCursor>(
  request: IDBRequest<C | null>,
  step: (cursor: C) => void,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (!cursor) return resolve();
      step(cursor);
      if (request.readyState === "done") resolve();
    };
  });
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** What is opened or removed, within the time; `onLate` gets what comes after it. */
async function inTime(
  request: IDBOpenDBRequest,
  onLate: (database: IDBDatabase) => void,
): Promise<IDBDatabase> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      request.onsuccess = () => onLate(request.result);
      reject(new Error("another tab holds the database: close it"));
    }, OPEN_TIMEOUT);
  });
  try {
    return await Promise.race([result(request), late]);
  } catch (error) {
    const isNewer = error instanceof Error && error.name === "VersionError";
    throw isNewer ? new UnknownSchema("a newer release made the database") : error;
  } finally {
    clearTimeout(timer);
  }
}
