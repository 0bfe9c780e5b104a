// A message while it is written, and the request that it becomes.

export type Audience = "one" | "many" | "all";
export type Kind = "notice" | "text" | "custom";
/** Numbers of `mixType`. */
export const MIX = { none: 0, picture: 1, video: 2, file: 3 } as const;
export type Mix = keyof typeof MIX;

export interface Draft {
  audience: Audience;
  receiver: string;
  receivers: string;
  sender: string;
  nickname: string;
  faceUrl: string;
  kind: Kind;
  title: string;
  text: string;
  link: string;
  mix: Mix;
  mediaUrl: string;
  fileName: string;
  onlineOnly: boolean;
}

export const emptyDraft = (sender: string): Draft => ({
  audience: "one",
  receiver: "",
  receivers: "",
  sender,
  nickname: "",
  faceUrl: "",
  kind: "notice",
  title: "",
  text: "",
  link: "",
  mix: "none",
  mediaUrl: "",
  fileName: "",
  onlineOnly: false,
});

/** Receivers as people paste them: apart by spaces, lines, commas or semicolons, each once. */
export function splitReceivers(text: string): string[] {
  return [...new Set(text.split(/[\s,;，；、]+/).filter((id) => id !== ""))];
}

const CONTENT_TYPE: Record<Kind, number> = { text: 101, custom: 110, notice: 1400 };

function media(draft: Draft): object {
  const url = draft.mediaUrl.trim();
  switch (draft.mix) {
    case "none":
      return {};
    case "picture":
      return { pictureElem: { sourcePicture: { url }, bigPicture: { url }, snapshotPicture: { url } } };
    case "video":
      return { videoElem: { videoUrl: url } };
    case "file":
      return { fileElem: { sourceUrl: url, fileName: draft.fileName.trim() } };
  }
}

/** `content`, by the kind of message. */
export function content(draft: Draft): Record<string, unknown> {
  if (draft.kind === "text") return { text: draft.text };
  if (draft.kind === "custom") return { data: draft.text, description: draft.title };
  return {
    notificationName: draft.title,
    notificationFaceURL: draft.faceUrl.trim(),
    notificationType: 1,
    text: draft.text,
    externalUrl: draft.link.trim(),
    mixType: MIX[draft.mix],
    ...media(draft),
  };
}

/** Where it is sent to. */
export const path = (draft: Draft): string =>
  draft.audience === "one" ? "/manager/send_msg" : "/manager/batch_send_msg";

/** The request, without its ids. */
export function request(draft: Draft): Record<string, unknown> {
  const receivers =
    draft.audience === "one"
      ? { recvID: draft.receiver.trim() }
      : draft.audience === "many"
        ? { recvIDList: splitReceivers(draft.receivers) }
        : { isSendAll: true };
  return {
    sendID: draft.sender.trim(),
    ...receivers,
    senderPlatformID: 10,
    senderNickname: draft.nickname.trim(),
    senderFaceURL: draft.faceUrl.trim(),
    content: content(draft),
    contentType: CONTENT_TYPE[draft.kind],
    sessionType: draft.kind === "notice" ? 4 : 1,
    isOnlineOnly: draft.onlineOnly,
  };
}

/** The first thing that is missing, if anything is. */
export function missing(draft: Draft): string | null {
  if (draft.sender.trim() === "") return "Say who sends it.";
  if (draft.audience === "one" && draft.receiver.trim() === "") return "Name a receiver.";
  if (draft.audience === "many" && splitReceivers(draft.receivers).length === 0) return "Name receivers.";
  if (draft.kind === "notice" && draft.title.trim() === "") return "Give it a title.";
  if (draft.text.trim() === "") return "Write its text.";
  if (draft.kind === "notice" && draft.mix !== "none" && draft.mediaUrl.trim() === "")
    return `Give the address of the ${draft.mix}.`;
  return null;
}
