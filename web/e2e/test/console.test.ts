// The console: what an administrator sends lands, and the page shows it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { ADMIN, Gateway } from "../../client/test/support/gateway.ts";
import { launch, Somebody } from "../support/browser.ts";

let browser: Browser;
let gateway: Gateway;

before(async () => {
  [browser, gateway] = await Promise.all([launch(), Gateway.start()]);
});

after(async () => {
  await browser?.close();
  await gateway?.close();
});

/** At the console, signed in. */
async function signIn(page: Page): Promise<void> {
  await page.getByLabel("Administrator's token").fill(await gateway.token(ADMIN));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Compose" }).waitFor();
}

test("only an administrator's token opens it, and it is kept as long as the tab", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console`);
  await page.getByLabel("Administrator's token").fill(await gateway.token("alice"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("not authorized").waitFor();
  await signIn(page);
  await page.reload();
  await page.getByRole("heading", { name: "Compose" }).waitFor();
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Administrator's token").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  // The refused call, as every browser reports it.
  await somebody.leave(/400 \(Bad Request\)/);
});

test("a double click sends one message", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/`);
  await signIn(page);
  await page.getByLabel("Receiver").fill("twice");
  await page.getByLabel("Title").fill("Once");
  await page.getByRole("textbox", { name: "Text" }).fill("only once");
  await page.getByRole("button", { name: "Send", exact: true }).dblclick();
  await page.getByText("Accepted and durable").waitFor();
  assert.equal(await page.locator(".traces > li").count(), 1);
  const { data } = await gateway.call("/msg/newest_seq", {
    sendID: "twice",
    reqIdentifier: 1001,
    msgIncr: 1,
  });
  assert.equal(data.maxSeq, 1);
  await somebody.leave();
});

test("what a message says stays text in the preview", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/`);
  await signIn(page);
  const hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>";
  await page.getByLabel("Sender's name").fill(hostile);
  await page.getByLabel("Title").fill(hostile);
  await page.getByRole("textbox", { name: "Text" }).fill(hostile);
  await page.getByLabel("Link").fill("javascript:alert(3)");
  const card = page.getByRole("article", { name: "Preview" });
  await card.getByText(hostile).first().waitFor();
  assert.equal(await card.locator("img, script, a").count(), 0);
  await page.getByLabel("Link").fill("https://oa.example/policy");
  assert.equal(await card.getByRole("link").getAttribute("href"), "https://oa.example/policy");
  await somebody.leave();
});

test("the gateway's health and its configuration are shown", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/`);
  await signIn(page);
  await page.getByRole("link", { name: "Health" }).click();
  await page.getByRole("img", { name: /^Memory: now [\d.]+ MiB/ }).waitFor();
  await page.getByText("30d").waitFor();
  await page.getByRole("link", { name: "Settings" }).click();
  await page.getByRole("heading", { name: "auth" }).waitFor();
  const text = (await page.locator("main").textContent()) ?? "";
  assert.ok(text.includes("********") && !text.includes("scenario-secret"), text);
  const link = await page.getByRole("link", { name: "/openapi.json" }).getAttribute("href");
  const description = await fetch(`${gateway.adminOrigin}${link}`);
  assert.equal(((await description.json()) as { openapi: string }).openapi, "3.1.0");
  await somebody.leave();
});
