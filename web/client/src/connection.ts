// One WebSocket to the gateway: frames in, frames out, and why it ended.
import { askedDelay, mayComeBack } from "./backoff.ts";
import {
  ClientFrame,
  type ConversationList,
  type Conversations,
  ServerFrame,
} from "./gen/towncrier/v1/gateway.ts";

/** The WebSocket subprotocol we offer. */
export const SUBPROTOCOL = "towncrier.v1";
/** A socket's `readyState` when it takes frames. */
const OPEN = 1;
/** From the first SYN to the end of the upgrade, ms. */
const OPEN_TIMEOUT = 10_000;
/** From a question to its answer, ms. */
const ANSWER_TIMEOUT = 10_000;
/** More frames than this have no place waiting here: the window bounds stored messages, but not online-only ones. */
const WAITING_MAX = 10_000;

export type ClientBody = NonNullable<ClientFrame["body"]>;
export type ServerBody = NonNullable<ServerFrame["body"]>;
/** What makes a WebSocket: the global one of browsers and Node ≥ 22, or the `ws` package's. */
export type WebSocketConstructor = new (url: string, protocols: string) => Socket;

/** What is used of a WebSocket. */
interface Socket {
  binaryType: string;
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code: number): void;
}

/** Why a connection is no more, or never was. */
export class Lost extends Error {
  override name = "Lost";
  /** The wait the server asked for, ms. */
  readonly askedMs: number | undefined;
  /** Whether a client may come back by itself. */
  readonly mayComeBack: boolean;

  constructor(text: string, closed?: { code: number; reason: string }) {
    super(text);
    this.askedMs = closed && askedDelay(closed.code, closed.reason);
    this.mayComeBack = closed === undefined || mayComeBack(closed.code);
  }
}

/** No such connection can be made from here: an insecure one from a secure page, or by this page's policy. */
class Unopened extends Lost {
  override readonly mayComeBack = false;
}

/** An open WebSocket to the gateway. */
export class Connection {
  readonly #socket: Socket;
  readonly #frames: ServerBody[] = [];
  /** Questions on their way, by request id. */
  readonly #asked = new Map<
    number,
    { resolve: (answer: ConversationList) => void; reject: (reason: Error) => void }
  >();
  #asks = 0;
  #lost: Error | undefined;
  #wake: (() => void) | undefined;
  /** When the server last said something, `performance.now()`. */
  heardAt = performance.now();

  /** Connects. Frames are sent after {@link opened} resolved. Throws {@link Lost} where that is ruled out. */
  constructor(url: string, Socket: WebSocketConstructor) {
    try {
      this.#socket = new Socket(url, SUBPROTOCOL);
    } catch (error) {
      throw new Unopened(error instanceof Error ? error.message : String(error));
    }
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onmessage = (event: MessageEvent) => this.#take(event.data);
    this.#socket.onclose = ({ code, reason }: CloseEvent) => {
      // 1006 is the browser's word for an end without a close frame.
      if (code === 1006) this.fail(new Lost("the gateway cannot be reached, or the connection was cut"));
      else this.fail(new Lost(`closed with ${code}${reason && `: ${reason}`}`, { code, reason }));
    };
    // A close event follows each error. `ws` throws what nobody listens for.
    this.#socket.onerror = () => {};
  }

  /** Resolves when frames may be sent; rejects with {@link Lost}. */
  async opened(): Promise<void> {
    const timer = setTimeout(() => this.fail(new Lost("the gateway did not answer in time")), OPEN_TIMEOUT);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#socket.onopen = () => resolve();
    });
    clearTimeout(timer);
    if (this.#lost) throw this.#lost;
  }

  /** Sends one frame. What a dying socket no longer takes is lost with it. */
  send(body: ClientBody): void {
    const bytes = ClientFrame.encode({ body }).finish() as Uint8Array<ArrayBuffer>;
    if (this.#socket.readyState === OPEN) this.#socket.send(bytes);
  }

  /**
   * Asks for conversations. The answer does not wait for the frames before it to be taken. Rejects where the connection ends
   * before it comes; it ends where none comes in time.
   */
  async ask(query: Omit<Conversations, "requestId">): Promise<ConversationList> {
    if (this.#lost) throw this.#lost;
    this.#asks += 1;
    const requestId = this.#asks;
    const answered = new Promise<ConversationList>((resolve, reject) =>
      this.#asked.set(requestId, { resolve, reject }),
    );
    const timer = setTimeout(() => this.fail(new Lost("the gateway did not answer in time")), ANSWER_TIMEOUT);
    this.send({ $case: "conversations", value: { ...query, requestId } });
    try {
      return await answered;
    } finally {
      clearTimeout(timer);
      this.#asked.delete(requestId);
    }
  }

  /** The next frame; rejects with why the connection ended once all that came before the end were taken. */
  async receive(): Promise<ServerBody> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame) return frame;
      if (this.#lost) throw this.#lost;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The frames that have arrived and were not taken. */
  get waiting(): readonly ServerBody[] {
    return this.#frames;
  }

  /** Ends the connection for this reason. */
  fail(lost: Error): void {
    this.#lost ??= lost;
    this.close();
    this.#wake?.();
    for (const { reject } of this.#asked.values()) reject(this.#lost);
  }

  /** Says goodbye. What still arrives is thrown away. */
  close(): void {
    this.#socket.onmessage = null;
    this.#socket.close(1000);
  }

  #take(data: unknown): void {
    this.heardAt = performance.now();
    const body =
      this.#frames.length < WAITING_MAX ? decode(data) : new Lost("frames come faster than they are stored");
    if (body instanceof Lost) this.fail(body);
    else if (body?.$case === "conversationList") this.#asked.get(body.value.requestId)?.resolve(body.value);
    // One of unknown kind is ignored.
    else if (body) this.#frames.push(body);
    this.#wake?.();
  }
}

function decode(data: unknown): ServerBody | undefined | Lost {
  if (!(data instanceof ArrayBuffer)) return new Lost("the server sent a text frame");
  try {
    return ServerFrame.decode(new Uint8Array(data)).body;
  } catch {
    return new Lost("the server sent what is not towncrier.v1");
  }
}
