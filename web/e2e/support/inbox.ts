// The inbox page, as its user sees it.
import assert from "node:assert/strict";
import type { Locator, Page } from "playwright-core";
import type { Gateway } from "../../client/test/support/gateway.ts";
import type { Somebody } from "./browser.ts";

/** Browsers' number among the platforms. */
const WEB = 5;
/** What a browser says of a gateway that is gone: expected where one is killed. */
export const GONE =
  /ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE|INTERNET_DISCONNECTED|SOCKET_NOT_CONNECTED)|WebSocket connection/;

/** Signs in and waits until everything is there. */
export async function signIn(
  somebody: Somebody,
  gateway: Pick<Gateway, "origin" | "token">,
  user: string,
): Promise<Page> {
  const page = await somebody.open(gateway.origin);
  await page.getByLabel("Access token").fill(await gateway.token(user, WEB));
  await page.getByRole("button", { name: "Sign in" }).click();
  await isLive(page);
  return page;
}

/** Waits until nothing is missing. */
export const isLive = (page: Page): Promise<void> => page.getByText("Up to date").waitFor();

/** The cards that hold this text. */
export const cards = (page: Page, text: string): Locator =>
  page.getByRole("main").getByRole("article").filter({ hasText: text });

/** Sends a notice to `user`; resolves to its serverMsgID. */
export async function notify(
  gateway: Gateway,
  user: string,
  title: string,
  { content = {}, ...more }: Record<string, unknown> = {},
): Promise<string> {
  const { errCode, errMsg, data } = await gateway.send({
    recvID: user,
    senderNickname: "人力资源部",
    content: { notificationName: title, text: `${title}: all of it`, ...(content as object) },
    ...more,
  });
  assert.equal(errCode, 0, errMsg);
  return String(data.serverMsgID);
}

/** What the trace says of a user's sessions, as `platform state`, sorted. */
export async function sessions(gateway: Gateway, serverMsgID: string, userID: string): Promise<string[]> {
  const { data } = await gateway.call("/msg/trace", { serverMsgID, userID });
  const receivers = data.receivers as { sessions: { platform: string; state: string }[] }[];
  return (receivers[0]?.sessions ?? []).map(({ platform, state }) => `${platform} ${state}`).sort();
}

/** The titles of all that landed in this browser, oldest first, as the disk has them; `from-to` for gaps. */
export async function landed(page: Page, user: string): Promise<string[]> {
  return page.evaluate(async (name) => {
    const done = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const database = await done(indexedDB.open(name));
    const entries = await done(database.transaction("entries").objectStore("entries").getAll());
    database.close();
    return entries.map((entry) =>
      entry.kind === "gap"
        ? `${entry.gap.fromSeq}-${entry.gap.toSeq}`
        : JSON.parse(new TextDecoder().decode(entry.message.content)).notificationName,
    );
  }, `towncrier/${user}/Web`);
}
