// Tabs of one browser that share one session: one of them leads, the others hear from it.
//
// The lead is a Web Lock: the browser hands it on when its tab closes, crashes or lets go. A frozen tab does none of these
// (Chrome's Memory Saver, a phone's browser), so the others ask after the leader, and one of them takes the lead from a leader
// that does not answer. When that one wakes, it has lost the lead and follows. What the leader tells the others
// is a hint where it concerns messages (they read the store, which they share), and the whole truth about the connection.
// Web Locks exist on secure pages only (https, or localhost). Elsewhere every tab leads: the newest one keeps the session,
// by the gateway's own rule, and the others still hear from it.
import type { Message } from "./gen/towncrier/v1/gateway.ts";
import type { Status } from "./session.ts";

/** What tabs tell each other. */
export type News =
  /** The store holds new entries, or its conversations are others. */
  | { kind: "stored" }
  /** The user read something, and the store holds that. */
  | { kind: "read" }
  | { kind: "onlineOnly"; message: Message }
  | { kind: "status"; status: Status }
  /** A tab asks the leader for its status. */
  | { kind: "hello" }
  /** The user wants the session back that has ended. */
  | { kind: "restart" };

/**
 * The time between two questions, and within which the leader answers, ms; up to twice as long, at random, so that not all
 * tabs take the lead at once. A tab that works hard answers between two of its tasks.
 */
const ASK_INTERVAL = 5_000;

/** This tab's place among those that share a name. */
export class Tabs {
  readonly #name: string;
  readonly #channel: BroadcastChannel;
  /** A leader has said something since it was last asked. */
  #isAnswered = true;
  readonly #over = new AbortController();

  constructor(name: string, onNews: (news: News) => void) {
    this.#name = `towncrier/${name}`;
    this.#channel = new BroadcastChannel(this.#name);
    // Chrome freezes timers and the network of a page, but not this channel: a frozen leader would still answer.
    let isFrozen = false;
    const { signal } = this.#over;
    globalThis.document?.addEventListener("freeze", () => (isFrozen = true), { signal });
    globalThis.document?.addEventListener("resume", () => (isFrozen = false), { signal });
    this.#channel.onmessage = ({ data }: MessageEvent<News>) => {
      if (data.kind === "status") this.#isAnswered = true;
      if (data.kind !== "hello" || !isFrozen) onNews(data);
    };
  }

  /** Tells all other tabs. */
  tell(news: News): void {
    this.#channel.postMessage(news);
  }

  /**
   * Asks for the leader's status, waits until this tab leads, and leads until `work` is done, which must end when its signal
   * aborts: another tab took the lead, and this one waits for it again. Resolves once `stop` has aborted.
   */
  async lead(stop: AbortSignal, work: (lead: AbortSignal) => Promise<void>): Promise<void> {
    const locks = globalThis.navigator?.locks;
    this.tell({ kind: "hello" });
    if (!locks) return work(stop);
    while (!stop.aborted) {
      await this.#leadOnce(locks, stop, work);
      // What was last heard here may be what this tab said as the leader.
      if (!stop.aborted) this.tell({ kind: "hello" });
    }
  }

  async #leadOnce(
    locks: LockManager,
    stop: AbortSignal,
    work: (lead: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const [waiting, leading] = [new AbortController(), new AbortController()];
    const onStop = () => {
      waiting.abort();
      leading.abort();
    };
    stop.addEventListener("abort", onStop);
    const asking = this.#ask(() => waiting.abort());
    let working: Promise<void> | undefined;
    const lead = () => {
      clearInterval(asking);
      working = work(leading.signal);
      return working;
    };
    try {
      await locks.request(this.#name, { signal: waiting.signal }, lead).catch((error) => {
        if (working || stop.aborted || !waiting.signal.aborted) throw error;
        return locks.request(this.#name, { steal: true }, lead);
      });
    } catch (error) {
      leading.abort();
      if (!working && !stop.aborted) throw error;
      // It may have failed by itself.
      await working;
    } finally {
      clearInterval(asking);
      stop.removeEventListener("abort", onStop);
    }
  }

  /** Asks after the leader again and again; calls `onSilence` where nothing was heard of it. */
  #ask(onSilence: () => void): ReturnType<typeof setInterval> {
    this.#isAnswered = true;
    const ask = () => {
      if (!this.#isAnswered) onSilence();
      this.#isAnswered = false;
      this.tell({ kind: "hello" });
    };
    return setInterval(ask, ASK_INTERVAL * (1 + Math.random()));
  }

  close(): void {
    this.#over.abort();
    this.#channel.close();
  }
}
