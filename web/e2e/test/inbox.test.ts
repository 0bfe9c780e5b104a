// The scene: the office sends, the employee sees it arrive, opens it, reads it, follows its link; and all that may come
// between.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Gateway } from "../../client/test/support/gateway.ts";
import { Somebody, until } from "../support/browser.ts";
import { tooFaint } from "../support/contrast.ts";
import { device, guess } from "../support/device.ts";
import { cards, GONE, isLive, landed, notify, sessions, signIn } from "../support/inbox.ts";
import { browser, gateway } from "../support/scene.ts";

const IOS = 1;

/** A gateway for one test, which kills it. */
async function gatewayOf(t: TestContext, ...settings: string[]): Promise<Gateway> {
  const own = await Gateway.start(...settings);
  t.after(() => own.close());
  return own;
}

test("a notice arrives live, opens in full, and its link is followed", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "employee");
  await page.getByText("What is sent to you appears here").waitFor();
  const link = `${gateway.adminOrigin}/healthz`;
  const id = await notify(gateway, "employee", "New leave policy", { content: { externalUrl: link } });
  const card = cards(page, "New leave policy");
  await card.getByText("人力资源部").waitFor();
  await until(
    "the gateway hears of it",
    async () => (await sessions(gateway, id, "employee"))[0] === "Web acked",
  );
  await card.getByRole("link", { name: "人力资源部" }).click();
  const details = page.getByRole("complementary", { name: "Details" });
  await details.getByText("New leave policy: all of it").waitFor();
  const [opened] = await Promise.all([
    somebody.context.waitForEvent("page"),
    details.getByRole("link", { name: "Open link" }).click(),
  ]);
  await opened.waitForURL(link);
  assert.equal(await opened.evaluate(() => window.opener), null);
  // healthz has no icon, which the browser asks for.
  await somebody.leave(/404/);
});

test("a reload shows each message exactly once", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "reloader");
  await notify(gateway, "reloader", "First");
  await cards(page, "First").waitFor();
  await page.reload();
  await isLive(page);
  await notify(gateway, "reloader", "Second");
  await cards(page, "Second").waitFor();
  await page.reload();
  await isLive(page);
  await cards(page, "First").waitFor();
  assert.deepEqual(await landed(page, "reloader"), ["First", "Second"]);
  assert.equal(await page.getByRole("main").getByRole("article").count(), 2);
  await somebody.leave();
});

test("notices of many senders are one conversation, chats are their own, unread are counted", async () => {
  const somebody = await Somebody.with(browser, { viewport: { width: 390, height: 844 } });
  const page = await signIn(somebody, gateway, "counter");
  await notify(gateway, "counter", "One", { senderNickname: "Payroll" });
  await notify(gateway, "counter", "Two", { senderNickname: "Canteen" });
  const chat = { sessionType: 1, contentType: 101, sendID: "bob", senderNickname: "Bob" };
  await notify(gateway, "counter", "", { ...chat, content: { text: "Lunch?" } });
  const list = page.getByRole("navigation", { name: "Conversations" });
  const notices = list.getByRole("link", { name: /^Notifications/ });
  await notices.getByLabel("2 unread").waitFor();
  await list
    .getByRole("link", { name: /Bob.*Lunch\?/ })
    .getByLabel("1 unread")
    .waitFor();
  assert.equal(await list.getByRole("link").count(), 2);
  await notices.click();
  await cards(page, "Payroll").waitFor();
  await cards(page, "Canteen").waitFor();
  await page.getByRole("button", { name: "Back" }).click();
  await notices.getByLabel("2 unread").waitFor({ state: "detached" });
  await somebody.leave();
});

