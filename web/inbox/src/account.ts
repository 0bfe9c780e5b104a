// Who is signed in: a token, kept in this browser for all its tabs.
import { keep, kept, ownName } from "./keep.ts";

/** The token and what it says. */
export interface Account {
  token: string;
  user: string;
  platform: string;
}

/** Another page of the host, such as a portal, may leave a token here, for an inbox at any path that has none of its own. */
const HOST_KEY = "towncrier.token";
const KEY = ownName(HOST_KEY);

/** Reads the claims of a token: whom it stands for. The gateway checks it; here it only names the store. */
export function accountOf(token: string): Account | undefined {
  try {
    // A terminal breaks long lines, and who copies from one copies that.
    const whole = token.replace(/\s+/g, "");
    const [, body = ""] = whole.split(".");
    const bytes = Uint8Array.from(atob(body.replace(/-/g, "+").replace(/_/g, "/")), (char) =>
      char.charCodeAt(0),
    );
    const { UID, Platform } = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof UID !== "string" || typeof Platform !== "string") return undefined;
    return { token: whole, user: UID, platform: Platform };
  } catch {
    return undefined;
  }
}

/** Who was signed in when this browser was last here. */
export function remembered(): Account | undefined {
  const token = kept(KEY) ?? kept(HOST_KEY);
  return token ? accountOf(token) : undefined;
}

/** Signs in in all tabs, or out. */
export function remember(account: Account | undefined): void {
  // Signed out is not the same as never signed in, where the host's token would be taken again.
  const none = KEY === HOST_KEY ? undefined : "";
  keep(KEY, account?.token ?? none);
}

/** Whether two tokens stand for the same inbox. */
export function isSameInbox(one: Account, other: Account): boolean {
  return one.user === other.user && one.platform === other.platform;
}

/** Calls `listener` when another tab signs in or out. */
export function onOtherTab(listener: () => void): () => void {
  const onStorage = (event: StorageEvent) => {
    // A key of null: all of it was cleared.
    if (event.key === KEY || event.key === null) listener();
  };
  addEventListener("storage", onStorage);
  return () => removeEventListener("storage", onStorage);
}

/**
 * The account whose token the page's address carries, `#token=…`, as `towncrier token --link` prints it. It is taken out of the
 * address, so that a copy of the address does not hold it.
 */
export function takeLink(): Account | undefined {
  const [, token] = location.hash.split("#token=");
  if (token === undefined) return undefined;
  history.replaceState(null, "", location.pathname + location.search);
  return accountOf(token);
}
