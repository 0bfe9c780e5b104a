// A gateway in this process with the inbox of one user: it keeps to the protocol, except where a test tells it otherwise.
import {
  ClientFrame,
  type Conversation,
  Gap_Reason,
  Kicked_Reason,
  type Message,
  type Read,
  ServerFrame,
} from "../../src/gen/towncrier/v1/gateway.ts";
import type { WebSocketConstructor } from "../../src/index.ts";
import { connected, gap, marks, message } from "./messages.ts";

type ServerBody = NonNullable<ServerFrame["body"]>;

export class ScriptedGateway {
  readonly Socket: WebSocketConstructor;
  epoch = 7n;
  /** Oldest seq that is retained. */
  first = 1n;
  /** It is older than read state. */
  isOlder = false;
  /** It does not take what was read. */
  isDeaf = false;
  /** It throws clients out instead of answering for their conversations. */
  isKicking = false;
  /** Conversations in one answer. */
  pageMax = 500;
  /** Called after an answer with conversations. */
  onListed = () => {};
  /** The clients' frames. */
  readonly reads: Read[] = [];
  lists = 0;
  #entries: Message[] = [];
  #marks = new Map<string, bigint>();
  readonly #sockets = new Set<ScriptedSocket>();

  constructor() {
    const gateway = this;
    this.Socket = class extends ScriptedSocket {
      constructor() {
        super(gateway);
        gateway.#sockets.add(this);
      }
    } as unknown as WebSocketConstructor;
  }

  /** All messages, whether retained or not. */
  get messages(): Message[] {
    return this.#entries.filter(({ conversationSeq }) => conversationSeq > 0n);
  }

  get head(): bigint {
    return BigInt(this.#entries.length);
  }

  /** The user's mark in a conversation. */
  mark(conversationId: string): bigint {
    return this.#marks.get(conversationId) ?? 0n;
  }

  /** A message in this conversation. */
  notify(conversationId: string): void {
    const conversationSeq = BigInt(this.#messagesOf(conversationId).length + 1);
    const seq = this.head + 1n;
    this.#append(message(seq, `${this.epoch}-${seq}`, { conversationId, conversationSeq }));
  }

  /** The user read this on a device that is not under test. */
  read(conversationId: string, conversationSeq: bigint): void {
    const messages = this.#messagesOf(conversationId);
    const newest = messages[Number(conversationSeq) - 1];
    if (!newest || conversationSeq <= this.mark(conversationId)) return;
    this.#marks.set(conversationId, conversationSeq);
    this.#append(marks(this.head + 1n, { [conversationId]: conversationSeq }, newest.serverMsgId));
  }

  /** The oldest entries are no more. */
  expire(count: number): void {
    const first = this.first + BigInt(count);
    this.first = first > this.head + 1n ? this.head + 1n : first;
  }

  /** Another log, which is empty. */
  beginAnew(): void {
    this.epoch += 1n;
    this.first = 1n;
    this.#entries = [];
    this.#marks = new Map();
    this.cut();
  }

  /** Every connection is lost. */
  cut(): void {
    for (const socket of this.#sockets) socket.lose();
    this.#sockets.clear();
  }

  /** Answers one frame. */
  take(socket: ScriptedSocket, { body }: ClientFrame): void {
    switch (body?.$case) {
      case "connect": {
        const { epoch, cursor = this.first - 1n } = body.value;
        const isForeign = epoch !== 0n && (epoch !== this.epoch || cursor > this.head);
        const sent = isForeign || cursor < this.first - 1n ? this.first - 1n : cursor;
        const value = { ...connected(this.epoch, sent, this.head), first: this.first };
        socket.say({ $case: "connected", value: { ...value, features: this.isOlder ? 0n : 1n } });
        if (isForeign)
          socket.say({ $case: "gap", value: gap(1n, this.first - 1n, Gap_Reason.EPOCH_CHANGED) });
        else if (cursor < sent) socket.say({ $case: "gap", value: gap(cursor + 1n, sent) });
        const messages = this.#entries.slice(Number(sent)).map((entry) => this.#asSent(entry));
        socket.say({ $case: "push", value: { messages } });
        socket.say({ $case: "caughtUp", value: { seq: this.head } });
        break;
      }
      case "read":
        this.reads.push(body.value);
        if (this.isDeaf) break;
        for (const { conversationId, conversationSeq } of body.value.marks)
          this.read(conversationId, conversationSeq);
        break;
      case "conversations": {
        this.lists += 1;
        if (this.isKicking) {
          socket.say({ $case: "kicked", value: { reason: Kicked_Reason.REPLACED, text: "" } });
          socket.lose(4409);
          break;
        }
        const { requestId, beforeSeq } = body.value;
        const below = this.list().filter(({ lastSeq }) => beforeSeq === 0n || lastSeq < beforeSeq);
        const list = below.slice(0, this.pageMax);
        socket.say({
          $case: "conversationList",
          value: { requestId, list, end: list.length === below.length },
        });
        this.onListed();
        break;
      }
    }
  }

  #append(entry: Message): void {
    this.#entries.push(entry);
    for (const socket of this.#sockets)
      socket.say({ $case: "push", value: { messages: [this.#asSent(entry)] } });
  }

  #asSent(entry: Message): Message {
    return this.isOlder ? { ...entry, conversationSeq: 0n } : entry;
  }

  #messagesOf(conversationId: string): Message[] {
    return this.#entries.filter((entry) => entry.conversationId === conversationId);
  }

  /** All conversations, those with the newest messages first. */
  list(): Conversation[] {
    const ids = new Set(this.#entries.map((entry) => entry.conversationId).filter((id) => id !== ""));
    const list = [...ids].map((conversationId) => {
      const messages = this.#messagesOf(conversationId);
      const retained = messages.filter(({ seq }) => seq >= this.first);
      const [head, mark] = [BigInt(messages.length), this.mark(conversationId)];
      return {
        conversationId,
        head,
        first: retained[0]?.conversationSeq ?? head + 1n,
        mark,
        unread: retained.filter(({ conversationSeq }) => conversationSeq > mark).length,
        lastTime: messages.at(-1)?.sendTime ?? 0n,
        lastSeq: messages.at(-1)?.seq ?? 0n,
      };
    });
    return list.sort((one, other) => Number(other.lastSeq - one.lastSeq));
  }
}

/** A client's socket to it. */
class ScriptedSocket {
  binaryType = "";
  readyState = 1;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: ArrayBuffer }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  readonly #gateway: ScriptedGateway;

  constructor(gateway: ScriptedGateway) {
    this.#gateway = gateway;
    setImmediate(() => this.onopen?.());
  }

  send(data: Uint8Array): void {
    const frame = ClientFrame.decode(data);
    setImmediate(() => {
      if (this.readyState === 1) this.#gateway.take(this, frame);
    });
  }

  close(): void {
    this.readyState = 3;
  }

  say(body: ServerBody): void {
    const data = ServerFrame.encode({ body }).finish().slice().buffer as ArrayBuffer;
    setImmediate(() => this.onmessage?.({ data }));
  }

  lose(code = 1006): void {
    this.close();
    setImmediate(() => this.onclose?.({ code, reason: "" }));
  }
}
