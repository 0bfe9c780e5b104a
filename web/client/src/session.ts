// The client's loop: connect, land what is pushed, ack after the commit, ping, and come back after a loss.
//
// Promises: a message is announced after it is durable in the store, and acked after that (P5); so is what will not come
// (P6). It waits for the network, never longer than two and a half heartbeats without a word from the server.
import { Alarm } from "./alarm.ts";
import { Backoff } from "./backoff.ts";
import { Connection, Lost, type ServerBody, type WebSocketConstructor } from "./connection.ts";
import { type Conversation, isMarks, isMissingSome, withGone } from "./conversations.ts";
import {
  type Connected,
  type Gap,
  Gap_Reason,
  Kicked_Reason,
  type Message,
} from "./gen/towncrier/v1/gateway.ts";
import { type Batch, emptyBatch, type Identity, Landing, Misled } from "./landing.ts";
import { Reads } from "./reads.ts";
import { type Store, StoreFailed, stored } from "./store.ts";

/** A server that accepted the socket answers `Connect` within this, ms. */
const CONNECTED_TIMEOUT = 10_000;
/** Pushes that have arrived are landed together, up to this many messages: it bounds a transaction. */
const BATCH_MESSAGES_MAX = 512;
/** A heartbeat below this would be a busy loop, ms. */
const HEARTBEAT_MIN = 10;
/** A server counts as gone after this many heartbeats of silence. The protocol fixes the number for both sides. */
const SILENCE_HEARTBEATS_MAX = 2.5;
/** Bit of `Connected.features`: the gateway knows what was read. */
const READ_STATE = 1n;
/** When the network changed, a server that answers no ping within this is gone, ms. */
const PROBE_TIMEOUT = 5_000;

/** How the connection stands. Plain data: it goes from tab to tab. */
export type Status =
  /** The first attempt is under way. */
  | { state: "connecting" }
  /** The server knows us; what was missed comes. `head` is the newest seq of the inbox. */
  | { state: "connected"; userId: string; platform: number; head: bigint }
  /** What had been missed has landed up to `seq`; live from now on. */
  | { state: "live"; userId: string; platform: number; seq: bigint }
  /** The connection is gone; another attempt follows after `afterMs`. */
  | { state: "reconnecting"; afterMs: number; text: string }
  /** It does not come back by itself. */
  | { state: "ended"; reason: Ended; text: string };

/** As its caller wished. */
export const STOPPED: Status = { state: "ended", reason: "stopped", text: "stopped" };

/** Why a session does not come back: the caller's wish, another login, an administrator, a close code, or its store. */
export type Ended = "stopped" | "replaced" | "logged_out" | "refused" | "store";

/** What a session tells. */
export interface Listener {
  /** The store holds new entries, or its conversations are others. */
  stored(): void;
  /** Came to whoever is online; not stored. */
  onlineOnly(message: Message): void;
  status(status: Status): void;
}

/** Whom to connect as, and where. */
export interface SessionOptions extends Identity {
  /** The gateway's client port, e.g. `wss://gateway.example/ws`. */
  url: string;
  fromOldest: boolean;
  Socket: WebSocketConstructor;
}

/** One connection, once the server knows us. */
interface Talk {
  connection: Connection;
  landing: Landing;
  connected: Connected;
  /** Aborts when the connection is no more. */
  over: AbortSignal;
}

/** One session, kept connected. */
export class Session {
  readonly #options: SessionOptions;
  readonly #store: Store;
  readonly #listener: Listener;
  readonly #backoff = new Backoff();
  readonly #reads: Reads;
  /** The store has the gateway's conversations. Later changes land, unless there is a gap. */
  #isListed = false;
  #connection: Connection | undefined;
  #connectedAt: number | undefined;
  #kicked: Status | undefined;
  #askedMs: number | undefined;
  #nonce = 0n;
  #wake: (() => void) | undefined;

  constructor(options: SessionOptions, store: Store, listener: Listener) {
    this.#options = options;
    this.#store = store;
    this.#listener = listener;
    this.#reads = new Reads(store);
  }