test("the gateway dies and comes back: the page says so, keeps what landed, and the rest follows", async (t) => {
  const own = await gatewayOf(t);
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, own, "patient");
  await notify(own, "patient", "Before");
  await cards(page, "Before").waitFor();
  await own.kill();
  await page.getByRole("status").filter({ hasText: "No connection to the gateway" }).waitFor();
  await cards(page, "Before").waitFor();
  await own.restart();
  await notify(own, "patient", "After");
  await cards(page, "After").waitFor();
  await isLive(page);
  assert.deepEqual(await landed(page, "patient"), ["Before", "After"]);
  await somebody.leave(GONE);
});

test("the page opens without a network and shows what has landed", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "traveller");
  await notify(gateway, "traveller", "Packed");
  await cards(page, "Packed").waitFor();
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await isLive(page);
  await somebody.context.setOffline(true);
  await page.reload();
  await cards(page, "Packed").waitFor();
  await page.getByText("You are offline.").waitFor();
  await somebody.context.setOffline(false);
  await isLive(page);
  await somebody.leave(GONE);
});

test("two tabs share one session, and the other goes on when one is closed", async () => {
  const somebody = await Somebody.with(browser);
  const first = await signIn(somebody, gateway, "tabbed");
  const second = await somebody.open(gateway.origin);
  await isLive(second);
  await notify(gateway, "tabbed", "Both");
  for (const page of [first, second]) await cards(page, "Both").waitFor();
  const { data } = await gateway.call("/user/get_online_users", { limit: 1000 });
  const users = data.users as { userID: string; sessions: unknown[] }[];
  assert.equal(users.find(({ userID }) => userID === "tabbed")?.sessions.length, 1);
  await first.close();
  await notify(gateway, "tabbed", "The other");
  await cards(second, "The other").waitFor();
  assert.deepEqual(await landed(second, "tabbed"), ["Both", "The other"]);
  await somebody.leave();
});

/** More than this follow one another only where the heartbeat goes on. */
const PINGS = 8;

test("a hidden page, whose timers hardly run, keeps its connection", async (t) => {
  const own = await gatewayOf(t, "sessions.heartbeat=500ms");
  const somebody = await Somebody.with(browser);
  // As Chrome does to a page that has been hidden for five minutes.
  await somebody.context.addInitScript(() => {
    const { setTimeout } = globalThis;
    const later = (work: () => void, ms = 0) => setTimeout(work, ms < 100 ? ms : 60_000);
    globalThis.setTimeout = later as typeof globalThis.setTimeout;
  });
  let [sent, ended] = [0, 0];
  somebody.context.on("page", (page) =>
    page.on("websocket", (socket) => {
      socket.on("framesent", () => (sent += 1));
      socket.on("close", () => (ended += 1));
    }),
  );
  await signIn(somebody, own, "hidden");
  await until("pings", async () => sent > PINGS);
  assert.equal(ended, 0);
  await somebody.leave();
});

test("two devices of one user get everything, each for itself", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "twofold");
  const phone = await device(gateway, "twofold", IOS);
  const id = await notify(gateway, "twofold", "For both");
  await cards(page, "For both").waitFor();
  await until("both have acked", async () => {
    const states = await sessions(gateway, id, "twofold");
    return states.join() === "IOS acked,Web acked";
  });
  await phone.stop();
  await somebody.leave();
});

test("a newer login takes the place, and the older page can take it back", async () => {
  const [here, there] = [await Somebody.with(browser), await Somebody.with(browser)];
  const older = await signIn(here, gateway, "mover");
  const newer = await signIn(there, gateway, "mover");
  await older.getByText("Your inbox was opened elsewhere").waitFor();
  await notify(gateway, "mover", "There");
  await cards(newer, "There").waitFor();
  await older.getByRole("button", { name: "Use it here" }).click();
  await cards(older, "There").waitFor();
  await newer.getByText("Your inbox was opened elsewhere").waitFor();
  for (const [page, somebody] of [
    [older, here],
    [newer, there],
  ] as const) {
    assert.deepEqual(await landed(page, "mover"), ["There"]);
    await somebody.leave();
  }
});

