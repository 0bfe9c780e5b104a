// The console: what an administrator sends lands, and the page shows it.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { ADMIN } from "../../client/test/support/gateway.ts";
import { status } from "../../client/test/support/waiting.ts";
import { Somebody } from "../support/browser.ts";
import { tooFaint } from "../support/contrast.ts";
import { device } from "../support/device.ts";
import { browser, gateway } from "../support/scene.ts";

/** Platforms by number. */
const [IOS, WEB] = [1, 5];

/** At the console, signed in. */
async function signIn(page: Page): Promise<void> {
  await page.getByLabel("Administrator's token").fill(await gateway.token(ADMIN));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation").waitFor();
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

/** Fills the form in for `receiver`. */
async function compose(page: Page, title: string, receiver: string): Promise<void> {
  await page.getByLabel("Receiver").fill(receiver);
  await page.getByLabel("Title").fill(title);
  await page.getByRole("textbox", { name: "Text" }).fill(`${title}: all of it`);
}

const send = (page: Page) => page.getByRole("button", { name: "Send", exact: true });

test("what is sent is followed until each device has acked it", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/`);
  await signIn(page);
  const phone = await device(gateway, "reader", IOS);
  await compose(page, "Policy", "reader");
  await send(page).click();
  const trace = page.locator(".traces > li", { hasText: "Policy" });
  await trace.locator('tr[data-state="acked"]', { hasText: "IOS" }).waitFor();
  // Another device, which was not there when it was sent.
  const browserOfTheirs = await device(gateway, "reader", WEB);
  await page.getByLabel("serverMsgID").fill((await trace.getAttribute("data-id")) ?? "");
  await page.getByRole("button", { name: "Trace" }).click();
  await trace.locator('tr[data-state="acked"]', { hasText: "Web" }).waitFor();
  assert.equal(await page.locator(".traces > li").count(), 1);
  await Promise.all([phone.stop(), browserOfTheirs.stop()]);
  await somebody.leave();
});

test("a batch and a broadcast reach everybody they should, and say whom they could not", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/`);
  page.on("dialog", (dialog) => dialog.accept());
  await signIn(page);
  const tooLong = "x".repeat(65);
  await page.getByText("Several").click();
  await page.getByLabel("Receivers").fill(`one, two\n${tooLong} one`);
  await page.getByLabel("Title").fill("Some");
  await page.getByRole("textbox", { name: "Text" }).fill("for some");
  await send(page).click();
  const batch = page.locator(".traces > li", { hasText: "Some" });
  await batch.getByText("for 2 receivers: 0 acked, 0 pushed, 2 waiting").waitFor();
  await batch.getByText(`No such receivers: ${tooLong}`).waitFor();
  await page.getByText("Everyone", { exact: true }).click();
  await page.getByLabel("Title").fill("Each");
  await send(page).click();
  const broadcast = page.locator(".traces > li", { hasText: "Each" });
  for (const user of ["one", "two"]) await broadcast.getByRole("cell", { name: user }).waitFor();
  await somebody.leave();
});

test("who is online is listed by platform and can be logged out", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/#online`);
  page.on("dialog", (dialog) => dialog.accept());
  const phone = await device(gateway, "leaver", IOS);
  await signIn(page);
  await page.getByLabel("Platform").selectOption("Android");
  await page.getByText("Nobody is online here.").waitFor();
  await page.getByLabel("Platform").selectOption("IOS");
  const row = page.getByRole("row", { name: "leaver" });
  const ended = status(phone, "ended");
  await row.getByRole("button", { name: "Log out" }).click();
  await page.getByText("leaver is logged out on IOS.").waitFor();
  assert.equal((await ended).reason, "logged_out");
  await row.waitFor({ state: "detached" });
  // What did not work is not said any more once it works again.
  const problem = page.getByText("The gateway does not answer");
  await page.route("**/get_online_users", (route) => route.abort());
  await problem.waitFor();
  await page.unroute("**/get_online_users");
  await problem.waitFor({ state: "detached" });
  await somebody.leave(/ERR_FAILED/);
});

