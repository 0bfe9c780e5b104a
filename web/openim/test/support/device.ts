// An app of a user with one of OpenIM's SDKs in it, seen from the app: what it is told by callbacks, and what it may ask.
//
// All cores have the same calls, so that a test is written once. Where one runs is left to the subclasses.
import { existsSync } from "node:fs";
import { stripVTControlCharacters } from "node:util";

/** Far above what anything here takes, on a machine that is busy with other things, ms. */
const PATIENCE = 60_000;
/** Messages in a page of history. */
const PAGE = 50;
/** Pages of one history: a core that pages on and on fails its test. */
const PAGES_MAX = 1000;

/** Where Chromium is. Without it the core for browsers is left out. */
export const CHROMIUM = "/usr/bin/chromium";

/** The SDKs' own cores, each with the wire format that it speaks. */
export type Core = "native" | "wasm" | "js";
export const CORES: Core[] = existsSync(CHROMIUM) ? ["native", "js", "wasm"] : ["native", "js"];

/** A number of OpenIM's for the kind of device. */
export const [IOS, ANDROID, WINDOWS, WEB] = [1, 2, 3, 5];
/** Platforms that the cores are made for. */
export const PLATFORM: Record<Core, number> = { native: WINDOWS, wasm: WEB, js: WEB };

/** A message as every SDK tells it. Elements are objects named for the content type, such as `textElem`. */
export interface Message {
  clientMsgID: string;
  serverMsgID: string;
  seq: number;
  sendID: string;
  recvID: string;
  senderNickname: string;
  senderFaceUrl: string;
  sessionType: number;
  contentType: number;
  sendTime: number;
  [element: string]: unknown;
}

export interface Conversation {
  conversationID: string;
  conversationType: number;
  userID: string;
  showName: string;
  unreadCount: number;
  latestMsg: string;
  isPinned: boolean;
  recvMsgOpt: number;
}

/** What an SDK calls back with. */
export interface Callback {
  event: string;
  data?: unknown;
  errCode?: number;
  errMsg?: string;
}

/** Whether a core in Go calls this line of its log a warning, an error or worse. */
export const isComplaint = (line: string) =>
  /\b(WARN|ERROR|DPANIC|PANIC|FATAL)\b/.test(stripVTControlCharacters(line));

/** A call that an SDK refused. */
export class Refused extends Error {
  readonly errCode: number;

  constructor(method: string, errCode: number, errMsg: string) {
    super(`${method}: ${errCode} ${errMsg}`);
    this.errCode = errCode;
  }
}

/** Callbacks that hand messages out. Those with one message come beside those with several. */
const MESSAGES = /^on(RecvNewMessages|RecvOfflineNewMessages|RecvOnlineOnlyMessages?)$/i;

export interface Login {
  /** Where the gateway is, as an address for HTTP. */
  origin: string;
  user: string;
  token: string;
  platform?: number;
}

export abstract class Device {
  /** Messages in the order in which the app was told, through all lives. */
  readonly told: Message[] = [];
  /** All other callbacks. */
  readonly callbacks: Callback[] = [];
  readonly #waiting = new Set<() => void>();

  abstract readonly core: Core;

  /** Lines of its core's log, in all lives, that the core itself calls warnings or errors. */
  abstract complaints(): Promise<string[]>;

  /** Starts the app, anew after a kill: its store is the same. */
  abstract start(): Promise<void>;

  /** Kill -9. */
  abstract kill(): Promise<void>;

  /** Ends it and removes its store. */
  abstract close(): Promise<void>;

  /** Calls a method of the SDK; resolves with the data of its answer. */
  abstract call<T>(method: string, ...args: unknown[]): Promise<T>;

  /** Resolves when the SDK takes the login, which is before it is connected. */
  abstract login(login: Login): Promise<void>;

  /** Logs in, and waits until it has asked all that it asks at first. */
  async enter(login: Login): Promise<void> {
    const before = this.callbacks.length;
    await this.login(login);
    await this.hears("OnSyncServerFinish", before);
  }

  async logout(): Promise<void> {
    await this.call("logout");
  }

  /** Resolves with a callback of this name, the first since `before` of them had come. */
  async hears(event: string, before = 0): Promise<Callback> {
    const find = () => this.callbacks.slice(before).find((callback) => callback.event === event);
    await this.until(event, () => find() !== undefined);
    return find() as Callback;
  }

  /** Resolves when the app was told of all these, whatever else it was told of. */
  async isTold(ids: string[]): Promise<void> {
    await this.until(`${ids.length} messages`, () => {
      const told = new Set(this.toldIds);
      return ids.every((id) => told.has(id));
    });
  }

  /** clientMsgIDs in the order in which the app was told. */
  get toldIds(): string[] {
    return this.told.map(({ clientMsgID }) => clientMsgID);
  }

  /** Resolves when it is so; looks after each callback. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    if (isSo()) return;
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void) => {
        this.#waiting.delete(look);
        clearTimeout(timer);
        settle();
      };
      const look = () => {
        if (isSo()) end(resolve);
      };
      const timer = setTimeout(() => end(() => reject(new Error(this.#inVain(what)))), PATIENCE);
      this.#waiting.add(look);
    });
  }

  async conversations(): Promise<Conversation[]> {
    return this.call("getConversationListSplit", { offset: 0, count: 1000 });
  }

  /** Messages of a conversation that are unread; 0 where there is no conversation. */
  async unread(conversationID: string): Promise<number> {
    const conversations = await this.conversations();
    return conversations.find((one) => one.conversationID === conversationID)?.unreadCount ?? 0;
  }

  /** The whole of a conversation, oldest first, as an app finds it by scrolling up. */
  async history(conversationID: string): Promise<Message[]> {
    const found: Message[] = [];
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const startClientMsgID = found[0]?.clientMsgID ?? "";
      const asked = { conversationID, startClientMsgID, count: PAGE, viewType: 0 };
      const { messageList, isEnd } = await this.call<{ messageList: Message[] | null; isEnd: boolean }>(
        "getAdvancedHistoryMessageList",
        asked,
      );
      found.unshift(...(messageList ?? []));
      if (isEnd || !messageList?.length) return found;
    }
    throw new Error(`${this.core}: a history without end after ${found.length} messages`);
  }

  /** clientMsgIDs of a conversation, oldest first. */
  async historyIds(conversationID: string): Promise<string[]> {
    return (await this.history(conversationID)).map(({ clientMsgID }) => clientMsgID);
  }

  async markRead(conversationID: string): Promise<void> {
    await this.call("markConversationMessageAsRead", conversationID);
  }

  async sendText(recvID: string, text: string): Promise<Message> {
    const message = await this.call<Message>("createTextMessage", text);
    return this.call("sendMessage", { recvID, groupID: "", message });
  }

  /** For subclasses: what the SDK called back with. */
  protected take({ data, ...callback }: Callback): void {
    const parsed = typeof data === "string" && /^[[{]/.test(data) ? JSON.parse(data) : data;
    if (MESSAGES.test(callback.event)) this.told.push(...[parsed].flat());
    else this.callbacks.push({ ...callback, data: parsed });
    for (const look of this.#waiting) look();
  }

  #inVain(what: string): string {
    const lately = this.callbacks
      .slice(-10)
      .map(({ event, errCode }) => (errCode ? `${event} ${errCode}` : event));
    return `${this.core} waited ${PATIENCE} ms for ${what}; told of ${this.told.length}; lately ${lately.join(", ")}`;
  }
}
