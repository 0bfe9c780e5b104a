import assert from "node:assert/strict";
import { test } from "node:test";
import { type Draft, emptyDraft, missing, path, request, splitReceivers } from "../src/draft.ts";

const draft = (change: Partial<Draft>): Draft => ({
  ...emptyDraft("admin"),
  receiver: "u1",
  title: "Leave",
  text: "hello",
  ...change,
});

test("receivers are split as people paste them, each once", () => {
  assert.deepEqual(splitReceivers(" a, b;c\n\nd,a、张三\t，e；f"), ["a", "b", "c", "d", "张三", "e", "f"]);
  assert.deepEqual(splitReceivers(" ,\n"), []);
});

test("a notice becomes what OpenIM's callers send", () => {
  const { content, ...rest } = request(
    draft({ mix: "file", mediaUrl: "https://x/y.pdf", fileName: "y.pdf" }),
  );
  assert.deepEqual(rest, {
    sendID: "admin",
    recvID: "u1",
    senderPlatformID: 10,
    senderNickname: "",
    senderFaceURL: "",
    contentType: 1400,
    sessionType: 4,
    isOnlineOnly: false,
  });
  assert.deepEqual(content, {
    notificationName: "Leave",
    notificationFaceURL: "",
    notificationType: 1,
    text: "hello",
    externalUrl: "",
    mixType: 3,
    fileElem: { sourceUrl: "https://x/y.pdf", fileName: "y.pdf" },
  });
});

test("many and all go to the batch, each with its own way to name receivers", () => {
  const many = draft({ audience: "many", receivers: "a b" });
  assert.equal(path(many), "/manager/batch_send_msg");
  assert.deepEqual(request(many).recvIDList, ["a", "b"]);
  const all = request(draft({ audience: "all" }));
  assert.equal(all.isSendAll, true);
  assert.ok(!("recvID" in all) && !("recvIDList" in all));
});

test("what is missing is said before anything is sent", () => {
  assert.equal(missing(draft({})), null);
  assert.equal(missing(draft({ receiver: " " })), "Name a receiver.");
  assert.equal(missing(draft({ audience: "many" })), "Name receivers.");
  assert.equal(missing(draft({ title: "" })), "Give it a title.");
  assert.equal(missing(draft({ kind: "text", title: "" })), null);
  assert.equal(missing(draft({ mix: "video" })), "Give the address of the video.");
  assert.equal(missing(draft({ sender: "" })), "Say who sends it.");
});