test("an administrator's logout ends the page's session", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "fired");
  await gateway.call("/auth/force_logout", { platform: 5, fromUserID: "fired" });
  await page.getByText("An administrator signed you out.").waitFor();
  await page.getByRole("button", { name: "Sign in again" }).click();
  await page.getByLabel("Access token").waitFor();
  assert.equal(await page.evaluate(() => localStorage.getItem("towncrier.token")), null);
  await somebody.leave();
});

/** Messages of 20 KB, of which the log keeps some six. */
const LARGE = 24;

test("what retention removed before it came is said to be missing", async (t) => {
  const own = await gatewayOf(t, "log.segment_bytes=65536", "log.retention_bytes=131072");
  // Nothing is opened before it is counted: a mark has a number as well.
  const somebody = await Somebody.with(browser, { viewport: { width: 390, height: 844 } });
  const page = await signIn(somebody, own, "late");
  await notify(own, "late", "Seen");
  await page.getByText("Seen: all of it").waitFor();
  await page.close();
  for (let count = 0; count < LARGE; count++)
    await notify(own, "late", `Large ${count}`, { content: { ex: "x".repeat(20_000) } });
  await until("retention", async () => {
    const { data } = await own.call("/msg/newest_seq", { sendID: "late", reqIdentifier: 1001, msgIncr: 1 });
    return Number(data.minSeq) > 2;
  });
  const again = await somebody.open(own.origin);
  await isLive(again);
  await again.getByText(`Large ${LARGE - 1}: all of it`).waitFor();
  // Retention may still go on: where it stands is what the page was told. Everything is there or said to be missing, once.
  const [seen, gap = "", ...rest] = await landed(again, "late");
  assert.equal(seen, "Seen");
  let next = 2;
  for (const entry of [gap, ...rest]) {
    const [from, to] = entry.startsWith("Large ")
      ? [Number(entry.slice(6)) + 2]
      : entry.split("-").map(Number);
    assert.equal(from, next, `${entry} follows on ${next - 1}`);
    next = (to ?? next) + 1;
  }
  assert.equal(next, LARGE + 2);
  await again.getByRole("navigation").getByRole("link").click();
  const [from, to] = gap.split("-");
  const sentence = from === to ? `Message ${from} is missing` : `Messages ${from} to ${to} are missing`;
  // Only what is in view exists, and it stands below all that is newer.
  await until("the gap in the list", async () => {
    await again.evaluate(() => {
      for (const list of document.querySelectorAll(".scroller")) list.scrollTop = list.scrollHeight;
    });
    return again.getByRole("main").getByText(sentence).isVisible();
  });
  await somebody.leave();
});

test("what a message says is never run, whatever it says", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "target");
  const hostile = `<img src=x onerror="document.title='run'"><script>document.title='run'</script>`;
  await notify(gateway, "target", hostile, {
    senderNickname: hostile,
    senderFaceURL: "javascript:document.title='run'",
    content: {
      text: `${hostile} javascript:alert(1) data:text/html,<script>1</script>`,
      externalUrl: "javascript:document.title='run'",
      mixType: 3,
      fileElem: { sourceUrl: "javascript:document.title='run'", fileName: hostile },
    },
  });
  const card = cards(page, "onerror").first();
  await card.getByText(hostile).first().waitFor();
  await card.getByRole("link").first().click();
  await page.getByRole("complementary", { name: "Details" }).getByText(hostile).first().waitFor();
  const addresses = await page
    .locator("a, img, iframe, video, audio, source")
    .evaluateAll((elements) =>
      elements.map((element) => element.getAttribute("href") ?? element.getAttribute("src") ?? ""),
    );
  assert.deepEqual(
    addresses.filter((address) => !/^(#\/|icon\.svg$|https?:)/.test(address)),
    [],
  );
  assert.equal(await page.locator("script").count(), 1);
  assert.doesNotMatch(await page.title(), /run/);
  await somebody.leave();
});

