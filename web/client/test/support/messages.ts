// Messages and frames as the gateway would make them, and random numbers that a seed repeats.
import {
  type Connected,
  type Gap,
  Gap_Reason,
  Message,
  type Push,
} from "../../src/gen/towncrier/v1/gateway.ts";

/** The first of its conversation is the first of the inbox, unless `more` says otherwise. */
export function message(seq: bigint | number, id = `id-${seq}`, more: Partial<Message> = {}): Message {
  return {
    seq: BigInt(seq),
    serverMsgId: id,
    clientMsgId: id,
    sendId: "office",
    recvId: "alice",
    groupId: "",
    senderPlatformId: 10,
    senderNickname: "Office",
    senderFaceUrl: "",
    sessionType: 4,
    contentType: 1400,
    content: new TextEncoder().encode('{"text":"hello"}'),
    sendTime: 1_795_000_000_000n,
    createTime: 1_795_000_000_000n,
    conversationId: "sn_alice_office",
    offlinePush: undefined,
    ex: "",
    conversationSeq: BigInt(seq),
    marks: [],
    ...more,
  };
}

/** An entry of the inbox that marks conversations as read, as the gateway makes it. */
export function marks(seq: bigint | number, read: Record<string, bigint | number>, id = ""): Message {
  const marks = Object.entries(read).map(([conversationId, conversationSeq]) => ({
    conversationId,
    conversationSeq: BigInt(conversationSeq),
  }));
  return { ...Message.decode(new Uint8Array()), seq: BigInt(seq), serverMsgId: id, marks };
}

export function push(...seqs: (bigint | number)[]): Push {
  return { messages: seqs.map((seq) => message(seq)) };
}

/** From a gateway that knows what was read. */
export function connected(epoch: bigint, cursor: bigint, head: bigint): Connected {
  return {
    connectionId: "c",
    epoch,
    cursor,
    head,
    first: 1n,
    heartbeatMs: 30_000,
    window: 256,
    serverTimeMs: 0n,
    userId: "alice",
    platform: 5,
    features: 1n,
  };
}

export function gap(fromSeq: bigint, toSeq: bigint, reason: Gap_Reason = Gap_Reason.EXPIRED): Gap {
  return { fromSeq, toSeq, reason };
}

/** Mulberry32: numbers from 0 up to 1, the same for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
