// The durable store for Node: one file, one line for each transaction, written and synced before it counts.
//
// A line is JSON: the position, the entries that landed with it, and the conversations that changed. An unfinished last line,
// left by a crash, is cut when the file is opened; a line that cannot be read anywhere else is damage, and the file does not
// open. Only the newest entries are kept: when the file holds twice what is wanted, it is written anew beside itself and
// renamed. One process has it open at a time: a lock file beside it holds the process id.
import { type FileHandle, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Change, Conversation } from "./conversations.ts";
import { Gap, Message } from "./gen/towncrier/v1/gateway.ts";
import type { Position } from "./landing.ts";
import { Shelf } from "./memory.ts";
import { type Entry, type HistoryQuery, isBeyond, isNewLog, type Store, successors } from "./store.ts";

/**
 * One transaction. Messages and gaps are protobuf in base64; an entry's place is `at` and its index. Where a new log begins,
 * the conversations of before are forgotten. Numbers that JSON does not have are decimal.
 */
interface Line {
  epoch: string;
  cursor: string;
  at?: number;
  entries?: { epoch: string; message?: string; gap?: string }[];
  isNewLog?: boolean;
  conversations?: Written<Conversation>[];
}

/** With decimals in place of bigints. */
type Written<T> = { [Key in keyof T]: T[Key] extends bigint ? string : T[Key] };

type Body = { epoch: bigint } & ({ message: Message } | { gap: Gap });

/** The changes of one transaction. */
interface Commit {
  position: Position;
  bodies?: readonly Body[];
  conversations?: readonly Conversation[];
  isNewLog?: boolean;
}

/** Lands in a file. */
export class FileStore implements Store {
  readonly #path: string;
  readonly #shelf: Shelf;
  readonly #entriesMax: number;
  #file: FileHandle;
  /** Entries and conversations in the file, however often each stands there. */
  #written: number;
  /** Transactions come one after the other: the session and the application both make them. */
  #turn: Promise<unknown> = Promise.resolve();
  /** A write failed: what the file holds is known again only after it was opened anew. */
  #failed: unknown;

  private constructor(path: string, shelf: Shelf, entriesMax: number, file: FileHandle, written: number) {
    this.#path = path;
    this.#shelf = shelf;
    this.#entriesMax = entriesMax;
    this.#file = file;
    this.#written = written;
  }

  /** Opens or makes the file. Rejects when another process has it open, or when it is damaged. */
  static async open(path: string, { entriesMax = 10_000 } = {}): Promise<FileStore> {
    await mkdir(dirname(path), { recursive: true });
    await lock(path);
    try {
      const shelf = new Shelf(entriesMax);
      const file = await open(path, "a+", 0o600);
      const text = await file.readFile("utf8");
      const whole = text.slice(0, text.lastIndexOf("\n") + 1);
      const rows = whole.split("\n").slice(0, -1);
      let [bytes, written] = [0, 0];
      for (const [index, row] of rows.entries()) {
        const count = replay(row, shelf);
        if (count === undefined) {
          // Bytes that never reached the disk read as zeros, and may have the newline behind them.
          if (index < rows.length - 1)
            throw new Error(`${path}: line ${index + 1} is damaged; restore it or remove the file`);
          break;
        }
        bytes += Buffer.byteLength(row) + 1;
        written += count;
      }
      await file.truncate(bytes);
      await file.datasync();
      await syncFolder(path);
      return new FileStore(path, shelf, entriesMax, file, written);
    } catch (error) {
      await unlock(path);
      throw error;
    }
  }

