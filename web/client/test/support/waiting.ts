// Waiting for what a client says, with a deadline instead of a test that hangs.
import { once } from "node:events";
import type { Client, Entry, Message, Status } from "../../src/index.ts";

/** Far above what anything here takes, on a machine that is busy with other things, ms. */
const PATIENCE = 60_000;

/** Resolves with `work`, or rejects saying what did not happen. */
export async function within<T>(what: string, work: Promise<T>): Promise<T> {
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), PATIENCE);
  const late = once(over.signal, "abort").then(() => {
    throw new Error(`waited ${PATIENCE} ms for ${what}`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The first status in this state, the present one included. */
export function status<S extends Status["state"]>(
  client: Client,
  state: S,
): Promise<Extract<Status, { state: S }>> {
  const found = new Promise<Extract<Status, { state: S }>>((resolve) => {
    client.onStatus((status) => {
      if (status.state === state) resolve(status as Extract<Status, { state: S }>);
    });
  });
  return within(`status ${state}`, found);
}

/** Collects what a client hands out. */
export class Inbox {
  readonly messages: Message[] = [];
  #wanted: { count: number; resolve: () => void } | undefined;

  constructor(client: Client) {
    client.onMessage((message) => {
      this.messages.push(message);
      if (this.messages.length === this.#wanted?.count) this.#wanted.resolve();
    });
  }

  /** Resolves when `count` messages were handed out since the beginning. */
  async count(count: number): Promise<void> {
    if (this.messages.length >= count) return;
    const enough = new Promise<void>((resolve) => {
      this.#wanted = { count, resolve };
    });
    await within(`${count} messages`, enough);
  }

  get seqs(): number[] {
    return this.messages.map(({ seq }) => Number(seq));
  }
}

/** The seqs of messages, and `from-to` of gaps. */
export function outline(entries: Entry[]): (number | string)[] {
  return entries.map((entry) =>
    entry.kind === "gap" ? `${entry.gap.fromSeq}-${entry.gap.toSeq}` : Number(entry.message.seq),
  );
}
