// A group is shown as one: all notices, whoever sent them, are one; every other conversation is a group of its own.
import type { Gap, Message } from "towncrier";

/** The group that all notices, and all gaps, belong to. */
export const NOTICES = "notices";
/** The session type of a notice. */
const NOTIFICATION = 4;
/** The beginning of the ids of conversations that hold notices. */
const NOTIFICATION_PREFIX = "sn_";

/** The group of a message or a gap. */
export function groupOf(entry: Message | Gap): string {
  return "sessionType" in entry && entry.sessionType !== NOTIFICATION ? entry.conversationId : NOTICES;
}

/** The group of a conversation. */
export function groupOfConversation(id: string): string {
  return id.startsWith(NOTIFICATION_PREFIX) ? NOTICES : id;
}
