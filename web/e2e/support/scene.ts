// The browser and the gateway of a file of tests: started before its first test, ended after its last one. An import of this
// module is enough.
import { after, before } from "node:test";
import type { Browser } from "playwright-core";
import { Gateway } from "../../client/test/support/gateway.ts";
import { launch } from "./browser.ts";

export let browser: Browser;
export let gateway: Gateway;

before(async () => {
  [browser, gateway] = await Promise.all([launch(), Gateway.start()]);
});

after(async () => {
  await browser?.close();
  await gateway?.close();
});
