// The durable store for Node: one file, one line for each transaction, written and synced before it counts.
//
// A line is JSON: the position, and the entries that landed with it. An unfinished last line, left by a crash, is cut when
// the file is opened; a line that cannot be read anywhere else is damage, and the file does not open. Only the newest
// entries are kept: when the file holds twice as many as wanted, it is written anew beside itself and renamed. One process
// has it open at a time: a lock file beside it holds the process id.
import { type FileHandle, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { Gap, Message } from "./gen/towncrier/v1/gateway.ts";
import type { Position } from "./landing.ts";
import { Shelf } from "./memory.ts";
import { type Entry, type HistoryQuery, isBeyond, type Store, successors } from "./store.ts";

/** One transaction. Messages and gaps are protobuf in base64; an entry's place is `at` and its index. */
interface Line {
  epoch: string;
  cursor: string;
  at?: number;
  entries?: { epoch: string; message?: string; gap?: string }[];
}

type Body = { epoch: bigint } & ({ message: Message } | { gap: Gap });

/** Lands in a file. */
export class FileStore implements Store {
  readonly #path: string;
  readonly #shelf: Shelf;
  readonly #entriesMax: number;
  #file: FileHandle;
  /** Entries in the file. */
  #written: number;
  /** A write failed: what the file holds is known again only after it was opened anew. */
  #failed: unknown;

  private constructor(path: string, shelf: Shelf, entriesMax: number, file: FileHandle) {
    this.#path = path;
    this.#shelf = shelf;
    this.#entriesMax = entriesMax;
    this.#file = file;
    this.#written = shelf.entries.length;
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
      let bytes = 0;
      for (const [index, row] of rows.entries()) {
        if (!replay(row, shelf)) {
          // Bytes that never reached the disk read as zeros, and may have the newline behind them.
          if (index < rows.length - 1)
            throw new Error(`${path}: line ${index + 1} is damaged; restore it or remove the file`);
          break;
        }
        bytes += Buffer.byteLength(row) + 1;
      }
      await file.truncate(bytes);
      await file.datasync();
      await syncFolder(path);
      return new FileStore(path, shelf, entriesMax, file);
    } catch (error) {
      await unlock(path);
      throw error;
    }
  }

  /** Lets another process open it. */
  async close(): Promise<void> {
    await this.#file.close();
    await unlock(this.#path);
  }

  async position(): Promise<Position> {
    return { ...this.#shelf.position };
  }

  async land(epoch: bigint, messages: Message[]): Promise<void> {
    const still = successors(this.#shelf.position, epoch, messages);
    const last = still.at(-1);
    if (!last) return;
    const fresh = still.filter((message) => !this.#shelf.has(message));
    await this.#commit(
      { epoch, cursor: last.seq },
      fresh.map((message) => ({ epoch, message })),
    );
  }

  async moveTo(position: Position, gap?: Gap): Promise<void> {
    if (isBeyond(this.#shelf.position, position, gap)) return;
    await this.#commit(position, gap ? [{ epoch: position.epoch, gap }] : []);
  }

  async history(query: HistoryQuery): Promise<Entry[]> {
    return this.#shelf.history(query);
  }

  async #commit(position: Position, bodies: Body[]): Promise<void> {
    if (this.#failed) throw this.#failed;
    try {
      await this.#file.appendFile(toLine(position, this.#shelf.place + 1, bodies));
      await this.#file.datasync();
      for (const body of bodies) this.#shelf.keep(body.epoch, body);
      this.#shelf.position = { ...position };
      this.#written += bodies.length;
      if (this.#written >= 2 * this.#entriesMax) await this.#rewrite();
    } catch (error) {
      this.#failed = error;
      throw error;
    }
  }

  /** The newest entries alone, in a file that takes this one's place. */
  async #rewrite(): Promise<void> {
    this.#shelf.trim();
    const entries = this.#shelf.entries;
    const fresh = `${this.#path}.new`;
    await writeFile(fresh, toLine(this.#shelf.position, entries[0]?.place ?? 1, entries), {
      mode: 0o600,
      flush: true,
    });
    await rename(fresh, this.#path);
    await syncFolder(this.#path);
    await this.#file.close();
    this.#file = await open(this.#path, "a+", 0o600);
    this.#written = entries.length;
  }
}

function toLine(position: Position, at: number, bodies: readonly Body[]): string {
  const entries = bodies.map((body) => {
    const epoch = String(body.epoch);
    if ("gap" in body) return { epoch, gap: toBase64(Gap.encode(body.gap).finish()) };
    return { epoch, message: toBase64(Message.encode(body.message).finish()) };
  });
  const line: Line = { epoch: String(position.epoch), cursor: String(position.cursor), at, entries };
  return `${JSON.stringify(line)}\n`;
}

/** Takes a line in; false when it cannot be read. */
function replay(row: string, shelf: Shelf): boolean {
  try {
    const line = JSON.parse(row) as Line;
    const position = { epoch: BigInt(line.epoch), cursor: BigInt(line.cursor) };
    let place = line.at ?? 1;
    for (const { epoch, message, gap } of line.entries ?? []) {
      if (gap !== undefined) shelf.keep(BigInt(epoch), { gap: Gap.decode(fromBase64(gap)) }, place);
      else shelf.keep(BigInt(epoch), { message: Message.decode(fromBase64(message ?? "")) }, place);
      place += 1;
    }
    shelf.position = position;
    return true;
  } catch {
    return false;
  }
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
