// The tests of one file share a gateway, and devices that end with their test.
import assert from "node:assert/strict";
import { after, type TestContext, test } from "node:test";
import { ADMIN, Gateway, type Notice } from "../../../client/test/support/gateway.ts";
import { CORES, type Core, type Device, type Login, PLATFORM } from "./device.ts";
import { leaveChromium, PageDevice } from "./page.ts";
import { ProcessDevice } from "./process.ts";

export { ADMIN, Gateway };

after(leaveChromium);

/** A gateway that ends with the file. */
export async function gatewayOfFile(...settings: string[]): Promise<Gateway> {
  const gateway = await Gateway.start(...settings);
  after(() => gateway.close());
  return gateway;
}

/** A gateway that ends with the test. */
export async function gatewayOf(context: TestContext, ...settings: string[]): Promise<Gateway> {
  const gateway = await Gateway.start(...settings);
  context.after(() => gateway.close());
  return gateway;
}

/** The same test for each core. */
export function each(promise: string, body: (core: Core, context: TestContext) => Promise<void>): void {
  for (const core of CORES) test(`${core}: ${promise}`, (context) => body(core, context));
}

let users = 0;
/** Somebody who has nothing yet. */
export const freshUser = () => `user-${++users}`;

/** An app of this core that runs and is not logged in. */
export async function deviceOf(context: TestContext, core: Core): Promise<Device> {
  const device = core === "wasm" ? new PageDevice() : new ProcessDevice(core);
  context.after(() => device.close());
  await device.start();
  return device;
}

/** What a device logs in with: a token of its own. */
export async function loginOf(gateway: Gateway, user: string, platform: number): Promise<Login> {
  return { origin: gateway.origin, user, token: await gateway.token(user, platform), platform };
}

/** An app of this core that is logged in and has asked all that it asks at first. */
export async function entered(
  context: TestContext,
  core: Core,
  gateway: Gateway,
  user: string,
  platform = PLATFORM[core],
): Promise<Device> {
  const device = await deviceOf(context, core);
  await device.enter(await loginOf(gateway, user, platform));
  return device;
}

/** The conversation of a user with the office. */
export const conversationOf = (user: string) => `sn_${[user, ADMIN].sort().join("_")}`;

/** Sends this many notices; their clientMsgIDs. */
export async function notify(
  gateway: Gateway,
  user: string,
  count: number,
  notice: Partial<Notice> = {},
): Promise<string[]> {
  const ids: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const clientMsgID = `${user}-${++sent}`;
    const { errCode, errMsg } = await gateway.send({ recvID: user, clientMsgID, ...notice });
    assert.equal(errCode, 0, errMsg);
    ids.push(clientMsgID);
  }
  return ids;
}
let sent = 0;

/** Resolves when it is so; asks again until then. For what no callback tells. */
export async function eventually(
  what: string,
  isSo: () => Promise<boolean>,
  patience = 60_000,
): Promise<void> {
  const end = Date.now() + patience;
  while (!(await isSo())) {
    if (Date.now() > end) assert.fail(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Fails unless both lists are the same, in few words: they may be long. */
export function assertSame(found: string[], expected: string[], where: string): void {
  const [have, want] = [new Set(found), new Set(expected)];
  const wrong: [string, string[]][] = [
    ["missing", expected.filter((id) => !have.has(id))],
    ["unexpected", found.filter((id) => !want.has(id))],
    ["doubled", found.filter((id, index) => found.indexOf(id) !== index)],
    ["out of order", expected.filter((id, index) => found[index] !== id)],
  ];
  const [first] = wrong.filter(([, ids]) => ids.length > 0);
  if (!first) return;
  const [what, ids] = first;
  assert.fail(`${where}: ${ids.length} of ${expected.length} ${what}, first ${ids[0]}, last ${ids.at(-1)}`);
}
