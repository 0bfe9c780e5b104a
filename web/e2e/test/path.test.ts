// A gateway under a path of a host that has others: behind a proxy that takes the path off.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ADMIN, Gateway } from "../../client/test/support/gateway.ts";
import { Somebody, until } from "../support/browser.ts";
import { Front } from "../support/front.ts";
import { cards, GONE, isLive, notify, signIn } from "../support/inbox.ts";
import { browser, gateway } from "../support/scene.ts";

async function frontOf(t: TestContext, behind: Record<string, string>): Promise<Front> {
  const front = await Front.start(behind);
  t.after(() => front.close());
  return front;
}

test("the inbox lives at a path of its own, and opens there without a network", async (t) => {
  const front = await frontOf(t, { "/oa/notices/": gateway.origin });
  const somebody = await Somebody.with(browser);
  const token = () => gateway.token("local");
  const page = await signIn(somebody, { origin: front.home(), token }, "local");
  await notify(gateway, "local", "There");
  await cards(page, "There").waitFor();
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await isLive(page);
  await somebody.context.setOffline(true);
  await page.reload();
  await cards(page, "There").waitFor();
  await somebody.context.setOffline(false);
  await isLive(page);
  assert.deepEqual(front.strays, []);
  await somebody.leave(GONE);
});

test("two inboxes on one host have nothing in common", async (t) => {
  const other = await Gateway.start();
  t.after(() => other.close());
  const front = await frontOf(t, { "/notices/": other.origin, "/": gateway.origin });
  const somebody = await Somebody.with(browser);
  const [atRoot, atPath] = [front.home("/"), front.home("/notices/")];
  await notify(gateway, "twice", "Of the first");
  await notify(other, "twice", "Of the second");
  const second = await signIn(somebody, { origin: atPath, token: () => other.token("twice") }, "twice");
  const first = await signIn(somebody, { origin: atRoot, token: () => gateway.token("twice") }, "twice");
  await cards(first, "Of the first").waitFor();
  await cards(second, "Of the second").waitFor();
  for (const page of [first, second]) {
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.reload();
    await isLive(page);
    assert.equal(await page.getByRole("main").getByRole("article").count(), 1);
  }
  await second.getByRole("button", { name: "Sign out" }).click();
  await second.getByLabel("Access token").waitFor();
  await until("the second one's database is removed", () =>
    second.evaluate(async () => (await indexedDB.databases()).length === 1),
  );
  await somebody.context.setOffline(true);
  for (const page of [first, second]) await page.reload();
  await cards(first, "Of the first").waitFor();
  await second.getByLabel("Access token").waitFor();
  await somebody.leave(GONE);
});

test("a portal on the host may leave the token, and who signs out stays so", async (t) => {
  const front = await frontOf(t, { "/notices/": gateway.origin });
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(front.home());
  await page.getByLabel("Access token").waitFor();
  const token = await gateway.token("portal");
  await page.evaluate((token) => localStorage.setItem("towncrier.token", token), token);
  await page.reload();
  await isLive(page);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Access token").waitFor();
  await page.reload();
  await page.getByLabel("Access token").waitFor();
  assert.equal(await page.evaluate(() => localStorage.getItem("towncrier.token")), token);
  await somebody.leave();
});

test("the console finds the API beside itself", async (t) => {
  const front = await frontOf(t, { "/gateway/admin/": gateway.adminOrigin });
  const somebody = await Somebody.with(browser);
  // Without the slash, as people type it.
  const page = await somebody.open(`${front.home()}console`);
  await page.getByLabel("Administrator's token").fill(await gateway.token(ADMIN));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByLabel("Receiver").fill("nobody");
  await page.getByLabel("Title").fill("There");
  await page.getByRole("textbox", { name: "Text" }).fill("all of it");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await page.locator(".traces > li", { hasText: "There" }).waitFor();
  await page.getByRole("link", { name: "Health" }).click();
  await page.getByRole("img", { name: /^Memory: now [\d.]+ MiB/ }).waitFor();
  await page.getByRole("link", { name: "Settings" }).click();
  const link = await page.getByRole("link", { name: "/openapi.json" }).getAttribute("href");
  assert.equal(link, `${front.home()}openapi.json`);
  assert.deepEqual(front.strays, []);
  await somebody.leave();
});