test("a message of any size and sign keeps to its place, and holds nothing up", async () => {
  const somebody = await Somebody.with(browser, { viewport: { width: 390, height: 844 } });
  const long = "长 word ".repeat(1500);
  const stacked = `Zalgo${"\u0335\u030d".repeat(400)}`;
  const nickname = { senderNickname: `\u202e${long.slice(0, 2000)}` };
  await notify(gateway, "flooded", long, {
    ...nickname,
    content: { text: `https://a.example/${".".repeat(20_000)}x` },
  });
  await notify(gateway, "flooded", stacked, { content: { text: stacked } });
  const host = `oa.example.${"a.".repeat(60)}evil.example`;
  await notify(gateway, "flooded", "Link", { content: { externalUrl: `https://${host}/` } });
  const quote = {
    text: long,
    quoteMessage: { senderNickname: "Q", content: JSON.stringify({ text: long }) },
  };
  await notify(gateway, "flooded", "Quote", { contentType: 114, content: quote });
  await notify(gateway, "flooded", "Chat", {
    contentType: 107,
    content: { abstractList: [long, long, long] },
  });
  const deep = { data: `${"[".repeat(5_000)}${"]".repeat(5_000)}`, description: "Deep" };
  await notify(gateway, "flooded", "Data", { contentType: 110, content: deep });
  await notify(gateway, "flooded", "Sizes", {
    senderNickname: "\u200b\u3164",
    content: {
      mixType: 3,
      fileElem: { fileName: "policy\u202efdp.exe", sourceUrl: "https://a.example/p", fileSize: 1e300 },
    },
  });
  const page = await signIn(somebody, gateway, "flooded");
  await page.getByRole("navigation").getByRole("link").click();
  // Who has no name that can be seen goes by the id.
  await cards(page, "Sizes").getByText("openIM123456").waitFor();
  await cards(page, "Sizes").getByText("policyfdp.exe").waitFor();
  const link = cards(page, "Link").getByRole("link", { name: "Open link" });
  // One line, and of the host its end, which says whose it is.
  const [line, outer, inner] = [link, link.locator(".host"), link.getByText(host)];
  const [whole, box, end] = [await line.boundingBox(), await outer.boundingBox(), await inner.boundingBox()];
  assert.ok((whole?.height ?? 99) < 40, `${whole?.height}`);
  const right = (rectangle: typeof box) => (rectangle ? rectangle.x + rectangle.width : Number.NaN);
  assert.ok(right(end) <= right(box) + 1, `${right(end)} ${right(box)}`);
  await cards(page, "Deep").waitFor();
  const heights = await page
    .getByRole("main")
    .getByRole("article")
    .evaluateAll((cards) => {
      const overflowing = cards.filter((card) => getComputedStyle(card).overflow !== "clip");
      return overflowing.length > 0 ? [Number.NaN] : cards.map((card) => card.clientHeight);
    });
  assert.ok(
    heights.every((height) => height < 500),
    `${heights}`,
  );
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
  await cards(page, "Deep").getByRole("link").first().click();
  const data = await page.getByRole("complementary").locator(".data").textContent();
  assert.ok((data?.length ?? 0) <= 10_000, `${data?.length}`);
  await somebody.leave();
});

test("what was withdrawn cannot be read any more, on its card or in full", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "informed");
  await notify(gateway, "informed", "Mistake", { clientMsgID: "mistake" });
  await cards(page, "Mistake").getByRole("link").first().click();
  const details = page.getByRole("complementary", { name: "Details" });
  await details.getByText("Mistake: all of it").waitFor();
  await notify(gateway, "informed", "", { contentType: 111, content: { revokeMsgClientID: "mistake" } });
  const sentence = "This message was withdrawn";
  for (const isAgain of [false, true]) {
    if (isAgain) await page.reload();
    for (const shown of [details, page.getByRole("main")]) await shown.getByText(sentence).waitFor();
    // The list of conversations follows in a moment.
    await page.getByText("Mistake: all of it").first().waitFor({ state: "detached" });
  }
  await somebody.leave();
});

