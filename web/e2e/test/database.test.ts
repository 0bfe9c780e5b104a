// A browser that takes its database from a page that is open, and one that has lost it: the page goes on by itself, and messages
// that were read stay so.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { Somebody, until } from "../support/browser.ts";
import { Front } from "../support/front.ts";
import { cards, isLive, landed, notify, signIn } from "../support/inbox.ts";
import { browser, gateway } from "../support/scene.ts";

const PHONE = { viewport: { width: 390, height: 844 } };

/** As the browser does when site data is cleared or it runs out of space: pages are not asked. */
async function clear(page: Page): Promise<void> {
  const devtools = await page.context().newCDPSession(page);
  const origin = gateway.origin;
  await devtools.send("Storage.clearDataForOrigin", { origin, storageTypes: "indexeddb" });
  await devtools.detach();
}

/** As another tab does. */
async function remove(page: Page, name: string): Promise<void> {
  await page.evaluate(async (name) => {
    const request = indexedDB.deleteDatabase(name);
    await new Promise((resolve, reject) => {
      request.onsuccess = resolve;
      request.onerror = reject;
    });
  }, name);
}

for (const [by, take] of [
  ["the browser", clear],
  ["a script", (page: Page) => remove(page, "towncrier/cleared/Web")],
] as const) {
  test(`a database that ${by} takes away is opened again, and fills up, in every tab`, async () => {
    const somebody = await Somebody.with(browser);
    const page = await signIn(somebody, gateway, "cleared");
    const other = await somebody.open(gateway.origin);
    await isLive(other);
    const [before, after] = [`Before ${by}`, `After ${by}`];
    await notify(gateway, "cleared", before);
    for (const tab of [page, other]) await cards(tab, before).waitFor();
    await take(page);
    await notify(gateway, "cleared", after);
    for (const tab of [page, other]) {
      await cards(tab, after).waitFor();
      await cards(tab, before).waitFor();
      await isLive(tab);
    }
    const all = await landed(page, "cleared");
    assert.deepEqual(all.slice(-2), [before, after]);
    assert.equal(new Set(all).size, all.length);
    await somebody.leave();
  });
}

test("a database that cannot be read any more is opened again", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "severed");
  // As Safari does to a page in the background: each transaction fails, and no event says so.
  await page.evaluate(() => {
    const { transaction } = IDBDatabase.prototype;
    const { open } = IDBFactory.prototype;
    IDBDatabase.prototype.transaction = () => {
      throw new DOMException("Connection to Indexed Database server lost.", "UnknownError");
    };
    IDBFactory.prototype.open = function (...asked) {
      IDBDatabase.prototype.transaction = transaction;
      return open.apply(this, asked);
    };
  });
  await notify(gateway, "severed", "After");
  await cards(page, "After").waitFor();
  await isLive(page);
  await somebody.leave();
});

test("a database that is lost each time is not opened without a pause, and a sign-out ends it", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "unlucky");
  await page.evaluate(() => {
    Object.assign(globalThis, { opened: 0 });
    IDBFactory.prototype.open = () => {
      globalThis.opened += 1;
      throw new DOMException("Internal error.", "UnknownError");
    };
  });
  await clear(page);
  await page.getByText("This browser cannot keep messages: Internal error.").waitFor();
  await until("it was tried again", () => page.evaluate(() => globalThis.opened >= 3));
  await page.getByRole("button", { name: "Try again" }).waitFor();
  assert.ok((await page.evaluate(() => globalThis.opened)) < 10);
  const other = await somebody.open(gateway.origin);
  await isLive(other);
  await other.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Access token").waitFor();
  await until("nothing of it is left", async () => {
    const databases = await other.evaluate(() => indexedDB.databases());
    return databases.length === 0;
  });
  await somebody.leave();
});

declare global {
  var opened: number;
}

test("after a browser lost its database, what came meanwhile is unread, and what was read is read", async () => {
  const somebody = await Somebody.with(browser, PHONE);
  const page = await signIn(somebody, gateway, "loser");
  for (const title of ["Old 1", "Old 2", "Old 3"]) await notify(gateway, "loser", title);
  const notices = page.getByRole("navigation").getByRole("link", { name: /^Notifications/ });
  await notices.getByLabel("3 unread").waitFor();
  await notices.click();
  await cards(page, "Old 3").waitFor();
  await page.getByRole("button", { name: "Back" }).click();
  await notices.getByLabel("unread").waitFor({ state: "detached" });
  await page.goto("about:blank");
  await clear(page);
  await gateway.call("/msg/del_msg", { userID: "loser", opUserID: "loser", seqList: [1, 2] });
  for (const title of ["New 1", "New 2"]) await notify(gateway, "loser", title);
  await page.goto(gateway.origin);
  await isLive(page);
  await notices.getByLabel("2 unread").waitFor();
  assert.equal(await page.title(), "(2) Inbox · Towncrier");
  await somebody.leave();
});

