// A sign-on in front of the gateway, as proxies and networks have it: once it has expired, the browser gets to its form, and
// nothing that landed is lost on the way.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Page } from "playwright-core";
import { ADMIN } from "../../client/test/support/gateway.ts";
import { Somebody, until } from "../support/browser.ts";
import { Front, type Refusal } from "../support/front.ts";
import { cards, isLive, landed, notify, signIn } from "../support/inbox.ts";
import { browser, gateway } from "../support/scene.ts";

const FORM = "<!doctype html><title>Sign-on</title><p>Please sign on";
const SIGN_ON = "/sign-on";
/** Refusals, and handshakes that fail of them, as the browser reports them. */
const REFUSED = /status of \d{3}|WebSocket connection|ERR_/;

/** Live behind a proxy, with one message, and a service worker that keeps the page. */
async function behindFront(t: TestContext, user: string) {
  const front = await Front.start(gateway.origin);
  t.after(() => front.close());
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, { origin: front.home(), token: () => gateway.token(user) }, user);
  await notify(gateway, user, "Before");
  await cards(page, "Before").waitFor();
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await isLive(page);
  return { front, somebody, page };
}

/** From now on every request is answered like this, and what was connected is cut. */
function expire(front: Front, refusal: Refusal): void {
  front.refuse = (path) => (path.startsWith(SIGN_ON) ? { status: 200, body: FORM } : refusal);
  front.cut();
}

const form = (page: Page) => page.getByText("Please sign on");

const WAYS: [string, Refusal][] = [
  ["a redirect to a path of the same origin", { status: 302, headers: { location: SIGN_ON } }],
  ["a redirect that keeps the method", { status: 307, headers: { location: SIGN_ON } }],
  ["a 401 with the form", { status: 401, body: FORM }],
  ["a 403 with the form", { status: 403, body: FORM }],
  ["a network that wants to be signed on to", { status: 511, body: FORM }],
  ["a foreign page in place of this one", { status: 200, body: FORM }],
];

for (const [index, [way, refusal]] of WAYS.entries()) {
  test(`the browser gets to the sign-on, and back: ${way}`, async (t) => {
    const user = `guest${index}`;
    const { front, somebody, page } = await behindFront(t, user);
    expire(front, refusal);
    // The open page stays, says so, and leads there.
    await cards(page, "Before").waitFor();
    await page.getByRole("button", { name: "Sign on" }).click();
    await form(page).waitFor();
    // So does the page's address, opened anew.
    await page.goto("about:blank");
    await page.goto(front.home());
    await form(page).waitFor();
    front.refuse = () => undefined;
    await notify(gateway, user, "After");
    await page.goto(`${front.home()}?code=1#/notices`);
    await isLive(page);
    await cards(page, "After").waitFor();
    assert.deepEqual(await landed(page, user), ["Before", "After"]);
    // What was read before stays read.
    assert.equal(await cards(page, "Before").getByText("New", { exact: true }).count(), 0);
    await somebody.leave(REFUSED);
  });
}

test("the browser gets to a sign-on of another origin", async (t) => {
  const { front, somebody, page } = await behindFront(t, "stranger");
  const provider = await Front.start(gateway.origin);
  t.after(() => provider.close());
  provider.refuse = () => ({ status: 200, body: FORM });
  expire(front, { status: 302, headers: { location: `${provider.home()}sign-on` } });
  await page.getByRole("button", { name: "Sign on" }).click();
  await form(page).waitFor();
  assert.equal(new URL(page.url()).origin, new URL(provider.home()).origin);
  await somebody.leave(REFUSED);
});

test("a sign-on that is renewed elsewhere is enough for the open page", async (t) => {
  const { front, somebody, page } = await behindFront(t, "renewed");
  expire(front, { status: 401, body: FORM });
  await page.getByRole("button", { name: "Sign on" }).waitFor();
  front.refuse = () => undefined;
  await isLive(page);
  await page.getByRole("button", { name: "Sign on" }).waitFor({ state: "detached" });
  await somebody.leave(REFUSED);
});

for (const status of [404, 429, 502, 503]) {
  test(`a proxy that answers ${status} sends nobody away`, async (t) => {
    const { front, somebody, page } = await behindFront(t, `patient${status}`);
    let asked = 0;
    front.refuse = (path) => {
      if (path === "/") asked += 1;
      return { status, body: "<p>Out of order" };
    };
    front.cut();
    await until("the page has looked for a sign-on twice", async () => asked >= 2);
    await page.getByText("No connection to the gateway.").waitFor();
    await page.goto("about:blank");
    await page.goto(front.home());
    await cards(page, "Before").waitFor();
    front.refuse = () => undefined;
    await isLive(page);
    await somebody.leave(REFUSED);
  });
}

test("a form that comes in place of a part of the page is not kept", async (t) => {
  const { front, somebody, page } = await behindFront(t, "unlucky");
  const html = await (await fetch(front.home())).text();
  // The sign-on expires between the page of the next release and its script.
  const next = html.replace(/app\.js\?[0-9a-f]+/, "app.js?0123456789abcdef");
  front.refuse = (path) => {
    if (path === "/") return { status: 200, body: next };
    return path.startsWith("/app.js") ? { status: 200, body: FORM } : undefined;
  };
  await page.reload();
  await isLive(page);
  const kept = await page.evaluate(async () =>
    (await (await caches.open("page")).keys()).map(({ url }) => new URL(url).search),
  );
  assert.ok(!kept.includes("?0123456789abcdef"), `${kept}`);
  await somebody.leave(REFUSED);
});

test("the console says that a sign-on is wanted, and keeps what was written", async (t) => {
  const front = await Front.start(gateway.adminOrigin);
  t.after(() => front.close());
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${front.home()}console/`);
  await page.getByLabel("Administrator's token").fill(await gateway.token(ADMIN));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByLabel("Receiver").fill("nobody");
  await page.getByLabel("Title").fill("Draft");
  await page.getByRole("textbox", { name: "Text" }).fill("all of it");
  const send = page.getByRole("button", { name: "Send", exact: true });
  for (const refusal of [
    { status: 302, headers: { location: SIGN_ON } },
    { status: 401, body: FORM },
  ]) {
    expire(front, refusal);
    await send.click();
    await page.getByText("asks you to sign on again").waitFor();
    front.refuse = () => ({ status: 502, body: "<p>Out of order" });
    await send.click();
    await page.getByText("The gateway does not answer.").waitFor();
  }
  front.refuse = () => undefined;
  await send.click();
  await page.locator(".traces > li", { hasText: "Draft" }).waitFor();
  await somebody.leave(REFUSED);
});