test("the page's own way back is the browser's", async () => {
  const somebody = await Somebody.with(browser, { viewport: { width: 390, height: 844 } });
  await notify(gateway, "walker", "There");
  const page = await signIn(somebody, gateway, "walker");
  const steps = () => page.evaluate(() => navigation.currentEntry?.index);
  const [first, notices] = [await steps(), page.getByRole("navigation").getByRole("link")];
  await notices.click();
  await cards(page, "There").getByRole("link").first().click();
  await page.getByRole("complementary").getByText("There: all of it").waitFor();
  await page.getByRole("button", { name: "Back" }).click();
  await cards(page, "There").waitFor();
  await page.getByRole("button", { name: "Back" }).dblclick();
  await notices.waitFor();
  assert.equal(await steps(), first);
  // Who came by the address of a message goes up from it all the same.
  await page.goto(`${gateway.origin}/#/notices/1`);
  await page.getByRole("complementary").getByText("There: all of it").waitFor();
  await page.getByRole("button", { name: "Back" }).click();
  await cards(page, "There").waitFor();
  await somebody.leave();
});

test("an address that leads nowhere shows the list", async () => {
  const somebody = await Somebody.with(browser, { viewport: { width: 390, height: 844 } });
  const page = await signIn(somebody, gateway, "lost");
  const list = page.getByRole("navigation", { name: "Conversations" });
  // A message of somebody who was signed in before, and what nobody encoded.
  for (const hash of ["#/si_a_b/3", "#/%E0%A4%A/1", "#/notices/1e999"]) {
    await page.goto(`${gateway.origin}/${hash}`);
    await page.reload();
    await list.or(page.getByRole("main").getByText("Nothing here yet")).first().waitFor();
  }
  await somebody.leave();
});

test("after a token was refused another one goes on where the first one was", async (t) => {
  const own = await gatewayOf(t);
  const somebody = await Somebody.with(browser);
  const [page, other] = [await signIn(somebody, own, "renewer"), await somebody.open(own.origin)];
  await isLive(other);
  await notify(own, "renewer", "Before");
  await cards(page, "Before").waitFor();
  await own.kill();
  // As an expired token is, none of before is good any more.
  await own.restart("auth.token_key=another-key-of-at-least-32-bytes-length");
  own.forgetTokens();
  await notify(own, "renewer", "After");
  await page.getByText("The gateway does not accept this sign-in").waitFor();
  await page.getByRole("button", { name: "Sign in again" }).click();
  await page.getByText("Sign in as renewer to go on.").waitFor();
  await page.getByLabel("Access token").fill(await own.token("renewer"));
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  for (const tab of [page, other]) {
    await isLive(tab);
    await cards(tab, "After").waitFor();
  }
  assert.deepEqual(await landed(page, "renewer"), ["Before", "After"]);
  // What was read before stays read.
  await cards(page, "After").getByText("New", { exact: true }).waitFor({ state: "attached" });
  assert.equal(await cards(page, "Before").getByText("New", { exact: true }).count(), 0);
  await somebody.leave(GONE);
});

test("signing in as somebody else leaves nothing of the one before", async (t) => {
  const own = await gatewayOf(t);
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, own, "leaver");
  await notify(own, "leaver", "Private");
  await cards(page, "Private").waitFor();
  await page.getByText("1 unread").waitFor({ state: "detached" });
  await own.kill();
  await own.restart("auth.token_key=another-key-of-at-least-32-bytes-length");
  await page.getByRole("button", { name: "Sign in again" }).click();
  await page.getByLabel("Access token").fill(await own.token("comer"));
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await isLive(page);
  await until("the database of the one before is removed", async () => {
    const databases = await page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name));
    return databases.join() === "towncrier/comer/Web";
  });
  const names = await page.evaluate(() => Object.keys(localStorage));
  assert.deepEqual(
    names.filter((name) => name.includes("leaver")),
    [],
  );
  await somebody.leave(GONE);
});

