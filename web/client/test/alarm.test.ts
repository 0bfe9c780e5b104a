// A timer that rings also where the page's own timers hardly run.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Alarm } from "../src/alarm.ts";

/** A page with a worker whose timer rings when told. */
class FakeWorker {
  static started: FakeWorker[] = [];
  readonly asked: number[] = [];
  isOver = false;
  onmessage: (() => void) | undefined;

  constructor() {
    FakeWorker.started.push(this);
  }

  postMessage(afterMs: number): void {
    this.asked.push(afterMs);
  }

  terminate(): void {
    this.isOver = true;
  }
}

function page(t: TestContext, worker: unknown): void {
  Object.assign(globalThis, { document: {}, Worker: worker });
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.after(() => {
    Reflect.deleteProperty(globalThis, "document");
    Reflect.deleteProperty(globalThis, "Worker");
  });
}

test("whichever timer comes first rings, once for each time it was set", (t) => {
  page(t, FakeWorker);
  const alarm = new Alarm();
  const worker = FakeWorker.started.at(-1);
  let rings = 0;
  alarm.set(100, () => (rings += 1));
  assert.deepEqual(worker?.asked, [100]);
  worker?.onmessage?.();
  t.mock.timers.tick(1_000);
  assert.equal(rings, 1);
  alarm.set(100, () => (rings += 1));
  t.mock.timers.tick(100);
  worker?.onmessage?.();
  assert.equal(rings, 2);
  alarm.set(100, () => (rings += 1));
  alarm.end();
  worker?.onmessage?.();
  t.mock.timers.tick(1_000);
  assert.deepEqual([rings, worker?.isOver], [2, true]);
});

test("a page that may have no worker has its own timer", (t) => {
  page(
    t,
    class {
      constructor() {
        throw new Error("refused by the page's policy");
      }
    },
  );
  const alarm = new Alarm();
  let rings = 0;
  alarm.set(100, () => (rings += 1));
  t.mock.timers.tick(100);
  assert.equal(rings, 1);
  alarm.end();
});
