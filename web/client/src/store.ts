// Where messages land. A store moves its cursor in the same step in which it keeps a message, so the two never disagree.
// The rows of conversations change in that step as well.
//
// What landed are entries in the order of their arrival here: messages, and the gaps between them. An entry's place is
// this store's own count, so that whoever works through the entries can remember how far it came, whatever becomes of the
// server's log. A message is kept once, told apart by its serverMsgId: a log that returns after another one, or that was
// restored from a backup, brings nothing twice.
import type { Change, Conversation } from "./conversations.ts";
import { type Gap, Gap_Reason, type Message } from "./gen/towncrier/v1/gateway.ts";
import type { Position } from "./landing.ts";

/** What landed. */
export type Entry = {
  /** Ascending in the order of arrival, from 1; not dense, and of this store only. */
  place: number;
  /** The log it belongs to. */
  epoch: bigint;
} & ({ kind: "message"; message: Message } | { kind: "gap"; gap: Gap });

/** Which entries: the first `limit` after a place, else the last `limit` before one, else the last `limit` of all. */
export interface HistoryQuery {
  after?: number;
  before?: number;
  /** Default 100. */
  limit?: number;
}

/** Where messages land. Promises resolve when what they did is durable: as far as the store promises durability at all. */
export interface Store {
  /** How far landing has come; epoch 0 when it has not begun. */
  position(): Promise<Position>;

  /**
   * Keeps `messages` (ascending, contiguous, of one log), moves the cursor to the last of them, and their conversations with
   * it: all or nothing. Messages at or below the cursor, or whose serverMsgId is there, are left out. One with `marks` is no
   * message: it moves the marks of conversations, and is not kept. Rejects where they do not follow on the position:
   * somebody else moved it.
   */
  land(epoch: bigint, messages: Message[]): Promise<void>;

  /**
   * Moves the position without a message, and keeps `gap` where that is why and there is something to tell: at the first
   * connect, after a gap. Nothing moves where the position is beyond that already, unless a new log leads back: somebody else
   * moved it. With a new log all conversations are forgotten.
   */
  moveTo(position: Position, gap?: Gap): Promise<void>;

  /** What landed, ascending by place. */
  history(query: HistoryQuery): Promise<Entry[]>;

  /** All conversations of which something is known, in no order. */
  conversations(): Promise<Conversation[]>;

  /**
   * Puts what `change` makes of these conversations in their place: all or nothing. One of which nothing is known is given as
   * such. Resolves to whether any of them is another one now.
   */
  change(ids: string[], change: Change): Promise<boolean>;
}

/** How many entries a query asks for. */
export const LIMIT_DEFAULT = 100;

/** Somebody else moved the position of a store under a session that lands in it. */
export function movedError(position: Position, epoch: bigint, seq: bigint): Error {
  const { epoch: storeEpoch, cursor } = position;
  return new Error(
    `the store stands at epoch ${storeEpoch} seq ${cursor}, where epoch ${epoch} seq ${seq} cannot follow`,
  );
}

/** Whether {@link Store.moveTo} has nothing to do. */
export function isBeyond(position: Position, to: Position, gap: Gap | undefined): boolean {
  return !isNewLog(position, to, gap) && position.cursor > to.cursor;
}

/** True where {@link Store.moveTo} leads to another log, or back in this one. */
export function isNewLog(position: Position, to: Position, gap: Gap | undefined): boolean {
  return position.epoch !== to.epoch || gap?.reason === Gap_Reason.EPOCH_CHANGED;
}

/** The messages that are still to land; rejects what {@link Store.land} must. */
export function successors(position: Position, epoch: bigint, messages: Message[]): Message[] {
  const first = messages[0];
  if (first && (epoch !== position.epoch || first.seq > position.cursor + 1n)) {
    throw movedError(position, epoch, first.seq);
  }
  return messages.filter((message) => message.seq > position.cursor);
}

/** The store failed: nothing can land. */
export class StoreFailed extends Error {}

/** Marks what went wrong as the store's doing. */
export async function stored<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new StoreFailed(`the local store failed: ${error instanceof Error ? error.message : error}`);
  }
}
