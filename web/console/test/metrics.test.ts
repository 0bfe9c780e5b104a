import assert from "node:assert/strict";
import { test } from "node:test";
import { byLabel, parse, quantile, total } from "../src/metrics.ts";

const at = (counts: [number, number, number]) =>
  parse(`# TYPE t_seconds histogram
t_seconds_bucket{path="/a",le="0.1"} ${counts[0]}
t_seconds_bucket{path="/a",le="1"} ${counts[1]}
t_seconds_bucket{path="/a",le="+Inf"} ${counts[2]}
t_seconds_bucket{path="/b",le="0.1"} 1000
t_seconds_bucket{path="/b",le="+Inf"} 1000
`);

test("values are summed over their labels and listed by one of them", () => {
  const metrics = parse('s{platform="Web"} 2\ns{platform="IOS"} 3\ns{platform="OSX"} 0\nst 7\n');
  assert.equal(total(metrics, "s"), 5);
  assert.equal(total(metrics, "st"), 7);
  assert.deepEqual(byLabel(metrics, "s", "platform"), [
    ["IOS", 3],
    ["Web", 2],
  ]);
});

test("a quantile is of what came between two readings, on the labels asked for", () => {
  const [before, after] = [at([100, 100, 100]), at([150, 200, 200])];
  assert.equal(quantile(before, after, "t_seconds", 0.5, 'path="/a"'), 0.1);
  assert.equal(quantile(before, after, "t_seconds", 0.75, 'path="/a"'), 0.1 + 0.9 / 2);
  assert.equal(quantile(before, before, "t_seconds", 0.5), null);
  assert.equal(quantile(at([0, 0, 0]), at([0, 0, 9]), "t_seconds", 0.99, 'path="/a"'), 1);
});