test("what is unread is forgotten with the sign-in, on the tab as well", async () => {
  const somebody = await Somebody.with(browser, { viewport: { width: 390, height: 844 } });
  await notify(gateway, "goer", "Unread");
  const page = await signIn(somebody, gateway, "goer");
  await page.getByLabel("1 unread").waitFor();
  assert.equal(await page.title(), "(1) Inbox · Towncrier");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Access token").waitFor();
  assert.equal(await page.title(), "Inbox · Towncrier");
  await somebody.leave();
});

test("a browser that keeps nothing is told so, and one that is full goes on when there is room", async () => {
  const denied = await Somebody.with(browser);
  // As Chromium does where a user blocks all of a site's data.
  await denied.context.addInitScript(() => {
    const refuse = () => {
      throw new DOMException("Access is denied for this document.", "SecurityError");
    };
    Object.defineProperty(window, "localStorage", { get: refuse });
    IDBFactory.prototype.open = refuse;
  });
  const page = await denied.open(gateway.origin);
  await page.getByLabel("Access token").fill(await gateway.token("denied"));
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByText("This browser cannot keep messages: Access is denied").waitFor();
  await page.getByRole("button", { name: "Try again" }).waitFor();
  await denied.leave();

  const full = await Somebody.with(browser);
  const inbox = await signIn(full, gateway, "full");
  await inbox.evaluate(() => {
    const { add } = IDBObjectStore.prototype;
    const { setItem } = Storage.prototype;
    const full = () => {
      throw new DOMException("The quota has been exceeded.", "QuotaExceededError");
    };
    IDBObjectStore.prototype.add = full;
    Storage.prototype.setItem = full;
    addEventListener("there-is-room", () => {
      IDBObjectStore.prototype.add = add;
      Storage.prototype.setItem = setItem;
    });
  });
  await notify(gateway, "full", "Too much");
  await inbox.getByText("This browser cannot keep messages").waitFor();
  await inbox.evaluate(() => dispatchEvent(new Event("there-is-room")));
  await cards(inbox, "Too much").waitFor();
  await isLive(inbox);
  assert.deepEqual(await landed(inbox, "full"), ["Too much"]);
  await full.leave();
});

test("what is not the page's own address is left alone", async () => {
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, gateway, "neighbour");
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await isLive(page);
  assert.notEqual(await page.evaluate(() => navigator.serviceWorker.controller), null);
  await page.goto(`${gateway.origin}/ws`);
  await page.getByText("this is a WebSocket endpoint").waitFor();
  // That is no page, and has no icon, which the browser asks for.
  await somebody.leave(/404|426/);
});

test("the page opens while the gateway is silent, or refuses", async (t) => {
  const own = await gatewayOf(t, "listener.bad_tokens_per_minute_max=1");
  const somebody = await Somebody.with(browser);
  const page = await signIn(somebody, own, "waiter");
  await notify(own, "waiter", "Kept");
  await cards(page, "Kept").waitFor();
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await isLive(page);
  own.freeze();
  await page.reload();
  await cards(page, "Kept").waitFor();
  own.thaw();
  await isLive(page);
  const tooMany = async () => {
    await guess(own);
    return (await fetch(own.origin)).status === 429;
  };
  await until("the gateway refuses this address", tooMany);
  await page.reload();
  await cards(page, "Kept").waitFor();
  await somebody.leave(/429|WebSocket connection/);
});

