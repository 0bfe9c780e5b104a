// A tab that the browser froze in the background: it keeps nothing from the others, and follows when it wakes.
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import { Gateway } from "../../client/test/support/gateway.ts";
import { until } from "../support/browser.ts";
import { device } from "../support/device.ts";
import { notify } from "../support/inbox.ts";
import { type Tab, Tabs } from "../support/tabs.ts";

const WEB = 5;
const LIVE = "Up to date";

let gateway: Gateway;

before(async () => {
  gateway = await Gateway.start();
});

after(() => gateway?.close());

/** So many tabs of one user, the last one in front; the first leads, and is in the background. */
async function tabsOf(t: TestContext, user: string, count: number): Promise<Tab[]> {
  const browser = await Tabs.launch();
  t.after(() => browser.close());
  const first = await browser.open(gateway.origin);
  const token = await gateway.token(user);
  const put = `localStorage.setItem("towncrier.token", ${JSON.stringify(token)}) ?? localStorage.length`;
  await until("the page is there", async () => (await first.read(put)) === 1);
  await first.call("Page.reload");
  await first.shows(LIVE);
  const tabs = [first];
  while (tabs.length < count) {
    const tab = await browser.open(gateway.origin);
    await tab.shows(LIVE);
    tabs.push(tab);
  }
  return tabs;
}

test("a frozen tab loses the lead, and follows when it wakes", async (t) => {
  const tabs = await tabsOf(t, "sleeper", 3);
  const [first, ...others] = tabs;
  await first?.freeze();
  await notify(gateway, "sleeper", "While frozen");
  for (const tab of others) await tab.shows("While frozen");
  await first?.wake();
  await first?.shows("While frozen");
  await notify(gateway, "sleeper", "Awake");
  for (const tab of tabs) {
    await tab.shows("Awake");
    await tab.shows(LIVE);
    const articles = "document.querySelectorAll('main article').length";
    assert.equal(await tab.read(articles), 2);
  }
  const { data } = await gateway.call("/user/get_online_users", { limit: 1000 });
  const users = data.users as { userID: string; sessions: unknown[] }[];
  assert.equal(users.find(({ userID }) => userID === "sleeper")?.sessions.length, 1);
});

test("a session that ended under a frozen tab comes back when its user says so in another", async (t) => {
  const [first, second] = await tabsOf(t, "returner", 2);
  const elsewhere = await device(gateway, "returner", WEB);
  for (const tab of [first, second]) await tab?.shows("Your inbox was opened elsewhere");
  await first?.freeze();
  await second?.click("Use it here");
  await second?.shows(LIVE);
  await first?.wake();
  await first?.shows(LIVE);
  await elsewhere.stop();
});

test("a sign-out does not wait for a frozen tab, and takes its messages along", async (t) => {
  const [first, second] = await tabsOf(t, "quitter", 2);
  await notify(gateway, "quitter", "Private");
  for (const tab of [first, second]) await tab?.shows("Private");
  await first?.freeze();
  await second?.click("Sign out");
  await second?.shows("Access token");
  await first?.wake();
  await first?.shows("Access token");
  const count = "indexedDB.databases().then(({ length }) => length)";
  await until("the database is gone", async () => (await second?.read(count)) === 0);
});
