// Rounds of kill -9 of the gateway, of the app with the native core and of the page, under load: each accepted notice is once in
// the local database of each, and the app of the core without one is told once.
import { test } from "node:test";
import { Sender } from "../../client/test/support/sender.ts";
import {
  assertSame,
  conversationOf,
  deviceOf,
  freshUser,
  type Gateway,
  gatewayOf,
  loginOf,
} from "./support/bench.ts";
import { CORES, type Device, IOS, WEB } from "./support/device.ts";

/** Kills of each kind. */
const ROUNDS = Number(process.env.KILLS ?? 3);
/** A kill comes after up to so many further messages were told. */
const MESSAGES_BETWEEN_MAX = 20;
/** Between two notices, ms. */
const PAUSE = 20;

const someMessages = () => 1 + Math.floor(Math.random() * MESSAGES_BETWEEN_MAX);

/** The gateway, for a sender who waits a moment: an app reads its history by pages, which must not be hundreds. */
function paced(gateway: Gateway): Gateway {
  const send: Gateway["send"] = async (notice) => {
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    return gateway.send(notice);
  };
  return Object.assign(Object.create(gateway), { send });
}

async function hearsSome(device: Device): Promise<void> {
  const wanted = device.told.length + someMessages();
  await device.until(`${wanted} messages`, () => device.told.length >= wanted);
}

for (const core of CORES) {
  const what =
    core === "js" ? "the gateway" : `the gateway and as many of the ${core === "wasm" ? "page" : "app"}`;
  test(`${core}: ${ROUNDS} kills of ${what} lose and repeat nothing`, async (context) => {
    const gateway = await gatewayOf(context);
    const user = freshUser();
    const platform = { native: IOS, wasm: WEB, js: WEB }[core];
    const login = await loginOf(gateway, user, platform);
    const device = await deviceOf(context, core);
    await device.enter(login);
    const sender = new Sender(paced(gateway), user);
    sender.start();
    for (let round = 0; round < ROUNDS; round += 1) {
      await hearsSome(device);
      await gateway.kill();
      await gateway.restart();
      await hearsSome(device);
      if (core === "js") continue;
      await device.kill();
      await device.start();
      await device.login(login);
    }
    await hearsSome(device);
    await sender.stop();
    const last = sender.accepted.at(-1) ?? "";
    await device.isTold([last]);
    if (core === "js") assertSame(device.toldIds, sender.accepted, "told");
    assertSame(await device.historyIds(conversationOf(user)), sender.accepted, "history");
    // Without the gateway it has only its database.
    await gateway.kill();
    if (core !== "js") assertSame(await device.historyIds(conversationOf(user)), sender.accepted, "database");
    context.diagnostic(
      `${sender.accepted.length} accepted, told ${device.told.length} times, lost 0, doubled 0`,
    );
  });
}
