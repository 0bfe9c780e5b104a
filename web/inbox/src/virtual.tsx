// A list of any length of which only what is on the screen exists: rows of any height, measured as they appear.
//
// Rows that are added above what is on the screen, or that turn out to be of another height there, do not move it. The row
// that holds the focus exists wherever it is, so that the keyboard never loses its place.
import { useCallback, useLayoutEffect, useReducer, useRef } from "preact/hooks";

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
  const [, count] = useReducer((count: number) => count + 1, 0);
  const render = () => count(undefined);
  const { heights, measure } = useHeights(scroller, estimate, render);
  const offsets = offsetsOf(items, (item) => heights.get(keyOf(item)) ?? estimate);
  const height = offsets[items.length] ?? 0;
  useAnchor(scroller, items, keyOf, offsets);

  const top = scroller.current?.scrollTop ?? 0;
  const bottom = top + (scroller.current?.clientHeight ?? window.innerHeight);
  useLayoutEffect(() => {
    if (hasMore && bottom > height - NEAR_END) onNearEnd();
  });
  const onScroll = () => {
    const now = scroller.current?.scrollTop ?? 0;
    onScrolled(now);
    // What was kept ready lasts for half of it.
    if (Math.abs(now - top) > MARGIN / 2) render();
  };

  const from = indexAt(offsets, top - MARGIN);
  const to = Math.min(items.length, indexAt(offsets, bottom + MARGIN) + 1);
  const shown = Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
  if (active < from) shown.unshift(active);
  if (active >= to) shown.push(active);
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
              ref={measure}
            >
              {row(item, index)}
            </li>
          );
        })}
      </ol>
    </div>
  );
}

type Scroller = VirtualListProps<unknown>["scroller"];

/** The heights of the rows that were on the screen, by key, and what rows are given to be measured by. */
function useHeights(scroller: Scroller, estimate: number, render: () => void) {
  const heights = useRef(new Map<number, number>()).current;
  const observer = useRef<ResizeObserver>(undefined);
  observer.current ??= new ResizeObserver((changes) => {
    // The list itself has another window, or is shown again; or rows have another height.
    const news = changes.map(({ target }) => target === scroller.current || take(target as HTMLElement));
    if (news.includes(true)) render();
  });
  /** Notes a row's height; whether it is another one. */
  const take = (row: HTMLElement): boolean => {
    const key = Number(row.dataset.key);
    const measured = row.offsetHeight;
    const before = heights.get(key) ?? estimate;
    // Rows that are gone, or in a list that is not shown, have none.
    if (measured === 0 || heights.get(key) === measured) return false;
    heights.set(key, measured);
    const list = scroller.current;
    if (list && Number(row.dataset.top) + before <= list.scrollTop) list.scrollTop += measured - before;
    return true;
  };
  const measure = useCallback((row: HTMLElement | null) => {
    if (row) observer.current?.observe(row);
  }, []);
  useLayoutEffect(() => {
    if (scroller.current) observer.current?.observe(scroller.current);
    return () => observer.current?.disconnect();
  }, [scroller]);
  return { heights, measure };
}

/** What is added above moves nothing on the screen, unless the screen shows the very top. */
function useAnchor<T>(
  scroller: Scroller,
  items: readonly T[],
  keyOf: (item: T) => number,
  offsets: Float64Array,
) {
  const first = items[0] === undefined ? undefined : keyOf(items[0]);
  const before = useRef(first);
  useLayoutEffect(() => {
    const index = items.findIndex((item) => keyOf(item) === before.current);
    before.current = first;
    const list = scroller.current;
    if (index > 0 && list && list.scrollTop > 0) list.scrollTop += offsets[index] ?? 0;
  }, [first]);
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
