// The user's marks go to the gateway, and the gateway's conversations come to the store.
//
// A mark is kept in the store at once, and waits there until it comes back as one that all devices of the user know. So it
// outlasts connections and processes. One that does not come back is sent again, twice; then the gateway is asked for its
// conversations, and what stands there holds.
import type { Connection } from "./connection.ts";
import { type Change, type Conversation, isReadWaiting, withListed, withoutRead } from "./conversations.ts";
import type { Conversation as Listed } from "./gen/towncrier/v1/gateway.ts";
import { Misled } from "./landing.ts";
import { type Store, stored } from "./store.ts";

/** The gateway closes a connection that sends more in one frame. */
const MARKS_MAX = 100;
/** A mark that has not come back is sent again after this, ms. */
const REPEAT_AFTER = 2_000;
/** A mark is sent so often. */
const SENDS_MAX = 3;
/** Conversations asked for at a time: the most that the gateway gives. */
const LIST_MAX = 500;

/** A mark on its way. */
interface Sent {
  mark: bigint;
  times: number;
  at: number;
}

/** The reads of one session, over any number of connections. */
export class Reads {
  readonly #store: Store;
  #isWoken = false;
  #wake: (() => void) | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  /** There may be something to send. */
  wake(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  /**
   * Sends what waits in the store, now and whenever there is more, until `over` aborts. Calls `list` where the gateway must be
   * asked. Rejects where the store or the connection fails.
   */
  async send(connection: Connection, list: () => Promise<void>, over: AbortSignal): Promise<void> {
    over.addEventListener("abort", () => this.wake());
    let sent = new Map<string, Sent>();
    while (!over.aborted) {
      this.#isWoken = false;
      const all = await stored(() => this.#store.conversations());
      sent = stillSent(sent, all);
      const now = performance.now();
      const due = [...sent].filter(([, { at }]) => now - at >= REPEAT_AFTER);
      const refused = due.filter(([, { times }]) => times >= SENDS_MAX).map(([id]) => id);
      if (refused.length > 0) {
        await stored(() => this.#store.change(refused, withoutRead));
        await list();
        continue;
      }
      for (const [, one] of due) Object.assign(one, { times: one.times + 1, at: now });
      const marks = due.map(([conversationId, { mark }]) => ({ conversationId, conversationSeq: mark }));
      for (let from = 0; from < marks.length; from += MARKS_MAX)
        connection.send({ $case: "read", value: { marks: marks.slice(from, from + MARKS_MAX) } });
      if (sent.size === 0 && !all.every(({ isCounted }) => isCounted)) await list();
      const earliest = [...sent.values()].reduce((before, { at }) => Math.min(before, at), now);
      await this.#pause(sent.size > 0 ? earliest + REPEAT_AFTER - now : undefined, over);
    }
  }

  /** Takes over what the gateway knows of all conversations, which are of the log `epoch`. Rejects as {@link send} does. */
  async list(connection: Connection, epoch: bigint): Promise<void> {
    // A conversation that gets a message while pages are asked for leaves those that are still to come. So they are asked for
    // again, down to where they began, until one page was enough.
    let [downTo, pages] = [0n, 0];
    do {
      const from = downTo;
      let [beforeSeq, isEnd] = [0n, false];
      for (pages = 0; !isEnd; pages += 1) {
        const { list, end } = await connection.ask({ beforeSeq, limit: LIST_MAX });
        await this.#take(list, epoch);
        if (pages === 0) downTo = list[0]?.lastSeq ?? 0n;
        const oldest = list.at(-1)?.lastSeq ?? 0n;
        if (pages > 0 && oldest >= beforeSeq) throw new Misled("the server lists a conversation twice");
        beforeSeq = oldest;
        isEnd = end || oldest <= from;
      }
    } while (pages > 1);
  }

  async #take(list: Listed[], epoch: bigint): Promise<void> {
    const listed = new Map(list.map((one) => [one.conversationId, one]));
    const change: Change = (before, standing) => {
      const one = listed.get(before.id);
      // Another tab may have taken the store to another log.
      return one && standing.position.epoch === epoch ? withListed(before, one, standing) : before;
    };
    await stored(() => this.#store.change([...listed.keys()], change));
  }

  /** Waits until it is woken, `over` has aborted, or so many ms have passed. */
  async #pause(ms: number | undefined, over: AbortSignal): Promise<void> {
    if (this.#isWoken || over.aborted) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (ms !== undefined) timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
  }
}

/** The marks that are still on their way. A mark that moved on is sent anew. */
function stillSent(sent: Map<string, Sent>, all: Conversation[]): Map<string, Sent> {
  const still = new Map<string, Sent>();
  for (const { id, mark } of all.filter(isReadWaiting)) {
    const before = sent.get(id);
    still.set(id, before?.mark === mark ? before : { mark, times: 0, at: Number.NEGATIVE_INFINITY });
  }
  return still;
}