test("all of it can be done with the keyboard alone", async () => {
  const somebody = await Somebody.with(browser);
  await notify(gateway, "typist", "Lower");
  await notify(gateway, "typist", "Upper");
  const page = await somebody.open(gateway.origin);
  const focused = (name: string) =>
    page.locator(":focus").and(page.getByText(name).or(page.getByLabel(name)));
  const tabTo = async (name: string) => {
    for (let presses = 0; presses < 30 && (await focused(name).count()) === 0; presses++)
      await page.keyboard.press("Tab");
    assert.equal(await focused(name).count(), 1, name);
  };
  await page.getByLabel("Access token").waitFor();
  await tabTo("Access token");
  await page.keyboard.insertText(await gateway.token("typist"));
  await page.keyboard.press("Enter");
  await cards(page, "Upper").waitFor();
  const onCard = page.locator(".card-link:focus");
  for (let presses = 0; presses < 30 && (await onCard.count()) === 0; presses++)
    await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  const details = page.getByRole("complementary", { name: "Details" });
  await details.getByText("Lower: all of it").waitFor();
  await page.keyboard.press("Escape");
  await details.waitFor({ state: "detached" });
  await page.getByRole("article").filter({ has: onCard, hasText: "Lower" }).waitFor();
  await somebody.leave();
});

test("a link signs in whom it names once the user says so, and its token leaves the address", async () => {
  const somebody = await Somebody.with(browser);
  const link = async (user: string) => `${gateway.origin}/#token=${await gateway.token(user)}`;
  const page = await somebody.open(await link("张三"));
  await page.getByText("signs you in as 张三").waitFor();
  assert.equal(page.url(), `${gateway.origin}/`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await isLive(page);
  await notify(gateway, "张三", "你好");
  await cards(page, "你好").waitFor();
  // Anybody may write a link: one for somebody else takes nothing away by itself.
  await page.goto(await link("lisi"));
  await page.getByText("removes the messages of 张三").waitFor();
  await page.getByRole("button", { name: "Stay signed in as 张三" }).click();
  await cards(page, "你好").waitFor();
  await page.goto(await link("lisi"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByTitle("lisi").waitFor();
  await isLive(page);
  assert.ok(!page.url().includes("token"), page.url());
  await somebody.leave();
});

test("a link with a token that is none asks for one", async () => {
  const somebody = await Somebody.with(browser);
  const page = await somebody.open(`${gateway.origin}/#token=none`);
  await page.getByLabel("Access token").waitFor();
  assert.equal(await page.getByLabel("Access token").inputValue(), "");
  assert.equal(page.url(), `${gateway.origin}/`);
  await somebody.leave();
});

test("every text can be read, in both languages, by day and by night, on a phone and on a desk", async () => {
  const looks = [
    { locale: "en-GB", colorScheme: "light", viewport: { width: 1280, height: 800 } },
    { locale: "zh-CN", colorScheme: "dark", viewport: { width: 390, height: 844 } },
  ] as const;
  for (const [index, look] of looks.entries()) {
    const somebody = await Somebody.with(browser, look);
    const user = `reader${index}`;
    await notify(gateway, user, "关于调整年假政策的通知".repeat(6), {
      content: { externalUrl: "https://oa.example/a" },
    });
    await notify(gateway, user, "A rather long title, as offices write them ".repeat(4), {
      content: {
        mixType: 3,
        fileElem: { fileName: "Policy.pdf", sourceUrl: "https://oa.example/p", fileSize: 12345 },
      },
    });
    const page = await somebody.open(gateway.origin);
    await page.locator("input[name=token]").fill(await gateway.token(user));
    assert.deepEqual(await tooFaint(page), [], `${look.locale}: sign-in`);
    await page.keyboard.press("Enter");
    const list = page.getByRole("navigation");
    await list.getByRole("link").first().waitFor();
    assert.deepEqual(await tooFaint(page), [], `${look.locale}: conversations`);
    await list.getByRole("link").first().click();
    await cards(page, "Policy.pdf").waitFor();
    assert.deepEqual(await tooFaint(page), [], `${look.locale}: cards`);
    await cards(page, "Policy.pdf").getByRole("link").first().click();
    await page.getByRole("complementary").getByText("Policy.pdf").waitFor();
    assert.deepEqual(await tooFaint(page), [], `${look.locale}: details`);
    const isWider = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(isWider, false, `${look.locale}: wider than the screen`);
    await somebody.leave();
  }
});