  /** Keeps the session connected until `stop` aborts or it has ended; resolves to how. Call it once. */
  async run(stop: AbortSignal): Promise<Status> {
    const onStop = () => {
      this.#connection?.fail(new Lost("stopped"));
      this.#wake?.();
    };
    stop.addEventListener("abort", onStop);
    try {
      this.#listener.status({ state: "connecting" });
      while (!stop.aborted) {
        const lost = await this.#drive(stop);
        this.#connection?.close();
        if (stop.aborted) return STOPPED;
        if (lost instanceof StoreFailed) return { state: "ended", reason: "store", text: lost.message };
        if (this.#kicked) return this.#kicked;
        if (!lost.mayComeBack) return { state: "ended", reason: "refused", text: lost.message };
        if (this.#connectedAt !== undefined) this.#backoff.endedAfter(performance.now() - this.#connectedAt);
        const afterMs = this.#backoff.next(Math.max(lost.askedMs ?? 0, this.#askedMs ?? 0));
        this.#listener.status({ state: "reconnecting", afterMs, text: lost.message });
        await this.#sleep(afterMs);
      }
      return STOPPED;
    } finally {
      stop.removeEventListener("abort", onStop);
    }
  }

  /** The store holds marks that the gateway may not know. */
  sendReads(): void {
    this.#reads.wake();
  }

  /** The network or the page came back, or went: an attempt that waits is made soon, a connection shows that it lives. */
  nudge(): void {
    if (this.#wake) {
      this.#backoff.restart();
      // Whole offices come back together.
      setTimeout(this.#wake, this.#backoff.next());
    } else if (this.#connection && this.#connectedAt !== undefined) {
      const connection = this.#connection;
      const heardAt = connection.heardAt;
      this.#ping(connection);
      setTimeout(() => {
        if (connection.heardAt === heardAt) connection.fail(new Lost("the gateway is silent"));
      }, PROBE_TIMEOUT);
    }
  }

  async #sleep(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }

  /** One connection, from its opening to its end; resolves to why it ended. */
  async #drive(stop: AbortSignal): Promise<Lost | StoreFailed> {
    this.#connectedAt = undefined;
    this.#askedMs = undefined;
    const timers = new AbortController();
    try {
      return await this.#converse(stop, timers.signal);
    } catch (error) {
      // The connection may have ended while the session waited for something else.
      for (const frame of this.#connection?.waiting ?? []) this.#heed(frame);
      if (error instanceof Lost || error instanceof StoreFailed) return error;
      if (error instanceof Misled) return new Lost(error.message);
      throw error;
    } finally {
      timers.abort();
    }
  }

  async #converse(stop: AbortSignal, over: AbortSignal): Promise<never> {
    const { url, Socket, fromOldest } = this.#options;
    const landing = new Landing(await stored(() => this.#store.position()));
    // While the store was read there was no connection to end.
    if (stop.aborted) throw new Lost("stopped");
    const connection = new Connection(url, Socket);
    this.#connection = connection;
    await connection.opened();
    connection.send({ $case: "connect", value: landing.connect(this.#options, fromOldest) });
    const connected = await firstFrame(connection);
    const beginning = landing.connected(connected);
    if (beginning) await stored(() => this.#store.moveTo(beginning));
    this.#connectedAt = performance.now();
    const { userId, platform, head } = connected;
    this.#listener.status({ state: "connected", userId, platform, head });
    this.#heartbeat(connection, Math.max(connected.heartbeatMs, HEARTBEAT_MIN), over);
    const talk = { connection, landing, connected, over };
    // Marks of the log before are not for this one.
    if (!landing.isMoving) await this.#shareReads(talk);
    for (;;) {
      const frame = await connection.receive();
      switch (frame.$case) {
        case "push": {
          const batch = emptyBatch();
          landing.push(frame.value, batch);
          await collect(landing, connection, batch);
          await this.#land(landing, batch, connection);
          break;
        }
        case "gap":
          await this.#skip(talk, frame.value);
          break;
        case "caughtUp":
          this.#listener.status({ state: "live", userId, platform, seq: frame.value.seq });
          break;
        case "connected":
          throw new Misled("the server sent a second Connected");
        default:
          this.#heed(frame);
      }
    }
  }

  /** Takes note of what the server says about the end of the connection. */
  #heed(frame: ServerBody): void {
    if (frame.$case === "kicked") {
      const isLogout = frame.value.reason === Kicked_Reason.LOGGED_OUT;
      const text = isLogout ? "logged out by an administrator" : "replaced by a newer login";
      const reason = isLogout ? "logged_out" : "replaced";
      this.#kicked = { state: "ended", reason, text: frame.value.text || text };
    } else if (frame.$case === "draining") {
      this.#askedMs = frame.value.reconnectAfterMs;
    }
  }

  /** Commits, announces, then replies: in this order, so that an ack never runs ahead of the store. */
  async #land(landing: Landing, batch: Batch, connection: Connection): Promise<void> {
    if (batch.land.length > 0) {
      await stored(() => this.#store.land(landing.position.epoch, batch.land));
      this.#listener.stored();
      if (batch.land.some(isMarks)) this.#reads.wake();
    }
    for (const message of batch.onlineOnly) this.#listener.onlineOnly(message);
    if (batch.ack !== undefined) connection.send({ $case: "ack", value: { seq: batch.ack } });
    if (batch.resend !== undefined) connection.send({ $case: "resend", value: { afterSeq: batch.resend } });
  }

  async #skip(talk: Talk, gap: Gap): Promise<void> {
    const { landing, connection } = talk;
    const position = landing.gap(gap);
    if (!position) return;
    const isNewLog = gap.reason === Gap_Reason.EPOCH_CHANGED;
    const isTold = isNewLog || !(await this.#isOfMarksAlone(talk, gap));
    await stored(() => this.#store.moveTo(position, isTold ? gap : undefined));
    this.#listener.stored();
    connection.send({ $case: "ack", value: { seq: position.cursor } });
    if (isNewLog) {
      this.#isListed = false;
      await this.#shareReads(talk);
    } else {
      const all = await stored(() => this.#store.conversations());
      const ids = all.map(({ id }) => id);
      await stored(() => this.#store.change(ids, withGone));
    }
  }

  /**
   * True where a gap, which has not been taken in yet, holds no message. The gateway is asked: retention takes the oldest entries,
   * so messages are gone where a conversation begins above what of it has landed.
   */
  async #isOfMarksAlone(talk: Talk, gap: Gap): Promise<boolean> {
    if (!hasReadState(talk.connected)) return false;
    await this.#list(talk);
    const conversations = await stored(() => this.#store.conversations());
    const { cursor } = await stored(() => this.#store.position());
    // An empty store begins behind the gap that is told to it, and has nothing of before.
    const isBeginning = cursor >= gap.toSeq;
    const isMissing = isBeginning ? ({ first }: Conversation) => first > 1n : isMissingSome;
    // A gap among retained entries is of deleted ones, and only messages are deleted.
    return gap.toSeq < talk.connected.first && !conversations.some(isMissing);
  }

  /** Takes over what the gateway knows of conversations, and keeps it told of what is read here. */
  async #shareReads(talk: Talk): Promise<void> {
    if (!hasReadState(talk.connected)) return;
    // Before the backlog, so that what was read elsewhere does not come up as unread for a moment.
    if (!this.#isListed) await this.#list(talk);
    const { connection, over } = talk;
    this.#reads.send(connection, () => this.#list(talk), over).catch((error) => connection.fail(error));
  }

  async #list({ connection, landing }: Talk): Promise<void> {
    await this.#reads.list(connection, landing.position.epoch);
    this.#isListed = true;
    this.#listener.stored();
  }

  /** Pings from a random point on, so that clients that came back together do not ping together. */
  #heartbeat(connection: Connection, interval: number, over: AbortSignal): void {
    let pingAt = performance.now() + interval * Math.random();
    const alarm = new Alarm();
    const beat = () => {
      const now = performance.now();
      const silentAt = connection.heardAt + interval * SILENCE_HEARTBEATS_MAX;
      if (now >= silentAt) return connection.fail(new Lost("the gateway is silent"));
      if (now >= pingAt) {
        this.#ping(connection);
        pingAt = now + interval;
      }
      alarm.set(Math.min(pingAt, silentAt) - now, beat);
    };
    beat();
    over.addEventListener("abort", () => alarm.end());
  }

  #ping(connection: Connection): void {
    this.#nonce += 1n;
    connection.send({ $case: "ping", value: { nonce: this.#nonce } });
  }
}

function hasReadState({ features }: Connected): boolean {
  return (features & READ_STATE) !== 0n;
}

/** The answer to `Connect`. */
async function firstFrame(connection: Connection): Promise<Connected> {
  const timer = setTimeout(
    () => connection.fail(new Lost("the gateway did not answer in time")),
    CONNECTED_TIMEOUT,
  );
  try {
    const first = await connection.receive();
    if (first.$case !== "connected") throw new Misled("the server sent something before Connected");
    return first.value;
  } finally {
    clearTimeout(timer);
  }
}

/** Takes in the pushes that have arrived behind the first one, up to another frame. */
async function collect(landing: Landing, connection: Connection, batch: Batch): Promise<void> {
  while (
    batch.land.length + batch.onlineOnly.length < BATCH_MESSAGES_MAX &&
    connection.waiting[0]?.$case === "push"
  ) {
    const frame = await connection.receive();
    if (frame.$case === "push") landing.push(frame.value, batch);
  }
}