test("marks that cannot be read keep nobody out", async () => {
  const somebody = await Somebody.with(browser, PHONE);
  await notify(gateway, "muddled", "There");
  const page = await signIn(somebody, gateway, "muddled");
  for (const text of ["{", '{"notices":[]}']) {
    await page.evaluate((text) => localStorage.setItem("towncrier/muddled/Web/marks", text), text);
    await page.reload();
    await isLive(page);
    await page.getByLabel("1 unread").waitFor();
  }
  await somebody.leave();
});

/** The database becomes one of the next version, with nothing else changed, as by a tab of the next release. */
async function upgrade(page: Page, name: string): Promise<void> {
  await page.evaluate(async (name) => {
    const request = indexedDB.open(name, 3);
    await new Promise((resolve, reject) => {
      request.onsuccess = resolve;
      request.onerror = reject;
    });
    request.result.close();
  }, name);
}

const versionOf = (page: Page, name: string): Promise<number | undefined> =>
  page.evaluate(
    async (name) => (await indexedDB.databases()).find((database) => database.name === name)?.version,
    name,
  );

const ANEW = "so they were fetched anew";

test("after a release was taken back the page begins anew, says so, and knows what was read", async () => {
  const somebody = await Somebody.with(browser, PHONE);
  await notify(gateway, "rolled", "Before");
  const page = await signIn(somebody, gateway, "rolled");
  await page.getByRole("navigation").getByRole("link").click();
  await cards(page, "Before").waitFor();
  await page.getByRole("button", { name: "Back" }).click();
  await page.getByLabel("1 unread").waitFor({ state: "detached" });
  await page.goto(`${gateway.origin}/icon.svg`);
  await upgrade(page, "towncrier/rolled/Web");
  await notify(gateway, "rolled", "After");
  await page.goto(gateway.origin);
  await isLive(page);
  await page.getByLabel("1 unread").waitFor();
  await page.getByText(ANEW).waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByText(ANEW).waitFor({ state: "detached" });
  assert.deepEqual(await landed(page, "rolled"), ["Before", "After"]);
  await page.reload();
  await isLive(page);
  assert.equal(await page.getByText(ANEW).count(), 0);
  // The picture has no icon, which the browser asks for.
  await somebody.leave(/404/);
});

test("a page that is out of date is loaded again, once, when a newer one takes the database", async (t) => {
  const front = await Front.start(gateway.origin);
  t.after(() => front.close());
  const somebody = await Somebody.with(browser);
  const token = () => gateway.token("outdated");
  const page = await signIn(somebody, { origin: front.home(), token }, "outdated");
  await page.evaluate(() => navigator.serviceWorker.ready);
  const html = await (await fetch(front.home())).text();
  let loaded = 0;
  page.on("load", () => (loaded += 1));
  const next = html.replace(/app\.js\?[0-9a-f]+/, "app.js?0123456789abcdef");
  front.refuse = (path) => (path === "/" ? { status: 200, body: next } : undefined);
  await upgrade(page, "towncrier/outdated/Web");
  // The next release would know that database; here it is the same page, which then takes it for a later one's.
  await page.getByText(ANEW).waitFor();
  await isLive(page);
  assert.equal(loaded, 1);
  assert.equal(await page.locator("script").getAttribute("src"), "app.js?0123456789abcdef");
  await somebody.leave();
});

test("a database of another release is left alone until the gateway can be asked", async (t) => {
  const front = await Front.start(gateway.origin);
  t.after(() => front.close());
  const somebody = await Somebody.with(browser);
  const token = () => gateway.token("careful");
  const page = await signIn(somebody, { origin: front.home(), token }, "careful");
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await isLive(page);
  front.refuse = () => ({ status: 503 });
  await upgrade(page, "towncrier/careful/Web");
  await page.getByText("another version of this page kept them").waitFor();
  assert.equal(await versionOf(page, "towncrier/careful/Web"), 3);
  front.refuse = () => undefined;
  await page.getByText(ANEW).waitFor();
  await isLive(page);
  assert.equal(await versionOf(page, "towncrier/careful/Web"), 2);
  await somebody.leave(/status of 503|WebSocket connection/);
});
