// A conversation in a store, in any order of landing, reading and listing.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  afterLanding,
  type Conversation,
  isMissingSome,
  unknownConversation,
  withGone,
  withListed,
  withoutRead,
  withRead,
} from "../src/conversations.ts";
import type { Conversation as Listed, Message } from "../src/gen/towncrier/v1/gateway.ts";
import { marks, message, seeded } from "./support/messages.ts";

const SEEDS = 300;
const STEPS = 60;

const standing = (cursor = 0n, place = 0) => ({ position: { epoch: 7n, cursor }, place });
const listed = (more: Partial<Listed>): Listed => ({
  conversationId: "a",
  head: 0n,
  first: 1n,
  mark: 0n,
  unread: 0,
  lastTime: 0n,
  lastSeq: 0n,
  ...more,
});
const inA = (conversationSeq: number) =>
  message(conversationSeq, `id-${conversationSeq}`, { conversationId: "a" });

function landed(before: Conversation, ...entries: Message[]): Conversation {
  const [after] = afterLanding([before], entries, new Set(entries));
  return after ?? before;
}

const A = unknownConversation("a", 0);
const outline = ({ mark, head, unread }: Conversation) => `${mark} of ${head}, ${unread} unread`;

test("what the gateway listed is not counted again when it lands", () => {
  const ahead = withListed(A, listed({ head: 5n, mark: 2n, unread: 3, lastSeq: 5n }), standing());
  const after = landed(ahead, inA(1), inA(2), inA(3), inA(4), inA(5), inA(6));
  assert.equal(outline(after), "2 of 6, 4 unread");
});

test("what landed since the gateway answered is counted too", () => {
  const before = landed(A, inA(1), inA(2), inA(3));
  const after = withListed(before, listed({ head: 2n, mark: 1n, unread: 1, lastSeq: 2n }), standing(3n));
  assert.equal(outline(after), "1 of 3, 2 unread");
});

test("a list from before the gateway heard of a mark takes nothing back, and one that is refused goes", () => {
  const read = withRead(landed(A, inA(1), inA(2), inA(3)), 2n, standing());
  assert.equal(outline(read), "2 of 3, 1 unread");
  const late = listed({ head: 3n, mark: 1n, unread: 2, lastSeq: 3n });
  assert.equal(outline(withListed(read, late, standing(3n))), "2 of 3, 1 unread");
  assert.equal(outline(withListed(withoutRead(read), late, standing(3n))), "1 of 3, 2 unread");
});

test("where some above the mark are gone, a mark among them is counted by the gateway", () => {
  const deleted = withListed(A, listed({ head: 10n, mark: 2n, unread: 7, lastSeq: 10n }), standing());
  const partly = withRead(deleted, 6n, standing());
  assert.deepEqual([outline(partly), partly.isCounted], ["6 of 10, 4 unread", false]);
  const counted = withListed(partly, listed({ head: 10n, mark: 6n, unread: 3, lastSeq: 10n }), standing());
  assert.deepEqual([outline(counted), counted.isCounted], ["6 of 10, 3 unread", true]);
  assert.deepEqual([withRead(partly, 10n, standing())].map(outline), ["10 of 10, 0 unread"]);
  assert.ok(withRead(partly, 10n, standing()).isCounted);
  // Retention takes from the beginning: there is no doubt on which side.
  const expired = withListed(A, listed({ head: 10n, first: 4n, unread: 7, lastSeq: 10n }), standing());
  assert.deepEqual(
    [withRead(expired, 2n, standing()), withRead(expired, 6n, standing())].map((one) => [
      outline(one),
      one.isCounted,
    ]),
    [
      ["2 of 10, 7 unread", true],
      ["6 of 10, 4 unread", true],
    ],
  );
});

