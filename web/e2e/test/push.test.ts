// Notices while no page is open: asked for by a click and nothing else, shown by the service worker, ended by another click.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { Gateway } from "../../client/test/support/gateway.ts";
import { Somebody, until } from "../support/browser.ts";
import { isLive, notify, signIn } from "../support/inbox.ts";
import { PushService } from "../support/push.ts";
import { browser, gateway } from "../support/scene.ts";

/** Gives a page's push manager this subscription in place of one of Google's, which cannot be reached here. */
const stub = (subscription: object) => {
  const given = {
    toJSON: () => subscription,
    unsubscribe: async () => localStorage.removeItem("stub") === undefined,
  };
  const present = () => (localStorage.getItem("stub") ? given : null);
  Object.assign(PushManager.prototype, {
    getSubscription: async () => present(),
    subscribe: async (options: PushSubscriptionOptionsInit) => {
      localStorage.setItem("stub", String(options.applicationServerKey));
      return given;
    },
  });
};

/** Hands a push to the page's service worker, as the browser's own connection to its service does. */
async function deliver(page: Page, origin: string, data: string): Promise<void> {
  const devtools = await page.context().newCDPSession(page);
  const registered = new Promise<string>((resolve) => {
    devtools.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
      const [first] = registrations;
      if (first) resolve(first.registrationId);
    });
  });
  await devtools.send("ServiceWorker.enable");
  const registrationId = await registered;
  await devtools.send("ServiceWorker.deliverPushMessage", { origin, registrationId, data });
  await devtools.detach();
}

test("a message that no page has seen is shown by the browser after a click, and not after another one", async (t) => {
  const service = await PushService.start();
  t.after(() => service.close());
  const settings = ["push.webpush.subject=mailto:office@oa.example", "push.after=1s"];
  const pushing = await Gateway.start(...settings, `push.webpush.url=${service.origin}`);
  t.after(() => pushing.close());
  const somebody = await Somebody.with(browser, { permissions: ["notifications"] });
  await somebody.context.addInitScript(stub, service.subscription);
  const devices = async () => {
    const { data } = await pushing.call("/device/list", { userID: "away" });
    return JSON.stringify(data);
  };
  const page = await signIn(somebody, pushing, "away");
  await page.evaluate(() => navigator.serviceWorker.ready);
  assert.doesNotMatch(await devices(), /webpush/);
  await page.getByRole("button", { name: "Notify me" }).click();
  await page.getByRole("button", { name: "Stop notifying" }).waitFor();
  assert.match(await devices(), /webpush/);

  await page.goto("about:blank");
  const offlinePushInfo = {
    title: "Fire drill",
    desc: "At nine",
    ex: "",
    iOSPushSound: "",
    iOSBadgeCount: true,
  };
  const serverMsgID = await notify(pushing, "away", "Fire drill", { offlinePushInfo });
  const { headers, data } = await service.next();
  assert.equal(headers["content-encoding"], "aes128gcm");
  assert.equal(headers.topic, serverMsgID);

  await page.goto(pushing.origin);
  await isLive(page);
  await deliver(page, pushing.origin, data);
  const shown = () =>
    page.evaluate(async () => {
      const registration = await navigator.serviceWorker.ready;
      const notices = await registration.getNotifications();
      return notices.map(({ title, body, tag, data }) => ({ title, body, tag, data }));
    });
  await until("the notice is shown", async () => (await shown()).length > 0);
  const notice = { title: "Fire drill", body: "At nine", tag: serverMsgID, data: "#/notices" };
  assert.deepEqual(await shown(), [notice]);

  await page.getByRole("button", { name: "Stop notifying" }).click();
  await page.getByRole("button", { name: "Notify me" }).waitFor();
  assert.doesNotMatch(await devices(), /webpush/);
  await somebody.leave();
});

test("a gateway without Web Push offers no notices", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "plain");
  const [asked] = await Promise.all([page.waitForResponse(/\/devices$/), page.reload()]);
  assert.deepEqual(await asked.json(), { webpush_key: null });
  assert.equal(await page.getByRole("button", { name: "Notify me" }).count(), 0);
  await somebody.leave();
});
