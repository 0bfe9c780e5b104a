// One conversation: its entries as cards, the newest first, older ones read from the store as they are scrolled to.
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Conversation, Message } from "towncrier";
import { Card } from "./card.tsx";
import { withdrawn } from "./content.ts";
import { senderOf, summaryOf, timeOf, viewOf } from "./entry.ts";
import { useVisible } from "./hooks.ts";
import { Icon } from "./icons.tsx";
import type { Item, Mailbox } from "./mailbox.ts";
import { VirtualList } from "./virtual.tsx";
import { say, sayDay } from "./words.ts";

/** Entries read at a time. */
const PAGE_ENTRIES = 100;
/** A card's usual height, px. */
const CARD_HEIGHT = 150;
/** How long an online-only message stays, ms. */
const ONLINE_ONLY_FOR = 8_000;

export interface ThreadProps {
  mailbox: Mailbox;
  group: string;
  name: string;
  /** The entry that is open in the detail view. */
  open: number | undefined;
}

export function Thread({ mailbox, group, name, open }: ThreadProps) {
  const { entries, hasMore, more } = useEntries(mailbox, group);
  const isVisible = useVisible();
  const isNew = useIsNew(mailbox);
  const scroller = useRef<HTMLDivElement>(null);
  const [activePlace, setActivePlace] = useState(0);
  const [isAtTop, setAtTop] = useState(true);
  const [seenTop, setSeenTop] = useState(0);
  const newest = entries[0]?.place ?? 0;

  useEffect(() => {
    if (!isVisible || newest === 0) return;
    mailbox.show({ group, place: newest });
    return () => mailbox.show(undefined);
  }, [isVisible, newest, group, mailbox]);
  useEffect(() => {
    if (isAtTop) setSeenTop(newest);
  }, [isAtTop, newest]);

  const newer = isAtTop ? 0 : entries.findIndex(({ place }) => place <= seenTop);
  const withdrawals = useMemo(() => withdrawalsIn(entries), [entries]);
  // What arrives above moves no focus: the active card is known by its place.
  const active = useMemo(
    () =>
      Math.max(
        0,
        entries.findIndex(({ place }) => place === activePlace),
      ),
    [entries, activePlace],
  );
  const focusCard = useFocusOnCard(scroller, entries, setActivePlace);
  useFocusBack(scroller, open);

  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, Home: -entries.length, End: entries.length }[
      event.key
    ];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    focusCard(Math.min(Math.max(active + step, 0), entries.length - 1));
  };
  const onFocusIn = (event: FocusEvent) => {
    const row = event.target instanceof Element && event.target.closest<HTMLElement>("[data-key]");
    if (row) setActivePlace(Number(row.dataset.key));
  };
  const toTop = () => {
    scroller.current?.scrollTo({ top: 0 });
    focusCard(0);
  };

  const now = new Date();
  const row = (entry: Item, index: number) => (
    <>
      <DayAbove entry={entry} above={entries[index - 1]} now={now} />
      <Card
        group={group}
        entry={entry}
        isNew={isNew(entry)}
        isWithdrawn={entry.kind === "message" && withdrawals.has(entry.message.clientMsgId)}
        isOpen={entry.place === open}
        isActive={index === active}
      />
    </>
  );

  return (
    <section class="thread" aria-label={name} onKeyDown={onKeyDown} onFocusIn={onFocusIn}>
      {entries.length === 0 && !hasMore ? (
        <div class="empty">
          <Icon name="bell" />
          <p class="empty-title">{say("nothing")}</p>
          <p class="quiet">{say("nothingLead")}</p>
        </div>
      ) : (
        <VirtualList
          items={entries}
          keyOf={placeOf}
          row={row}
          estimate={CARD_HEIGHT}
          active={active}
          label={name}
          hasMore={hasMore}
          onNearEnd={more}
          onScrolled={(top) => setAtTop(top < 40)}
          scroller={scroller}
        />
      )}
      {newer > 0 && (
        <button type="button" class="to-top" onClick={toTop}>
          <Icon name="up" />
          {say("newer", newer)}
        </button>
      )}
      <OnlineOnly mailbox={mailbox} group={group} />
      <Spoken entry={isNew(entries[0]) ? entries[0] : undefined} />
    </section>
  );
}

const placeOf = (entry: Item) => entry.place;

