// Which messages to accept, and what to say about them: docs/protocol.md#landing and #epochs. Pure.
//
// A message is accepted only as the successor of the cursor. A lower one is a duplicate and acked again, a higher one is
// a hole and asked for again, an online-only one is shown and forgotten. What is accepted counts as landed at once, so
// whoever drives this commits each batch before the next reply leaves, or throws the machine away.
import {
  type Connect,
  type Connected,
  type Gap,
  Gap_Reason,
  type Message,
  type Push,
} from "./gen/towncrier/v1/gateway.ts";

/** How far a store has come in which log. */
export interface Position {
  /** The log; 0: none yet. */
  epoch: bigint;
  /** Highest seq landed of it, all below landed or announced as gone. */
  cursor: bigint;
}

/** The server said something that the protocol rules out. Drop the connection and come back. */
export class Misled extends Error {
  override name = "Misled";
}

/** What to do after one or more pushes: commit `land` with its cursor, show `onlineOnly`, then send the replies. */
export interface Batch {
  /** To store, ascending and contiguous, in one transaction with the cursor at the last one's seq. */
  land: Message[];
  /** To show and forget. */
  onlineOnly: Message[];
  /** To send as `Ack` once the above is durable. */
  ack: bigint | undefined;
  /** To send as `Resend`, after the `Ack`. */
  resend: bigint | undefined;
}

/** A batch with nothing to do. */
export function emptyBatch(): Batch {
  return { land: [], onlineOnly: [], ack: undefined, resend: undefined };
}

/** What is known about the present connection. */
type Phase =
  /** `Connected` has not come. */
  | { is: "waiting" }
  /** The log is another one, or shorter than our cursor: the `Gap` that says so comes next. */
  | { is: "moving"; epoch: bigint }
  /** Messages may come. */
  | {
      is: "landing";
      /** The cursor at which a hole was last asked for: one hole asks once, whatever else lies beyond it. */
      askedAfter: bigint | undefined;
      /** An empty store begins where the server says, behind the gap that the server may announce next. */
      isBeginning: boolean;
    };

/** Who connects. */
export interface Identity {
  /** From `/auth/user_token`; it says which user and platform. */
  token: string;
  /** Tells devices of one platform apart where the gateway's policy allows several; else empty. */
  deviceId: string;
  /** Name and version for the gateway's stderr log, at most 64 bytes. */
  name: string;
}

/** The landing of one session, over any number of connections. */
export class Landing {
  #position: Position;
  #phase: Phase = { is: "waiting" };

  /** Goes on where the store stands. */
  constructor(position: Position) {
    this.#position = { ...position };
  }

  /** Where landing stands, all batches included. */
  get position(): Position {
    return { ...this.#position };
  }

  /** True while another log was announced and has yet to begin. */
  get isMoving(): boolean {
    return this.#phase.is === "moving";
  }

  /**
   * Begins a new connection; the frame to send first. An empty store asks for all that is retained where
   * `fromOldest`, else it leaves its beginning to the server, which resumes where this session last acked.
   */
  connect(identity: Identity, fromOldest: boolean): Connect {
    this.#phase = { is: "waiting" };
    const { epoch, cursor } = this.#position;
    const { token, deviceId, name } = identity;
    const connect: Connect = { token, epoch, deviceId, client: name };
    if (epoch !== 0n) connect.cursor = cursor;
    else if (fromOldest) connect.cursor = 0n;
    return connect;
  }

  /** Takes the answer to `Connect`. A position: the store was empty and begins there; make it so before going on. */
  connected(connected: Connected): Position | undefined {
    if (this.#phase.is !== "waiting") throw new Misled("the server sent a second Connected");
    if (connected.epoch === 0n) throw new Misled("the server has no epoch");
    const { epoch, cursor } = this.#position;
    const isFirst = epoch === 0n;
    const isKnown = connected.epoch === epoch && cursor <= connected.head;
    if (!isFirst && !isKnown) {
      this.#phase = { is: "moving", epoch: connected.epoch };
      return undefined;
    }
    this.#phase = { is: "landing", askedAfter: undefined, isBeginning: isFirst };
    if (!isFirst) return undefined;
    this.#position = { epoch: connected.epoch, cursor: connected.cursor };
    return this.position;
  }

  /** Sorts the messages of a push into `batch`. */
  push(push: Push, batch: Batch): void {
    const phase = this.#phase;
    if (phase.is === "waiting") throw new Misled("the server sent something before Connected");
    if (phase.is === "moving") throw new Misled("the server changed the epoch without announcing it");
    const position = this.#position;
    for (const message of push.messages) {
      const { seq } = message;
      if (seq === 0n) {
        batch.onlineOnly.push(message);
      } else if (seq <= position.cursor) {
        batch.ack = position.cursor;
      } else if (seq === position.cursor + 1n) {
        position.cursor = seq;
        batch.ack = seq;
        batch.resend = undefined;
        batch.land.push(message);
      } else if (phase.askedAfter !== position.cursor) {
        phase.askedAfter = position.cursor;
        batch.resend = position.cursor;
      }
    }
  }

  /**
   * Takes a `Gap`. A position: where the cursor moved; make it durable, tell the user, then ack. Nothing: it was known
   * already. Batches from before it must have been committed.
   */
  gap(gap: Gap): Position | undefined {
    const phase = this.#phase;
    const isNewEpoch = gap.reason === Gap_Reason.EPOCH_CHANGED;
    if (phase.is === "waiting") throw new Misled("the server sent something before Connected");
    // In `landing` neither our epoch nor our cursor gives reason for a new epoch, which alone may move the cursor back.
    if (isNewEpoch !== (phase.is === "moving"))
      throw new Misled("the server changed the epoch without announcing it");
    if (phase.is === "moving") {
      this.#phase = { is: "landing", askedAfter: undefined, isBeginning: false };
      this.#position = { epoch: phase.epoch, cursor: gap.toSeq };
      return this.position;
    }
    const { cursor } = this.#position;
    const isBehindBeginning = phase.isBeginning && gap.toSeq === cursor;
    if (gap.toSeq <= cursor && !isBehindBeginning) return undefined;
    if (gap.fromSeq > cursor + 1n)
      throw new Misled(`the server sent a gap from ${gap.fromSeq} to ${gap.toSeq}`);
    phase.isBeginning = false;
    this.#position.cursor = gap.toSeq;
    return this.position;
  }
}
