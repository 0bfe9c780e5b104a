// Takes the screenshots of both pages, with the messages that an office sends. Look at them before committing them.
//
//   node --conditions=towncrier-source --import tsx e2e/screenshots.ts
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { ADMIN, Gateway } from "../client/test/support/gateway.ts";
import { launch, Somebody } from "./support/browser.ts";
import { device } from "./support/device.ts";
import { cards, notify, signIn } from "./support/inbox.ts";

const FOLDER = fileURLToPath(new URL("../screenshots/", import.meta.url));
const DESK = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
/** Platforms by number. */
const [IOS, ANDROID] = [1, 2];

const POLICY = `各位同事：

经公司研究决定，自2027年1月1日起，年假政策调整如下：
一、入职满一年的员工，每年享有十二天带薪年假；
二、未休完的年假可顺延至次年三月三十一日。

详情请见附件，如有疑问请与人力资源部联系。`;

/** What an employee finds on a Tuesday. */
async function fill(gateway: Gateway, user: string): Promise<void> {
  await notify(gateway, user, "Canteen closed on Friday", {
    senderNickname: "Facilities",
    content: { text: "The canteen is being repainted. Lunch is served in the lobby, from 11:30." },
  });
  await notify(gateway, user, "Payslip for November", {
    senderNickname: "Payroll",
    content: {
      text: "Your payslip is ready.",
      mixType: 3,
      fileElem: { fileName: "Payslip-2026-11.pdf", sourceUrl: "https://oa.example/p.pdf", fileSize: 184_320 },
    },
  });
  const chat = { sessionType: 1, contentType: 101, sendID: "wang", senderNickname: "Wang Fang" };
  await notify(gateway, user, "", { ...chat, content: { text: "Are you coming to the all-hands?" } });
  await notify(gateway, user, "关于调整年假政策的通知", {
    content: { text: POLICY, externalUrl: "https://oa.example/policies/leave-2027" },
  });
}

async function shot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: `${FOLDER}${name}.png`, animations: "disabled" });
}

async function inbox(browser: Browser, gateway: Gateway): Promise<void> {
  const desk = await Somebody.with(browser, { viewport: DESK });
  const page = await signIn(desk, gateway, "zhangsan");
  await page.getByText("What is sent to you appears here").waitFor();
  await shot(page, "inbox-empty");
  await fill(gateway, "zhangsan");
  await cards(page, "年假").getByRole("link").first().click();
  await page.getByRole("complementary").getByRole("heading", { name: "年假" }).waitFor();
  await shot(page, "inbox");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot(page, "inbox-dark");
  await desk.leave();

  const hand = await Somebody.with(browser, { viewport: PHONE, locale: "zh-CN" });
  await fill(gateway, "lisi");
  for (let count = 0; count < 1000; count++) await notify(gateway, "many", `Notice ${count}`);
  const phone = await hand.open(gateway.origin);
  await shot(phone, "inbox-phone-sign-in");
  await phone.locator("input[name=token]").fill(await gateway.token("lisi"));
  await phone.keyboard.press("Enter");
  const notices = phone.getByRole("navigation").getByRole("link").first();
  await notices.getByRole("img").waitFor();
  await shot(phone, "inbox-phone");
  await notices.click();
  await cards(phone, "年假").waitFor();
  await shot(phone, "inbox-phone-notices");
  await hand.leave();

  const busy = await Somebody.with(browser, { viewport: PHONE });
  const unread = await busy.open(gateway.origin);
  await unread.locator("input[name=token]").fill(await gateway.token("many"));
  await unread.keyboard.press("Enter");
  await unread.getByLabel("1000 unread").waitFor();
  await shot(unread, "inbox-1000-unread");
  await busy.leave();
}

async function console(browser: Browser, gateway: Gateway): Promise<void> {
  const devices = [await device(gateway, "zhangsan", IOS), await device(gateway, "lisi", ANDROID)];
  const admin = await Somebody.with(browser, { viewport: { width: 1280, height: 940 } });
  const page = await admin.open(`${gateway.adminOrigin}/console/`);
  await page.getByLabel("Administrator's token").fill(await gateway.token(ADMIN));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("Several").click();
  await page.getByLabel("Receivers").fill("zhangsan, lisi, wangwu");
  await page.getByLabel("Sender's name").fill("人力资源部");
  await page.getByLabel("Title").fill("关于调整年假政策的通知");
  await page.getByRole("textbox", { name: "Text" }).fill(POLICY);
  await page.getByLabel("Link").fill("https://oa.example/policies/leave-2027");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await page.locator('tr[data-state="acked"]').nth(1).waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await shot(page, "console");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.getByRole("link", { name: "Health" }).click();
  // A minute of a quiet morning.
  for (let second = 0; second < 60; second++) {
    for (let count = 0; count < 5 + 10 * Math.abs(Math.sin(second / 7)); count++)
      await notify(gateway, count % 2 === 0 ? "zhangsan" : "lisi", `Notice ${second}.${count}`);
    await page.waitForTimeout(1000);
  }
  await shot(page, "console-health-dark");
  await page.setViewportSize(PHONE);
  await page.emulateMedia({ colorScheme: "light" });
  await page.getByRole("link", { name: "Online" }).click();
  await page.getByRole("row", { name: "zhangsan" }).waitFor();
  await shot(page, "console-phone-online");
  await admin.leave();
  await Promise.all(devices.map((device) => device.stop()));
}

await mkdir(FOLDER, { recursive: true });
const [browser, gateway] = await Promise.all([launch(), Gateway.start()]);
try {
  await inbox(browser, gateway);
  await console(browser, gateway);
} finally {
  await browser.close();
  await gateway.close();
}