/** The entries of a conversation, the newest first, and more of them when asked. */
function useEntries(mailbox: Mailbox, group: string) {
  const [entries, setEntries] = useState<Item[]>([]);
  const [hasMore, setHasMore] = useState(true);
  const isReading = useRef(false);
  const oldest = entries.at(-1)?.place;

  useEffect(() => {
    let arrived: Item[] = [];
    const show = () => {
      const fresh = arrived;
      arrived = [];
      setEntries((known) => [...fresh.filter(({ place }) => place > (known[0]?.place ?? 0)), ...known]);
    };
    return mailbox.onArrival((arrival) => {
      if (arrival.group !== group || !("entry" in arrival)) return;
      // A backlog comes in hundreds: those that come together are shown together.
      if (arrived.length === 0) setTimeout(show);
      arrived.unshift(arrival.entry);
    });
  }, [mailbox, group]);

  const more = useCallback(async () => {
    if (isReading.current) return;
    isReading.current = true;
    try {
      const query = oldest === undefined ? { limit: PAGE_ENTRIES } : { before: oldest, limit: PAGE_ENTRIES };
      const page = await mailbox.store.groupHistory(group, query);
      // What arrived while it was read may be in it as well.
      setEntries((known) => {
        const end = known.at(-1)?.place ?? Number.POSITIVE_INFINITY;
        return [...known, ...page.reverse().filter(({ place }) => place < end)];
      });
      setHasMore(page.length === PAGE_ENTRIES);
    } finally {
      isReading.current = false;
    }
  }, [mailbox, group, oldest]);
  return { entries, hasMore, more };
}

/** Tells the messages that were unread when the thread was opened, or came since. */
function useIsNew(mailbox: Mailbox): (entry: Item | undefined) => boolean {
  const before = useRef(new Map<string, Conversation>()).current;
  // A conversation that begins while the thread is open was unread then.
  for (const [id, conversation] of mailbox.conversations) if (!before.has(id)) before.set(id, conversation);
  return (entry) => {
    if (entry?.kind !== "message") return false;
    const { conversationId, conversationSeq } = entry.message;
    const conversation = before.get(conversationId);
    if (!conversation || entry.place <= conversation.readPlace) return false;
    return conversationSeq === 0n || conversationSeq > conversation.mark;
  };
}

/** Moves the focus to a card, however far away it is. */
function useFocusOnCard(
  scroller: preact.RefObject<HTMLDivElement | null>,
  entries: Item[],
  setActivePlace: (place: number) => void,
) {
  const wanted = useRef<number>(undefined);
  useLayoutEffect(() => {
    if (wanted.current === undefined) return;
    const row = scroller.current?.querySelector<HTMLElement>(`[data-key="${wanted.current}"]`);
    wanted.current = undefined;
    row?.scrollIntoView({ block: "nearest" });
    row?.querySelector<HTMLElement>(".card-link")?.focus({ preventScroll: true });
  });
  return (index: number) => {
    const place = entries[index]?.place;
    if (place === undefined) return;
    wanted.current = place;
    setActivePlace(place);
  };
}

/** When the detail view closes, the focus goes back to the card it was of. */
function useFocusBack(scroller: preact.RefObject<HTMLDivElement | null>, open: number | undefined): void {
  const before = useRef(open);
  useLayoutEffect(() => {
    if (before.current !== undefined && open === undefined) {
      const row = scroller.current?.querySelector(`[data-key="${before.current}"]`);
      row?.querySelector<HTMLElement>(".card-link")?.focus();
    }
    before.current = open;
  }, [open, scroller]);
}

/** clientMsgIDs of what was withdrawn. */
function withdrawalsIn(entries: Item[]): Set<string> {
  const ids = new Set<string>();
  for (const entry of entries) {
    const id = entry.kind === "message" && withdrawn(entry.message);
    if (id) ids.add(id);
  }
  return ids;
}

/** The day, above the first card of each. */
function DayAbove({ entry, above, now }: { entry: Item; above: Item | undefined; now: Date }) {
  const day = dayOf(entry, now);
  return day && day !== (above && dayOf(above, now)) ? <h2 class="day">{day}</h2> : null;
}

function dayOf(entry: Item, now: Date): string | undefined {
  return entry.kind === "message" ? sayDay(timeOf(entry.message), now) : undefined;
}

/** The last online-only message, for a moment. */
function OnlineOnly({ mailbox, group }: { mailbox: Mailbox; group: string }) {
  const [message, setMessage] = useState<Message>();
  useEffect(
    () =>
      mailbox.onArrival((arrival) => {
        if (arrival.group === group && "onlineOnly" in arrival) setMessage(arrival.onlineOnly);
      }),
    [mailbox, group],
  );
  useEffect(() => {
    if (!message) return;
    const timer = setTimeout(() => setMessage(undefined), ONLINE_ONLY_FOR);
    return () => clearTimeout(timer);
  }, [message]);
  if (!message || Object.keys(viewOf(message)).every((part) => part === "kind")) return null;
  return (
    <output class="toast">
      <b>{senderOf(message)}</b> {summaryOf({ kind: "message", place: 0, message })}
      <span class="quiet">{say("onlineOnly")}</span>
    </output>
  );
}

/** Says what has just arrived to who listens instead of looking. */
function Spoken({ entry }: { entry: Item | undefined }) {
  const first = useRef(entry?.place);
  const text = entry && entry.place !== first.current ? summaryOf(entry) : "";
  return (
    <p class="spoken" aria-live="polite">
      {text}
    </p>
  );
}
