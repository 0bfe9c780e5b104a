// Read on one device is read on all: in pages, other clients, and releases that know nothing of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Locator, Page } from "playwright-core";
import { Somebody, until } from "../support/browser.ts";
import { device } from "../support/device.ts";
import { makeGatewayOlder, serveEarlierPage } from "../support/earlier.ts";
import { Front } from "../support/front.ts";
import { cards, isLive, landed, notify, signIn } from "../support/inbox.ts";
import { browser, gateway } from "../support/scene.ts";

/** Platforms by number: a user has one session on each. */
const [IOS, MINI_WEB, ANDROID_PAD] = [1, 6, 8];
/** The list of conversations stands alone, so nothing is read that was not opened. */
const PHONE = { viewport: { width: 390, height: 844 } };

/** A page of a browser of its own, on this platform. */
async function pageOn(somebody: Somebody, user: string, platform: number): Promise<Page> {
  return signIn(somebody, { origin: gateway.origin, token: () => gateway.token(user, platform) }, user);
}

const notices = (page: Page): Locator =>
  page.getByRole("navigation").getByRole("link", { name: /^Notifications/ });

/** Opens the notices, sees this one, and goes back. */
async function read(page: Page, title: string): Promise<void> {
  await notices(page).click();
  await cards(page, title).waitFor();
  await page.getByRole("button", { name: "Back" }).click();
}

async function shows(page: Page, unread: number): Promise<void> {
  if (unread > 0) await notices(page).getByLabel(`${unread} unread`, { exact: true }).waitFor();
  else await notices(page).getByLabel("unread").waitFor({ state: "detached" });
  await until("the title", async () => {
    const title = await page.title();
    return title === (unread > 0 ? `(${unread}) Inbox · Towncrier` : "Inbox · Towncrier");
  });
}

/** A conversation, as the gateway lists it. */
interface Listed {
  conversationID: string;
  head: number;
  mark: number;
  unread: number;
}

async function list(userID: string): Promise<Listed[]> {
  const { data, errCode, errMsg } = await gateway.call("/conversation/list", {
    userID,
    beforeSeq: 0,
    limit: 100,
  });
  assert.equal(errCode, 0, errMsg);
  return data.list as Listed[];
}

const allRead = (userID: string) =>
  until("the gateway knows", async () => (await list(userID)).every(({ unread }) => unread === 0));

test("what is read in one browser is read in the others, open or closed, and so is what a phone reads", async () => {
  const [one, other, third] = [
    await Somebody.with(browser, PHONE),
    await Somebody.with(browser, PHONE),
    await Somebody.with(browser, PHONE),
  ];
  const here = await signIn(one, gateway, "several");
  const there = await pageOn(other, "several", MINI_WEB);
  const away = await pageOn(third, "several", ANDROID_PAD);
  await notify(gateway, "several", "One");
  await notify(gateway, "several", "Two");
  for (const page of [here, there, away]) await shows(page, 2);
  await away.goto("about:blank");
  await read(here, "Two");
  for (const page of [here, there]) await shows(page, 0);
  await notify(gateway, "several", "Three");
  for (const page of [here, there]) await shows(page, 1);
  await away.goto(gateway.origin);
  await isLive(away);
  await shows(away, 1);
  const phone = await device(gateway, "several", IOS);
  const [conversation] = await phone.conversations();
  assert.ok(conversation);
  await phone.markRead(conversation.id, conversation.head);
  for (const page of [here, there, away]) await shows(page, 0);
  await phone.stop();
  assert.deepEqual(await landed(here, "several"), ["One", "Two", "Three"], "marks are no cards");
  for (const somebody of [one, other, third]) await somebody.leave();
});

test("a new browser shows as unread what nobody has read", async () => {
  for (const title of ["One", "Two", "Three"]) await notify(gateway, "newcomer", title);
  const first = await Somebody.with(browser, PHONE);
  const before = await signIn(first, gateway, "newcomer");
  await shows(before, 3);
  await read(before, "Three");
  await allRead("newcomer");
  await first.leave();
  const second = await Somebody.with(browser, PHONE);
  const after = await signIn(second, gateway, "newcomer");
  await shows(after, 0);
  await notify(gateway, "newcomer", "Four");
  await shows(after, 1);
  await second.leave();
});

