// What the inbox page costs its user, printed: sizes, the first paint, landing and scrolling 10,000 messages.
//
//   node --conditions=towncrier-source --import tsx e2e/measure.ts
//
// Numbers are of the machine it runs on, and of whatever else that does meanwhile.
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { type CDPSession, chromium, type Page } from "playwright-core";
import { Gateway } from "../client/test/support/gateway.ts";
import { LAUNCH } from "./support/browser.ts";

const MESSAGES = 10_000;
/** Sends under way at once. */
const AT_ONCE = 250;
/** Scrolled through in steps of this, px: a fast flick. */
const STEP = 400;
const STEPS = 600;
const USER = "alice";

async function sizes(): Promise<string> {
  const names = ["index.html", "app.js", "app.css", "sw.js"];
  const gzipped = names.map(async (name) => {
    const contents = await readFile(new URL(`../dist/inbox/${name}`, import.meta.url));
    return `${name} ${gzipSync(contents, { level: 9 }).length}`;
  });
  return (await Promise.all(gzipped)).join(", ");
}

async function fill(gateway: Gateway): Promise<void> {
  const senders = ["Finance", "人力资源部", "IT", "Facilities"];
  for (let sent = 0; sent < MESSAGES; sent += AT_ONCE) {
    const notices = Array.from({ length: AT_ONCE }, (_, index) => {
      const text = "Please read this carefully. ".repeat(1 + (index % 9));
      const content = { notificationName: `Notice ${sent + index}`, text };
      return gateway.send({ recvID: USER, senderNickname: senders[index % senders.length], content });
    });
    await Promise.all(notices);
  }
}

/** Time that the page's main thread was busy so far, ms. */
async function busy(session: CDPSession): Promise<{ all: number; script: number }> {
  const { metrics } = await session.send("Performance.getMetrics");
  const of = (name: string) => (metrics.find((metric) => metric.name === name)?.value ?? 0) * 1000;
  return { all: of("TaskDuration"), script: of("ScriptDuration") };
}

async function firstPaint(page: Page, session: CDPSession, origin: string): Promise<string> {
  await page.goto(origin);
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  const { all, script } = await busy(session);
  const painted = await page.evaluate(
    () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
  );
  return `after ${painted?.toFixed(0)} ms; main thread busy ${all.toFixed(0)} ms, ${script.toFixed(0)} of it script`;
}

async function land(page: Page, token: string): Promise<string> {
  const begun = performance.now();
  await page.getByLabel("Access token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("Up to date").waitFor({ timeout: 120_000 });
  return `${(performance.now() - begun).toFixed(0)} ms`;
}

async function scroll(page: Page, session: CDPSession): Promise<string> {
  await page.getByRole("article").first().waitFor();
  const before = await busy(session);
  const frames = await page.evaluate(
    async ([step = 0, steps = 0]) => {
      const scroller = document.querySelector(".scroller");
      if (!scroller) throw new Error("there is no list");
      const { left, top, width, height } = scroller.getBoundingClientRect();
      const times: number[] = [];
      let blank = 0;
      for (let last = performance.now(), index = 0; index < steps; index += 1) {
        scroller.scrollTop += step;
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        times.push(now - last);
        last = now;
        if (!document.elementFromPoint(left + width / 2, top + height / 2)?.closest(".row")) blank += 1;
      }
      times.sort((one, other) => one - other);
      const at = (share: number) => times[Math.floor(share * (times.length - 1))]?.toFixed(1);
      return { p50: at(0.5), p99: at(0.99), blank, rows: document.querySelectorAll(".row").length };
    },
    [STEP, STEPS],
  );
  const after = await busy(session);
  const { p50, p99, blank, rows } = frames;
  const perFrame = ((after.all - before.all) / STEPS).toFixed(1);
  return `frame p50 ${p50} ms, p99 ${p99} ms; busy ${perFrame} ms a frame; ${blank} blank; ${rows} rows exist`;
}

const gateway = await Gateway.start();
const browser = await chromium.launch(LAUNCH);
try {
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1280, height: 800 } });
  await context.addInitScript("globalThis.__name = (named) => named");
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  await session.send("Performance.enable");
  console.log(`gzipped bytes: ${await sizes()}`);
  console.log(`first paint with an empty cache: ${await firstPaint(page, session, gateway.origin)}`);
  await fill(gateway);
  console.log(`${MESSAGES} messages land in ${await land(page, await gateway.token(USER))}`);
  await page.reload();
  console.log(`scrolling ${STEP * STEPS} px of them: ${await scroll(page, session)}`);
} finally {
  await browser.close();
  await gateway.close();
}
