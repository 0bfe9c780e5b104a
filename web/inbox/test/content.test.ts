// What a message shows, whatever its sender put into it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { initials } from "../src/avatar.tsx";
import { plainName, safeUrl, split, type View, view, withdrawn } from "../src/content.ts";

function viewOf(contentType: number, content: unknown): View {
  return view(message(contentType, JSON.stringify(content)));
}

function message(contentType: number, content: string) {
  // What a view looks at.
  return { contentType, content: new TextEncoder().encode(content) } as Parameters<typeof view>[0];
}

test("a notice shows its title, its text, its link, and what its mixType names", () => {
  const elems = {
    pictureElem: { sourcePicture: { url: "https://p.example/big.png", width: 300, height: 200 } },
    videoElem: { videoUrl: "https://p.example/v.mp4", snapshotUrl: "https://p.example/v.png", duration: 8 },
    fileElem: { sourceUrl: "https://p.example/a%20b.pdf", fileName: "a b.pdf", fileSize: 1024 },
  };
  const notice = {
    notificationName: "Leave",
    text: "New policy",
    externalUrl: "https://oa.example/1",
    ...elems,
  };
  const said = { title: "Leave", text: "New policy", link: "https://oa.example/1" };
  const picture = { url: "https://p.example/big.png", thumb: "https://p.example/big.png", ratio: 1.5 };
  const video = { url: "https://p.example/v.mp4", poster: "https://p.example/v.png", seconds: 8 };
  const file = { url: "https://p.example/a%20b.pdf", name: "a b.pdf", bytes: 1024 };
  assert.deepEqual(viewOf(1400, { ...notice, mixType: 0 }), said);
  assert.deepEqual(viewOf(1400, { ...notice, mixType: 1 }), { ...said, picture });
  assert.deepEqual(viewOf(1400, { ...notice, mixType: 2 }), { ...said, video });
  assert.deepEqual(viewOf(1400, { ...notice, mixType: 3 }), { ...said, file });
});

test("the smallest picture is the card's, the largest the detail view's", () => {
  const sizes = {
    sourcePicture: { url: "https://p.example/s" },
    bigPicture: { url: "https://p.example/b" },
    snapshotPicture: { url: "https://p.example/t" },
  };
  assert.deepEqual(viewOf(102, sizes).picture, {
    url: "https://p.example/s",
    thumb: "https://p.example/t",
    ratio: undefined,
  });
});

test("every other type shows what it has", () => {
  assert.deepEqual(viewOf(101, { text: "hi" }), { text: "hi" });
  assert.deepEqual(viewOf(103, { sourceUrl: "https://p.example/s.mp3", duration: 3 }).sound?.seconds, 3);
  assert.deepEqual(viewOf(107, { title: "Chat", abstractList: ["a: b", 7] }), {
    kind: "merged",
    title: "Chat",
    lines: ["a: b"],
  });
  assert.deepEqual(
    viewOf(109, { description: "Gate", latitude: 31.2, longitude: 121.5 }).data,
    "31.20000, 121.50000",
  );
  assert.deepEqual(viewOf(110, { data: '{"a":1}' }).data, '{\n  "a": 1\n}');
  assert.deepEqual(
    viewOf(114, { text: "yes", quoteMessage: { senderNickname: "Bob", content: '{"text":"ok?"}' } }),
    {
      text: "yes",
      quote: { from: "Bob", text: "ok?" },
    },
  );
  assert.equal(withdrawn(message(111, '{"revokeMsgClientID":"m1"}')), "m1");
  assert.deepEqual(viewOf(4711, { text: "from the future" }), { kind: "unknown", text: "from the future" });
});

test("content of any shape is shown as far as it goes, and never throws", () => {
  for (const type of [101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 1400, 0]) {
    for (const content of [
      "",
      "null",
      "[]",
      "7",
      '"x"',
      "{",
      '{"text":7,"pictureElem":[],"mixType":1,"data":{}}',
    ]) {
      view(message(type, content));
    }
  }
  assert.deepEqual(view(message(1400, "not json")), { kind: "unknown" });
});

test("an address that is not http or https is none", () => {
  for (const url of [
    "javascript:alert(1)",
    " JaVaScript:alert(1)",
    "data:text/html,x",
    "//evil",
    "x",
    "",
    7,
    null,
  ]) {
    assert.equal(safeUrl(url), undefined, String(url));
  }
  assert.equal(safeUrl("HTTPS://oa.example"), "https://oa.example/");
  const hostile = {
    externalUrl: "javascript:alert(1)",
    mixType: 3,
    fileElem: { sourceUrl: "data:,x", fileName: "x" },
  };
  const shown = viewOf(1400, hostile);
  assert.equal(shown.link, undefined);
  assert.deepEqual(shown.file, { url: undefined, name: "x", bytes: undefined });
});

test("addresses within text become links, and the rest stays as it is", () => {
  const text = "见 https://a.example/x?y=1，或 http://b.example. <b>javascript:alert(1)</b>";
  const parts = split(text);
  assert.equal(parts.map((part) => part.text).join(""), text);
  assert.deepEqual(
    parts.flatMap((part) => part.url ?? []),
    ["https://a.example/x?y=1", "http://b.example/"],
  );
});

test("an address ends where the sentence goes on, however many stops it ends with", () => {
  const stops = ".".repeat(40_000);
  const begun = performance.now();
  assert.deepEqual(
    split(`https://a.example/${stops}x https://b.example/)${stops}`).flatMap((part) => part.url ?? []),
    [`https://a.example/${stops}x`, "https://b.example/"],
  );
  // A pattern that tries from each of them takes seconds.
  assert.ok(performance.now() - begun < 500);
});

test("an address holds no sign that cannot be seen", () => {
  const urls = split("https://a.example/\u202egpj.exe https://b.example\u200b.evil").flatMap(
    (part) => part.url ?? [],
  );
  assert.deepEqual(urls, ["https://a.example/", "https://b.example/"]);
});

test("a name reads as it is, and is none without anything to see", () => {
  assert.equal(plainName("  王小明 "), "王小明");
  assert.equal(plainName("fdp\u202e.exe"), "fdp.exe");
  assert.equal(plainName("👩‍💻 Team"), "👩‍💻 Team");
  for (const empty of ["", " ", "\u200b\u3164", "\u202e", "\u2800\u00ad"])
    assert.equal(plainName(empty), undefined);
});

test("data is indented as far as that helps", () => {
  const deep = `${"[".repeat(3000)}${"]".repeat(3000)}`;
  assert.equal(viewOf(110, { data: deep }).data, deep);
  assert.equal(viewOf(110, { data: '[{"a":[]}]' }).data, '[\n  {\n    "a": []\n  }\n]');
});

test("numbers that nothing can be of are left out", () => {
  const file = { sourceUrl: "https://p.example/f", fileName: "f", fileSize: 1e300 };
  assert.equal(viewOf(105, file).file?.bytes, undefined);
});

test("initials are letters of the name, in any script", () => {
  assert.equal(initials("Bob Chen"), "BC");
  assert.equal(initials("ops-team"), "OT");
  assert.equal(initials("王小明"), "小明");
  assert.equal(initials("<img src=x>"), "IX");
  assert.equal(initials(""), "?");
});