test("the notices that are on the screen are read, whoever sent them, and chats are not", async () => {
  const somebody = await Somebody.with(browser, PHONE);
  const page = await signIn(somebody, gateway, "merger");
  for (const sendID of ["payroll", "canteen", "payroll"])
    await notify(gateway, "merger", `Of ${sendID}`, { sendID });
  const chat = { sessionType: 1, contentType: 101, sendID: "bob", senderNickname: "Bob" };
  await notify(gateway, "merger", "", { ...chat, content: { text: "Lunch?" } });
  const title = (number: number) =>
    until("the title", async () => (await page.title()).startsWith(`(${number})`));
  await title(4);
  await notices(page).click();
  await title(1);
  // One that comes while they are open is read at once.
  await notify(gateway, "merger", "Later", { sendID: "canteen" });
  await cards(page, "Later").getByText("New", { exact: true }).waitFor({ state: "attached" });
  await until("the gateway knows", async () => {
    const unread = (await list("merger")).map((one) => `${one.conversationID} ${one.head} ${one.unread}`);
    return unread.sort().join() === "si_bob_merger 1 1,sn_canteen_merger 2 0,sn_merger_payroll 2 0";
  });
  await somebody.leave();
});

test("a tab hears at once what is read in another, without a network too", async () => {
  const somebody = await Somebody.with(browser, PHONE);
  const first = await signIn(somebody, gateway, "tabber");
  const second = await somebody.open(gateway.origin);
  await isLive(second);
  await notify(gateway, "tabber", "One");
  for (const page of [first, second]) await shows(page, 1);
  await somebody.context.setOffline(true);
  await read(second, "One");
  for (const page of [first, second]) await shows(page, 0);
  await somebody.context.setOffline(false);
  await isLive(first);
  await allRead("tabber");
  for (const page of [first, second]) await shows(page, 0);
  await somebody.leave(/ERR_INTERNET_DISCONNECTED|WebSocket connection/);
});

test("a page from before read state shows neither a card nor a count for a mark", async (t) => {
  const front = await Front.start(gateway.origin);
  t.after(() => front.close());
  await serveEarlierPage(front);
  const somebody = await Somebody.with(browser, PHONE);
  const page = await signIn(
    somebody,
    { origin: front.home(), token: (user) => gateway.token(user) },
    "earlier",
  );
  const phone = await device(gateway, "earlier", IOS);
  await notify(gateway, "earlier", "One");
  await shows(page, 1);
  const [conversation] = await phone.conversations();
  assert.ok(conversation);
  await phone.markRead(conversation.id, 1n);
  await allRead("earlier");
  await notify(gateway, "earlier", "Two");
  await shows(page, 2);
  assert.deepEqual(await landed(page, "earlier"), ["One", "Two"]);
  await page.reload();
  await isLive(page);
  await shows(page, 2);
  assert.equal(await page.getByRole("navigation").getByRole("link").count(), 1);
  await phone.stop();
  await somebody.leave();
});

test("what was read with a release that kept that to itself is read, here and elsewhere, and the rest is not", async (t) => {
  const front = await Front.start(gateway.origin);
  t.after(() => front.close());
  const serveThisRelease = await serveEarlierPage(front);
  const somebody = await Somebody.with(browser, PHONE);
  const at = { origin: front.home(), token: (user: string) => gateway.token(user) };
  const page = await signIn(somebody, at, "keeper");
  await notify(gateway, "keeper", "One", { sendID: "payroll" });
  await notify(gateway, "keeper", "Two", { sendID: "canteen" });
  await shows(page, 2);
  await read(page, "Two");
  await shows(page, 0);
  await notify(gateway, "keeper", "Three", { sendID: "payroll" });
  await shows(page, 1);
  serveThisRelease();
  await page.reload();
  await isLive(page);
  await shows(page, 1);
  assert.deepEqual(await landed(page, "keeper"), ["One", "Two", "Three"]);
  await until("the gateway knows", async () => {
    const unread = (await list("keeper")).map((one) => `${one.conversationID} ${one.mark} of ${one.head}`);
    return unread.sort().join() === "sn_canteen_keeper 1 of 1,sn_keeper_payroll 1 of 2";
  });
  const names = await page.evaluate(() =>
    Object.keys(localStorage).filter((name) => name.endsWith("/marks")),
  );
  assert.deepEqual(names, []);
  const fresh = await Somebody.with(browser, PHONE);
  await shows(await signIn(fresh, gateway, "keeper"), 1);
  await fresh.leave();
  await somebody.leave();
});

test("with an older gateway a browser keeps to itself what was read", async () => {
  const somebody = await Somebody.with(browser, PHONE);
  await makeGatewayOlder(somebody.context);
  await notify(gateway, "conservative", "One");
  await notify(gateway, "conservative", "Two");
  const page = await signIn(somebody, gateway, "conservative");
  await shows(page, 2);
  await read(page, "Two");
  await shows(page, 0);
  await page.reload();
  await isLive(page);
  await shows(page, 0);
  const other = await somebody.open(gateway.origin);
  await isLive(other);
  await notify(gateway, "conservative", "Three");
  for (const tab of [page, other]) await shows(tab, 1);
  await notices(other).click();
  await cards(other, "Three").getByText("New", { exact: true }).waitFor({ state: "attached" });
  assert.equal(await cards(other, "One").getByText("New", { exact: true }).count(), 0);
  await shows(page, 0);
  await somebody.leave();
});
