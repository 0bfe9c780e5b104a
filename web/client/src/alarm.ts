// A timer that a hidden page keeps.
//
// Browsers let the timers of a page in the background run once a minute, which is too seldom for the shorter heartbeats. A
// worker's timers are not held back, so one runs beside the page's own, and whichever comes first counts. Where there is no
// worker (in Node, or by a page's policy without `worker-src blob:`) the page's own is all there is.

/** What the worker runs: one timer, of as many ms as it is sent. */
const SOURCE = "let t;onmessage=e=>{clearTimeout(t);t=setTimeout(postMessage,e.data,0)}";

/** Rings once for each time it was set; the last setting counts. */
export class Alarm {
  readonly #worker = startWorker();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ring: (() => void) | undefined;

  constructor() {
    if (this.#worker) this.#worker.onmessage = () => this.#go();
  }

  /** Calls `ring` after so many ms; a bit early where a ring of the setting before was on its way. */
  set(afterMs: number, ring: () => void): void {
    clearTimeout(this.#timer);
    this.#ring = ring;
    this.#timer = setTimeout(() => this.#go(), afterMs);
    this.#worker?.postMessage(afterMs);
  }

  /** It rings no more. */
  end(): void {
    clearTimeout(this.#timer);
    this.#ring = undefined;
    this.#worker?.terminate();
  }

  #go(): void {
    const ring = this.#ring;
    this.#ring = undefined;
    ring?.();
  }
}

function startWorker(): Worker | undefined {
  // Only a page can be hidden.
  if (!globalThis.document || typeof Worker === "undefined") return undefined;
  const url = URL.createObjectURL(new Blob([SOURCE], { type: "text/javascript" }));
  try {
    const worker = new Worker(url);
    worker.onerror = (event) => event.preventDefault();
    return worker;
  } catch {
    return undefined;
  } finally {
    URL.revokeObjectURL(url);
  }
}
