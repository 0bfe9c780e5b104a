// What `/metrics` says, read from Prometheus' text format: enough of it for numbers that the gateway writes.

/** Values by `name{labels}` as the text has it. */
export type Metrics = Map<string, number>;

export function parse(text: string): Metrics {
  const metrics: Metrics = new Map();
  for (const line of text.split("\n")) {
    const space = line.lastIndexOf(" ");
    if (line.startsWith("#") || space < 0) continue;
    metrics.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return metrics;
}

/** The sum over all labels of a name. */
export function total(metrics: Metrics, name: string): number {
  let sum = 0;
  for (const [key, value] of metrics) if (key === name || key.startsWith(`${name}{`)) sum += value;
  return sum;
}

/** Values of a name by one of its labels, those above zero. */
export function byLabel(metrics: Metrics, name: string, label: string): [string, number][] {
  const found: [string, number][] = [];
  for (const [key, value] of metrics) {
    const labelled = key.startsWith(`${name}{`) && new RegExp(`[{,]${label}="([^"]*)"`).exec(key);
    if (labelled && value > 0) found.push([labelled[1] ?? "", value]);
  }
  return found.sort((a, b) => b[1] - a[1]);
}

/** Cumulative counts of a histogram by upper bound, all labels with `having` together. */
function buckets(metrics: Metrics, name: string, having: string): Map<number, number> {
  const counts = new Map<number, number>();
  for (const [key, value] of metrics) {
    if (!key.startsWith(`${name}_bucket{`) || !key.includes(having)) continue;
    const bound = /le="([^"]+)"/.exec(key)?.[1];
    const upper = bound === "+Inf" ? Number.POSITIVE_INFINITY : Number(bound);
    counts.set(upper, (counts.get(upper) ?? 0) + value);
  }
  return counts;
}

/**
 * A quantile of what a histogram took in between two readings, interpolated within its bucket; null where it took in
 * nothing. What lies above the last bound is said to be that bound.
 */
export function quantile(
  before: Metrics,
  after: Metrics,
  name: string,
  q: number,
  having = "",
): number | null {
  const old = buckets(before, name, having);
  const counts = [...buckets(after, name, having)]
    .map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)] as const)
    .sort((a, b) => a[0] - b[0]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  let [lower, below] = [0, 0];
  for (const [upper, count] of counts) {
    if (count >= q * all && count > below) {
      return upper === Number.POSITIVE_INFINITY
        ? lower
        : lower + ((upper - lower) * (q * all - below)) / (count - below);
    }
    [lower, below] = [upper, count];
  }
  return lower;
}
