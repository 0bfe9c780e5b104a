// A user's settings, cleared conversations and deleted messages outlive kill -9 of the gateway, and are the same on a new device.
import assert from "node:assert/strict";
import {
  assertSame,
  conversationOf,
  deviceOf,
  each,
  entered,
  eventually,
  freshUser,
  gatewayOf,
  loginOf,
  notify,
} from "./support/bench.ts";
import { type Device, PLATFORM } from "./support/device.ts";

/** Another sender than the office. */
const OTHER = "hr";

async function settingsOf(device: Device, conversationID: string): Promise<[boolean, number] | undefined> {
  const conversations = await device.conversations();
  const found = conversations.find((one) => one.conversationID === conversationID);
  return found && [found.isPinned, found.recvMsgOpt];
}

each(
  "pinned, do-not-disturb, cleared and deleted survive a kill and are on a new device",
  async (core, context) => {
    const gateway = await gatewayOf(context);
    const user = freshUser();
    const [office, other] = [conversationOf(user), `sn_${[user, OTHER].sort().join("_")}`];
    const login = await loginOf(gateway, user, PLATFORM[core]);
    const device = await deviceOf(context, core);
    await device.enter(login);
    const kept = await notify(gateway, user, 3);
    const cleared = await notify(gateway, user, 2, { sendID: OTHER });
    await device.isTold([...kept, ...cleared]);
    await eventually("both conversations are there", async () => (await device.conversations()).length === 2);

    await device.call("setConversation", { conversationID: office, isPinned: true });
    await device.call("setConversation", { conversationID: office, recvMsgOpt: 2 });
    assertSame(await device.historyIds(office), kept, "history before");
    const [deleted = ""] = kept.splice(1, 1);
    await device.call("deleteMessage", { conversationID: office, clientMsgID: deleted });
    assertSame(await device.historyIds(other), cleared, "history before");
    await device.call("deleteConversationAndDeleteAllMsg", other);
    await gateway.kill();
    await gateway.restart();
    const later = await notify(gateway, user, 1, { sendID: OTHER });

    const again = async () => {
      await device.kill();
      await device.start();
      await device.enter(login);
      return device;
    };
    const fresh = () => entered(context, core, gateway, user);
    for (const enter of [again, fresh]) {
      const one = await enter();
      await eventually("it is pinned and silent", async () => {
        const settings = await settingsOf(one, office);
        return settings?.[0] === true && settings[1] === 2;
      });
      await eventually("the other one is as before", async () => {
        const settings = await settingsOf(one, other);
        return settings?.[0] === false && settings[1] === 0;
      });
      await eventually("the later message alone is unread", async () => (await one.unread(other)) === 1);
      assertSame(await one.historyIds(office), kept, "history without the deleted message");
      assertSame(await one.historyIds(other), later, "history without what was cleared");
      // The core without a store has the line of text of its list from the answer.
      if (core !== "js") continue;
      const first = (await one.conversations()).find(({ conversationID }) => conversationID === office);
      assert.equal(JSON.parse(first?.latestMsg ?? "{}").clientMsgID, kept.at(-1));
    }
  },
);