  /** Lets another process open it. */
  async close(): Promise<void> {
    await this.#turn;
    await this.#file.close();
    await unlock(this.#path);
  }

  async position(): Promise<Position> {
    return { ...this.#shelf.position };
  }

  land(epoch: bigint, messages: Message[]): Promise<void> {
    return this.#inTurn(async () => {
      const fresh = successors(this.#shelf.position, epoch, messages);
      const last = fresh.at(-1);
      if (!last) return;
      const { kept, conversations } = this.#shelf.landing(fresh);
      const bodies = kept.map((message) => ({ epoch, message }));
      await this.#commit({ position: { epoch, cursor: last.seq }, bodies, conversations });
    });
  }

  moveTo(position: Position, gap?: Gap): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.#shelf.position;
      if (isBeyond(before, position, gap)) return;
      const bodies = gap ? [{ epoch: position.epoch, gap }] : [];
      await this.#commit({ position, bodies, isNewLog: isNewLog(before, position, gap) });
    });
  }

  async history(query: HistoryQuery): Promise<Entry[]> {
    return this.#shelf.history(query);
  }

  async conversations(): Promise<Conversation[]> {
    return [...this.#shelf.conversations.values()];
  }

  change(ids: string[], change: Change): Promise<boolean> {
    return this.#inTurn(async () => {
      const conversations = this.#shelf.changing(ids, change);
      if (conversations.length === 0) return false;
      await this.#commit({ position: this.#shelf.position, conversations });
      return true;
    });
  }

  /** Does `work` after all that was begun before it. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  async #commit(commit: Commit): Promise<void> {
    if (this.#failed) throw this.#failed;
    const { position, bodies = [], conversations = [] } = commit;
    try {
      await this.#file.appendFile(toLine(this.#shelf.place + 1, commit));
      await this.#file.datasync();
      for (const body of bodies) this.#shelf.keep(body.epoch, body);
      if (commit.isNewLog) this.#shelf.conversations.clear();
      this.#shelf.know([...conversations]);
      this.#shelf.position = { ...position };
      this.#written += bodies.length + conversations.length;
      if (this.#written >= 2 * (this.#entriesMax + this.#shelf.conversations.size)) await this.#rewrite();
    } catch (error) {
      this.#failed = error;
      throw error;
    }
  }

  /** The newest entries alone and all conversations, in a file that takes this one's place. */
  async #rewrite(): Promise<void> {
    this.#shelf.trim();
    const { position, entries } = this.#shelf;
    const conversations = [...this.#shelf.conversations.values()];
    const fresh = `${this.#path}.new`;
    const line = toLine(entries[0]?.place ?? 1, { position, bodies: entries, conversations });
    await writeFile(fresh, line, { mode: 0o600, flush: true });
    await rename(fresh, this.#path);
    await syncFolder(this.#path);
    await this.#file.close();
    this.#file = await open(this.#path, "a+", 0o600);
    this.#written = entries.length + conversations.length;
  }
}

function toLine(at: number, commit: Commit): string {
  const { position, bodies = [], conversations = [] } = commit;
  const entries = bodies.map((body) => {
    const epoch = String(body.epoch);
    if ("gap" in body) return { epoch, gap: toBase64(Gap.encode(body.gap).finish()) };
    return { epoch, message: toBase64(Message.encode(body.message).finish()) };
  });
  const line: Line = { ...toDecimals(position), at, entries };
  if (commit.isNewLog) line.isNewLog = true;
  if (conversations.length > 0) line.conversations = conversations.map(toDecimals);
  return `${JSON.stringify(line)}\n`;
}

/** Takes a line in; the number of its entries and conversations, or undefined where it cannot be read. */
function replay(row: string, shelf: Shelf): number | undefined {
  try {
    const line = JSON.parse(row) as Line;
    const position = { epoch: BigInt(line.epoch), cursor: BigInt(line.cursor) };
    const conversations = (line.conversations ?? []).map(fromDecimals);
    const entries = line.entries ?? [];
    let place = line.at ?? 1;
    for (const { epoch, message, gap } of entries) {
      if (gap !== undefined) shelf.keep(BigInt(epoch), { gap: Gap.decode(fromBase64(gap)) }, place);
      else shelf.keep(BigInt(epoch), { message: Message.decode(fromBase64(message ?? "")) }, place);
      place += 1;
    }
    if (line.isNewLog) shelf.conversations.clear();
    shelf.know(conversations);
    shelf.position = position;
    return entries.length + conversations.length;
  } catch {
    return undefined;
  }
}

function toDecimals<T extends object>(value: T): Written<T> {
  const pairs = Object.entries(value).map(([key, one]) => [key, typeof one === "bigint" ? String(one) : one]);
  return Object.fromEntries(pairs);
}

function fromDecimals(written: Written<Conversation>): Conversation {
  return {
    ...written,
    head: BigInt(written.head),
    first: BigInt(written.first),
    landed: BigInt(written.landed),
    mark: BigInt(written.mark),
    confirmed: BigInt(written.confirmed),
    lastTime: BigInt(written.lastTime),
    lastSeq: BigInt(written.lastSeq),
  };
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

/** As a plain array: what is read back equals what landed. */
function fromBase64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "base64"));
}

/** A file is there after a power cut once its folder is on disk. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path));
  await folder.sync();
  await folder.close();
}

/** Paths open in this process: its own process id in a lock file may be of a former life. */
const opened = new Set<string>();

async function lock(path: string): Promise<void> {
  const inUse = () =>
    new Error(`${path} is in use by another process: one client per store (else remove ${path}.lock)`);
  if (opened.has(path)) throw inUse();
  opened.add(path);
  try {
    const holder = Number(await readFile(`${path}.lock`, "utf8").catch(() => "0"));
    if (holder !== process.pid && isAlive(holder)) throw inUse();
    await writeFile(`${path}.lock`, String(process.pid));
  } catch (error) {
    opened.delete(path);
    throw error;
  }
}

async function unlock(path: string): Promise<void> {
  await rm(`${path}.lock`, { force: true });
  opened.delete(path);
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