test("messages are missing where the conversation begins above what has landed, until that was told", () => {
  const before = landed(A, inA(1), inA(2));
  assert.ok(!isMissingSome(before));
  const list = (first: bigint, lastSeq: bigint) =>
    withListed(before, listed({ head: 9n, first, lastSeq }), standing(2n));
  assert.ok(!isMissingSome(list(3n, 9n)));
  assert.ok(isMissingSome(list(4n, 9n)));
  assert.ok(!isMissingSome(withGone(list(4n, 9n), standing(3n))));
  // All of it landed before, or was told to be gone.
  assert.ok(!isMissingSome(list(10n, 2n)));
});

test("what does not change anything gives the same conversation", () => {
  const before = withRead(landed(A, inA(1), inA(2)), 1n, standing());
  assert.equal(withRead(before, 1n, standing()), before);
  assert.equal(landed(before, inA(2)), before);
  assert.equal(withGone(before, standing(2n)), before);
  const list = listed({ head: 2n, mark: 1n, unread: 1, lastSeq: 2n, lastTime: before.lastTime });
  const known = withListed(before, list, standing(2n));
  assert.equal(withListed(known, list, standing(2n)), known);
});

test("in any order, marks only move forward, and after a list the counts are the gateway's", () => {
  const start = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  for (let seed = start; seed < start + SEEDS; seed += 1) {
    try {
      live(seeded(seed));
    } catch (error) {
      throw new Error(`SEED=${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  }
});

/** One conversation at a gateway and in a store, which lands behind it and asks now and then. */
function live(random: () => number): void {
  const below = (end: number) => Math.floor(random() * end);
  /** The inbox: messages, by conversation seq, and marks. */
  const inbox: Message[] = [];
  const gone = new Set<number>();
  let [head, mark, first, sent] = [0, 0, 1, 0];
  let here = A;
  const cursor = () => BigInt(sent);
  const list = (): Listed => {
    const all = Array.from({ length: head }, (_, index) => index + 1);
    const unread = all.filter((seq) => seq > mark && seq >= first && !gone.has(seq)).length;
    const newest = inbox.findLast(({ conversationSeq }) => conversationSeq > 0n);
    return listed({
      head: BigInt(head),
      first: BigInt(first),
      mark: BigInt(mark),
      unread,
      lastSeq: newest?.seq ?? 0n,
    });
  };
  const append = (entry: (seq: number) => Message) => inbox.push(entry(inbox.length + 1));
  const read = (seq: number) => {
    if (seq <= mark || seq > head) return;
    mark = seq;
    append((at) => marks(at, { a: seq }));
  };
  const land = () => {
    const entry = inbox[sent];
    if (!entry) return;
    sent += 1;
    here = landed(here, entry);
  };
  for (let step = 0; step < STEPS; step += 1) {
    const before = here;
    const chance = below(100);
    if (chance < 30) {
      head += 1;
      const more = { conversationId: "a", conversationSeq: BigInt(head) };
      append((at) => message(at, `id-${at}`, more));
    } else if (chance < 65) land();
    else if (chance < 75) read(1 + below(head));
    else if (chance < 85) {
      here = withRead(here, BigInt(1 + below(head + 1)), standing(cursor()));
      // The gateway hears of it later, or now.
      if (below(2) === 0 && here.mark > 0n) read(Number(here.mark));
    } else if (chance < 90) here = withListed(here, list(), standing(cursor()));
    else if (chance < 95) gone.add(below(head + 1));
    else first = Math.min(first + below(3), head + 1);
    assert.ok(here.mark >= before.mark, "a mark moved back");
    assert.ok(here.head >= here.mark && here.unread >= 0);
    assert.ok(here.unread <= Number(here.head - here.mark), "more is unread than there is above the mark");
  }
  // The gateway hears of all that was read, all lands, and where the count is in doubt the gateway is asked.
  read(Number(here.mark));
  while (sent < inbox.length) land();
  assert.deepEqual([here.mark, here.head], [BigInt(mark), BigInt(head)]);
  if (gone.size === 0 && first === 1) assert.equal(here.unread, list().unread);
  here = withListed(here, list(), standing(cursor()));
  assert.equal(here.unread, list().unread);
  assert.ok(here.isCounted && !isMissingSome(here));
}
