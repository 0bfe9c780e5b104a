// Sends of the admin API, as the app behind each of OpenIM's cores finds them.
import assert from "node:assert/strict";
import {
  ADMIN,
  assertSame,
  conversationOf,
  each,
  entered,
  eventually,
  freshUser,
  gatewayOfFile,
  notify,
} from "./support/bench.ts";
import { type Message, Refused } from "./support/device.ts";

const gateway = await gatewayOfFile();

each("the notice that a v2 caller sends comes with all that is in it", async (core, context) => {
  const user = freshUser();
  const device = await entered(context, core, gateway, user);
  const content = {
    notificationName: "Approvals",
    notificationFaceURL: "https://oa.example/approvals.png",
    notificationType: 1,
    text: "Leave from 3 to 5 May was approved.",
    externalUrl: "https://oa.example/leave/17",
    mixType: 0,
    ex: '{"leave":17}',
  };
  const more = { senderNickname: "Approvals", senderFaceURL: "https://oa.example/face.png", content };
  const [id = ""] = await notify(gateway, user, 1, more);
  await device.isTold([id]);
  const [message] = device.told;
  const found = await device.history(conversationOf(user));
  assert.equal(found.length, 1);
  for (const { notificationElem, ...fields } of [message, ...found] as Message[]) {
    assert.deepEqual(JSON.parse((notificationElem as { detail: string }).detail), content);
    const { clientMsgID, seq, sendID, recvID, senderNickname, senderFaceUrl, sessionType, contentType } =
      fields;
    assert.deepEqual([clientMsgID, seq, sessionType, contentType], [id, 1, 4, 1400]);
    assert.deepEqual([sendID, recvID], [ADMIN, user]);
    assert.deepEqual([senderNickname, senderFaceUrl], ["Approvals", "https://oa.example/face.png"]);
  }
  await eventually("its conversation is listed", async () => (await device.conversations()).length === 1);
  const [conversation] = await device.conversations();
  assert.equal(conversation?.conversationID, conversationOf(user));
  assert.equal(conversation?.conversationType, 4);
  assert.equal(conversation?.userID, ADMIN);
  assert.equal(conversation?.showName, "Approvals");
  assert.equal(conversation?.unreadCount, 1);
});

const PICTURE = { uuid: "p", type: "png", size: 10, width: 3, height: 4, url: "https://oa.example/p.png" };

/** Content as a v2 caller sends it, the element that the app finds, and what is in it. */
const CONTENTS: [number, Record<string, unknown>, string, Record<string, unknown>][] = [
  [101, { text: "Good morning" }, "textElem", { content: "Good morning" }],
  ...(
    [
      [
        102,
        { sourcePath: "a.png", sourcePicture: PICTURE, bigPicture: PICTURE, snapshotPicture: PICTURE },
        "pictureElem",
      ],
      [
        103,
        { uuid: "s", soundPath: "a.mp3", sourceUrl: "https://oa.example/a", dataSize: 9, duration: 2 },
        "soundElem",
      ],
      [
        104,
        { videoPath: "a.mp4", videoUrl: "https://oa.example/v", videoSize: 99, duration: 7 },
        "videoElem",
      ],
      [
        105,
        { filePath: "a.pdf", sourceUrl: "https://oa.example/f", fileName: "a.pdf", fileSize: 12 },
        "fileElem",
      ],
      [106, { text: "@all", atUserList: ["bob"], isAtSelf: false }, "atTextElem"],
      [107, { title: "Minutes", abstractList: ["one", "two"] }, "mergeElem"],
      [108, { userID: "bob", nickname: "Bob", faceURL: "https://oa.example/b", ex: "" }, "cardElem"],
      [109, { description: "Office", longitude: 116.4, latitude: 39.9 }, "locationElem"],
      [110, { data: '{"a":1}', description: "d", extension: "e" }, "customElem"],
      [
        114,
        { text: "Yes", quoteMessage: { clientMsgID: "q", contentType: 101, textElem: { content: "?" } } },
        "quoteElem",
      ],
    ] as const
  ).map(([type, content, element]): [number, Record<string, unknown>, string, Record<string, unknown>] => [
    type,
    { ...content },
    element,
    { ...content },
  ]),
];

/** Types without an element of their own: the app finds their content as text. */
const DETAILS: [number, Record<string, unknown>][] = [
  [111, { revokeMsgClientID: "m" }],
  [112, { read: true }],
];

/** What was sent is in it; an SDK may add fields. */
function assertHolds(found: unknown, sent: unknown, where: string): void {
  if (typeof sent !== "object" || sent === null) {
    assert.deepEqual(found, sent, where);
    return;
  }
  for (const [key, value] of Object.entries(sent))
    assertHolds((found as Record<string, unknown> | null)?.[key], value, `${where}.${key}`);
}

each("content of the types 101 to 114 is where an app looks for it", async (core, context) => {
  const user = freshUser();
  const device = await entered(context, core, gateway, user);
  const ids = [];
  for (const [contentType, content] of [...CONTENTS, ...DETAILS]) {
    const clientMsgID = `${user}-${contentType}`;
    const notice = { recvID: user, sendID: ADMIN, senderPlatformID: 10, sessionType: 1, clientMsgID };
    const { errCode, errMsg } = await gateway.call("/manager/send_msg", { ...notice, contentType, content });
    assert.equal(errCode, 0, `${contentType}: ${errMsg}`);
    ids.push(clientMsgID);
  }
  await device.isTold(ids);
  const conversationID = `si_${[user, ADMIN].sort().join("_")}`;
  for (const messages of [device.told, await device.history(conversationID)]) {
    assert.deepEqual(
      messages.map(({ clientMsgID }) => clientMsgID),
      ids,
    );
    CONTENTS.forEach(([contentType, , element, expected], index) => {
      assert.equal(messages[index]?.contentType, contentType);
      assertHolds(messages[index]?.[element], expected, element);
    });
    DETAILS.forEach(([contentType, expected], index) => {
      const message = messages[CONTENTS.length + index];
      const element = message?.notificationElem as { detail: string } | undefined;
      assert.equal(message?.contentType, contentType);
      assert.deepEqual(JSON.parse(element?.detail ?? ""), expected);
    });
  }
});

each("a notice for those who are online is told once and not kept", async (core, context) => {
  const user = freshUser();
  const device = await entered(context, core, gateway, user);
  const [id = ""] = await notify(gateway, user, 1, { isOnlineOnly: true });
  await device.isTold([id]);
  const [last = ""] = await notify(gateway, user, 1);
  await device.isTold([last]);
  assertSame(device.toldIds, [id, last], "told");
  assertSame(await device.historyIds(conversationOf(user)), [last], "history");
});

each("an app that sends is refused at once, and goes on being told", async (core, context) => {
  const user = freshUser();
  const device = await entered(context, core, gateway, user);
  await assert.rejects(device.sendText("bob", "hello"), (error) => {
    assert.ok(error instanceof Refused);
    assert.equal(error.errCode, 1002);
    return true;
  });
  const sent = await notify(gateway, user, 1);
  await device.isTold(sent);
  assert.ok(!device.callbacks.some(({ event }) => event === "OnConnectFailed"));
});