test("a user's conversations are listed, with what is unread in each", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/#online`);
  await signIn(page);
  for (const sendID of ["payroll", "payroll", "canteen"]) await gateway.send({ recvID: "asked", sendID });
  await gateway.call("/conversation/mark_read", {
    userID: "asked",
    conversationID: "sn_asked_payroll",
    conversationSeq: 1,
  });
  const panel = page.getByRole("region", { name: "Conversations" });
  await panel.getByLabel("User").fill("asked");
  await panel.getByRole("button", { name: "Show" }).click();
  const rows = panel.getByRole("row").filter({ hasText: "sn_" });
  await rows.first().waitFor();
  const cells = (row: number) => rows.nth(row).getByRole("cell").allTextContents();
  assert.deepEqual(
    (await cells(0)).map((text) => text.split(" ")[0]),
    ["sn_asked_canteen", "1", "0", "1"],
  );
  assert.deepEqual(
    (await cells(1)).map((text) => text.split(" ")[0]),
    ["sn_asked_payroll", "2", "1", "1"],
  );
  assert.equal(await panel.getByRole("button", { name: "More" }).count(), 0);
  await panel.getByLabel("User").fill("nobody-ever");
  await panel.getByRole("button", { name: "Show" }).click();
  await panel.getByText("nobody-ever has no messages.").waitFor();
  await somebody.leave();
});

test("every text can be read, by day and by night", async () => {
  for (const colorScheme of ["light", "dark"] as const) {
    const somebody = await Somebody.with(browser, { colorScheme });
    const page = await somebody.open(`${gateway.adminOrigin}/console/`);
    assert.deepEqual(await tooFaint(page), [], `${colorScheme}: sign-in`);
    await signIn(page);
    await compose(page, "Contrast", "nobody");
    await send(page).click();
    await page.getByText("waits for a first device").first().waitFor();
    assert.deepEqual(await tooFaint(page), [], `${colorScheme}: send`);
    const views = { Online: "sessions in all", Health: "Kept for", Settings: "token_key_previous" };
    for (const [view, sign] of Object.entries(views)) {
      await page.getByRole("link", { name: view }).click();
      await page.getByText(sign).waitFor();
      assert.deepEqual(await tooFaint(page), [], `${colorScheme}: ${view}`);
    }
    await somebody.leave();
  }
});

test("a double click sends one message, however soon the first one is answered", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/`);
  await signIn(page);
  await compose(page, "Once", "twice");
  await send(page).dblclick();
  await page.getByText("Accepted and durable").waitFor();
  // It is marked as of no use, which is not waited for.
  await send(page).click({ force: true });
  assert.equal(await page.locator(".traces > li").count(), 1);
  await compose(page, "Another", "twice");
  await send(page).click();
  await page.locator(".traces > li", { hasText: "Another" }).waitFor();
  await page.getByRole("button", { name: "The same again" }).click();
  await send(page).click();
  await page.locator(".traces > li", { hasText: "Another" }).nth(1).waitFor();
  const { data } = await gateway.call("/msg/newest_seq", {
    sendID: "twice",
    reqIdentifier: 1001,
    msgIncr: 1,
  });
  assert.equal(data.maxSeq, 3);
  await somebody.leave();
});

test("what is wrong with a token is said, before and after it was good", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.adminOrigin}/console/#toString`);
  const field = page.getByLabel("Administrator's token");
  await field.fill("令牌");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This is not a token.").waitFor();
  const token = await gateway.token(ADMIN, WEB);
  // As a terminal breaks it.
  await field.fill(`${token.slice(0, 40)}\n${token.slice(40)}\n`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Compose" }).waitFor();
  await gateway.call("/auth/force_logout", { platform: WEB, fromUserID: ADMIN });
  await page.getByRole("link", { name: "Online" }).click();
  await page.getByText("The gateway does not accept this token").waitFor();
  await somebody.leave(/400 \(Bad Request\)/);
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
  const description = await fetch(link ?? "");
  assert.equal(((await description.json()) as { openapi: string }).openapi, "3.1.0");
  await somebody.leave();
});
