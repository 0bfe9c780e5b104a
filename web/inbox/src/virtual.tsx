// A list of any length of which only what is on the screen exists: rows of any height, measured as they appear.
//
// Rows that are added above what is on the screen, or that turn out to be of another height there, do not move it. The row
// that holds the focus exists wherever it is, so that the keyboard never loses its place.
import { useLayoutEffect, useReducer, useRef } from "preact/hooks";

/** Rows kept ready above and below the screen, px. */
const MARGIN = 600;
/** How near its end a list asks for more, px. */
const NEAR_END = 2000;

export interface VirtualListProps<T> {
  items: readonly T[];
  keyOf: (item: T) => number;
  row: (item: T, index: number) => preact.ComponentChildren;
  /** A row's height before it is measured, px. */
  estimate: number;
  /** The row that holds the focus. */
  active: number;
  label: string;
  /** Whether more may follow: the number of all rows is not known then. */
  hasMore: boolean;
  onNearEnd: () => void;
  onScrolled: (top: number) => void;
  scroller: preact.RefObject<HTMLDivElement | null>;
}

export function VirtualList<T>(props: VirtualListProps<T>) {
  const { items, keyOf, row, estimate, active, label, hasMore, onNearEnd, onScrolled, scroller } = props;
  const [, render] = useReducer((count: number) => count + 1, 0);
  const heights = useRef(new Map<number, number>()).current;
  const firstKey = useRef<number>(undefined);
  const offsets = offsetsOf(items, (item) => heights.get(keyOf(item)) ?? estimate);
  const height = offsets[items.length] ?? 0;

  const top = scroller.current?.scrollTop ?? 0;
  const bottom = top + (scroller.current?.clientHeight ?? window.innerHeight);
  const from = indexAt(offsets, top - MARGIN);
  const to = Math.min(items.length, indexAt(offsets, bottom + MARGIN) + 1);
  const shown = Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
  if (active < from && active >= 0) shown.unshift(active);
  if (active >= to && active < items.length) shown.push(active);

  const observer = useRef<ResizeObserver>(undefined);
  observer.current ??= new ResizeObserver((changes) => {
    let isNew = false;
    for (const { target } of changes) {
      const element = target as HTMLElement;
      // The list itself: its window is another one, or it is shown again.
      if (element === scroller.current) {
        isNew = true;
        continue;
      }
      const key = Number(element.dataset.key);
      const measured = element.offsetHeight;
      const before = heights.get(key) ?? estimate;
      if (measured === 0 || heights.get(key) === measured) continue;
      heights.set(key, measured);
      isNew = true;
      const elementTop = Number(element.dataset.top);
      if (scroller.current && elementTop + before <= scroller.current.scrollTop)
        scroller.current.scrollTop += measured - before;
    }
    if (isNew) render(undefined);
  });
  useLayoutEffect(() => {
    if (scroller.current) observer.current?.observe(scroller.current);
    return () => observer.current?.disconnect();
  }, [scroller]);

  // What was added above moves what is on the screen, unless the screen shows the very top.
  useLayoutEffect(() => {
    const before = firstKey.current;
    const [first] = items;
    firstKey.current = first === undefined ? undefined : keyOf(first);
    if (before === undefined || !scroller.current || scroller.current.scrollTop === 0) return;
    const index = items.findIndex((item) => keyOf(item) === before);
    if (index > 0) scroller.current.scrollTop += offsets[index] ?? 0;
  }, [items]);

  useLayoutEffect(() => {
    if (hasMore && bottom > height - NEAR_END) onNearEnd();
  });

  const onScroll = () => {
    const now = scroller.current?.scrollTop ?? 0;
    onScrolled(now);
    // What was kept ready lasts for half of it.
    if (Math.abs(now - top) > MARGIN / 2) render(undefined);
  };

  return (
    <div class="scroller" ref={scroller} onScroll={onScroll}>
      <ol class="rows" aria-label={label} style={{ height: `${height}px` }}>
        {shown.map((index) => {
          const item = items[index];
          if (item === undefined) return null;
          const key = keyOf(item);
          return (
            <li
              key={key}
              class="row"
              data-key={key}
              data-top={offsets[index]}
              aria-posinset={index + 1}
              aria-setsize={hasMore ? -1 : items.length}
              style={{ transform: `translateY(${offsets[index]}px)` }}
              ref={(element) => {
                if (element) observer.current?.observe(element);
              }}
            >
              {row(item, index)}
            </li>
          );
        })}
      </ol>
    </div>
  );
}

/** Where each row begins, and behind them where the last one ends. */
function offsetsOf<T>(items: readonly T[], heightOf: (item: T) => number): Float64Array {
  const offsets = new Float64Array(items.length + 1);
  for (const [index, item] of items.entries()) offsets[index + 1] = (offsets[index] ?? 0) + heightOf(item);
  return offsets;
}

/** The row at a height. */
function indexAt(offsets: Float64Array, y: number): number {
  let [low, high] = [0, offsets.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((offsets[middle] ?? 0) <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}
