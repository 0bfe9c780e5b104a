// Chromium, and pages that are watched: whatever a page complains of fails its test.
import assert from "node:assert/strict";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

/** How long a page may take for anything, on a busy machine. */
export const PATIENCE_MS = 180_000;

/** How Chromium is started here. */
export const LAUNCH = {
  executablePath: "/usr/bin/chromium",
  // Tests run as root in containers, where the sandbox cannot be set up.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
};

export async function launch(): Promise<Browser> {
  return chromium.launch(LAUNCH);
}

/** A browser of somebody's own: nothing stored yet. */
export class Somebody {
  readonly context: BrowserContext;
  readonly complaints: string[] = [];

  private constructor(context: BrowserContext) {
    this.context = context;
  }

  static async with(browser: Browser, options: Parameters<Browser["newContext"]>[0] = {}): Promise<Somebody> {
    const context = await browser.newContext({ locale: "en-GB", reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    // tsx names functions by a helper that a page does not have.
    await context.addInitScript("globalThis.__name = (named) => named");
    const somebody = new Somebody(context);
    context.on("weberror", (error) => somebody.complaints.push(String(error.error())));
    context.on("console", (message) => {
      if (message.type() === "error") somebody.complaints.push(message.text());
    });
    return somebody;
  }

  async open(url: string): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(url);
    return page;
  }

  /** Ends, and fails if a page complained of anything but `expected`. */
  async leave(expected?: RegExp): Promise<void> {
    await this.context.close();
    const complaints = this.complaints.filter((complaint) => !expected?.test(complaint));
    assert.deepEqual(complaints, []);
  }
}

/** Waits until it is so. For what no page shows; a page is waited for with its locators. */
export async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!(await isSo())) {
    if (Date.now() > end) assert.fail(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
