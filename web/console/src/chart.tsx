// A line over the last five minutes, with its last and its highest value in words.

const WIDTH = 300;
const HEIGHT = 80;
/** The width is at least for so many values, a minute: fewer begin within it. */
const VALUES_MIN = 30;

interface Line {
  title: string;
  unit: string;
  /** Oldest first; null where nothing was measured. */
  values: (number | null)[];
  digits: number;
}

export function Chart({ title, unit, values, digits }: Line) {
  const known = values.filter((value) => value !== null);
  const highest = Math.max(0, ...known);
  const write = (value: number | undefined) =>
    value === undefined ? "–" : `${value.toLocaleString("en", { maximumFractionDigits: digits })}${unit}`;
  const [last, most] = [write(known.at(-1)), write(known.length > 0 ? highest : undefined)];
  return (
    <figure class="panel">
      <figcaption>
        {title}
        <b>{last}</b>
      </figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${title}: now ${last}, at most ${most}`}
      >
        {segments(values, highest).map((points) => (
          <polyline
            key={points}
            points={points}
            class={isDot(points) ? "dot" : ""}
            vector-effect="non-scaling-stroke"
          />
        ))}
      </svg>
      <p class="hint">at most {most}</p>
    </figure>
  );
}

/** The line, apart where nothing was measured. The newest value stands at the right end. */
function segments(values: (number | null)[], highest: number): string[] {
  const step = WIDTH / (Math.max(values.length, VALUES_MIN) - 1);
  const found: string[][] = [[]];
  values.forEach((value, index) => {
    if (value === null) {
      found.push([]);
      return;
    }
    const x = WIDTH - (values.length - 1 - index) * step;
    const y = HEIGHT - 2 - (highest === 0 ? 0 : (value / highest) * (HEIGHT - 6));
    found.at(-1)?.push(`${x.toFixed(1)},${y.toFixed(1)}`);
  });
  const drawn = found.filter((points) => points.length > 0);
  // One value alone is a line without length, which its style makes a dot.
  return drawn.map((points) => (points.length === 1 ? `${points[0]} ${points[0]}` : points.join(" ")));
}

function isDot(points: string): boolean {
  const [first, second, ...more] = points.split(" ");
  return first === second && more.length === 0;
}
