// When to come back after a lost connection: full jitter, 0.5 s doubling to 30 s; and which close codes forbid it. Pure.

/** Longest wait before the first attempt, and at which waiting restarts, ms. */
const FIRST = 500;
/** No wait is longer, unless the server asks for it, ms. */
const LONGEST = 30_000;
/** Only a session that lasted this long restarts the doubling, so that a server that fails at each connect gets rest, ms. */
const LASTING = 60_000;
/** More than a server may ask for: a broken delay must not keep a client away for good, ms. */
const ASKED_MAX = 600_000;

/** How long the waits have become. */
export class Backoff {
  #ceiling = FIRST;

  /** Takes note of a session that ended after `lasted` ms. */
  endedAfter(lasted: number): void {
    if (lasted >= LASTING) this.restart();
  }

  /** What kept us away may be over: the network came back. */
  restart(): void {
    this.#ceiling = FIRST;
  }

  /** The wait before the next attempt, ms: random below the present ceiling, on top of what the server asked for. */
  next(asked = 0, random = Math.random): number {
    const jitter = this.#ceiling * random();
    this.#ceiling = Math.min(this.#ceiling * 2, LONGEST);
    return Math.min(asked, ASKED_MAX) + jitter;
  }
}

/** Whether a client may come back by itself after this close code: 4000–4499 say no. */
export function mayComeBack(code: number): boolean {
  return code < 4000 || code >= 4500;
}

/** The wait that a close asks for, ms: 4503 holds it in its text. */
export function askedDelay(code: number, text: string): number | undefined {
  return code === 4503 && /^\s*\d+\s*$/.test(text) ? Number(text) : undefined;
}
