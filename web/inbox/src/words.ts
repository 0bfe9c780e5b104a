// Every word on the page, in both languages, and how times and sizes are written.
import { keep, kept, ownName } from "./keep.ts";

/** The languages there are. */
export type Language = "en" | "zh";

const EN = {
  inbox: "Inbox",
  notices: "Notifications",
  signIn: "Sign in",
  signInLead: "Notices from your organisation, each exactly once, on every device.",
  token: "Access token",
  tokenHint: "Your administrator or your office portal gives you one.",
  tokenBad: "This is not an access token. Copy all of it, from the first letter to the last.",
  failed: "That did not work: {0}",
  signOut: "Sign out",
  signOutNote: "Signing out removes the messages from this browser.",
  notify: "Notify me",
  notifyStop: "Stop notifying",
  notifyNote: "This browser shows new messages while no page is open.",
  notifyDenied: "This browser blocks notifications of this page. Allow them in its settings.",
  language: "中文",
  back: "Back",
  close: "Close",
  conversations: "Conversations",
  details: "Details",
  unread: "{0} unread",
  newer: "{0} new",
  newMark: "New",
  today: "Today",
  yesterday: "Yesterday",
  openLink: "Open link",
  picture: "Picture",
  pictureGone: "The picture cannot be shown",
  video: "Video",
  voice: "Voice message",
  file: "File",
  location: "Location",
  card: "Contact card",
  merged: "Chat history",
  custom: "Message for an application",
  withdrawn: "{0} withdrew a message",
  withdrawnHere: "This message was withdrawn",
  unknown: "This kind of message cannot be shown here",
  nothing: "Nothing here yet",
  nothingLead: "What is sent to you appears here the moment it is sent.",
  choose: "Choose a conversation",
  receiving: "Receiving…",
  connecting: "Connecting…",
  live: "Up to date",
  reconnecting: "No connection to the gateway. You see what has arrived; the rest follows by itself.",
  offline: "You are offline. You see what has arrived; the rest follows by itself.",
  signOn:
    "Your organisation or your network asks you to sign on again. You see what has arrived; the rest follows after that.",
  goSignOn: "Sign on",
  replaced: "Your inbox was opened elsewhere, so this page no longer receives.",
  useHere: "Use it here",
  loggedOut: "An administrator signed you out.",
  refused: "The gateway does not accept this sign-in ({0}).",
  signInAgain: "Sign in again",
  renewLead: "Sign in as {0} to go on. Signing in as somebody else removes the messages from this browser.",
  linkLead: "The link that opened this page signs you in as {0}.",
  linkOther: "Signing in removes the messages of {0} from this browser.",
  linkStay: "Stay signed in as {0}",
  storeFailed: "This browser cannot keep messages: {0}",
  storeClosed: "the browser closed the database",
  otherRelease: "another version of this page kept them. Load this page again when there is a connection.",
  anew: "Another version of this page had kept the messages here, so they were fetched anew. What the gateway no longer has is gone.",
  tryAgain: "Try again",
  gone: "Messages {0} to {1} are missing: the gateway no longer had them when this browser asked.",
  goneOne: "Message {0} is missing: the gateway no longer had it when this browser asked.",
  newLog: "The gateway began a new log here. Messages it no longer has cannot follow.",
  onlineOnly: "Not kept: it was sent to whoever is here now",
  from: "From",
  number: "Number",
  messageId: "Message ID",
  moreAbout: "About this message",
  notHere: "This message is not in this browser.",
};

type Words = { [Name in keyof typeof EN]: string };

const ZH: Words = {
  inbox: "收件箱",
  notices: "通知",
  signIn: "登录",
  signInLead: "单位的每一条通知，在每台设备上准确送达一次。",
  token: "访问令牌",
  tokenHint: "由管理员或办公门户提供。",
  tokenBad: "这不是有效的访问令牌，请完整复制后再试。",
  failed: "操作失败：{0}",
  signOut: "退出登录",
  signOutNote: "退出后，此浏览器中的消息将被清除。",
  notify: "通知我",
  notifyStop: "停止通知",
  notifyNote: "页面关闭时，此浏览器也会提示新消息。",
  notifyDenied: "浏览器已禁止此页面的通知，请在浏览器设置中允许。",
  language: "English",
  back: "返回",
  close: "关闭",
  conversations: "会话",
  details: "详情",
  unread: "{0} 条未读",
  newer: "{0} 条新消息",
  newMark: "新",
  today: "今天",
  yesterday: "昨天",
  openLink: "打开链接",
  picture: "图片",
  pictureGone: "图片无法显示",
  video: "视频",
  voice: "语音",
  file: "文件",
  location: "位置",
  card: "名片",
  merged: "聊天记录",
  custom: "应用消息",
  withdrawn: "{0} 撤回了一条消息",
  withdrawnHere: "此消息已被撤回",
  unknown: "暂不支持显示此类消息",
  nothing: "暂无消息",
  nothingLead: "发给您的消息会即时出现在这里。",
  choose: "请选择一个会话",
  receiving: "正在接收…",
  connecting: "正在连接…",
  live: "已是最新",
  reconnecting: "与网关的连接已断开。当前显示已收到的消息，其余将自动补齐。",
  offline: "当前处于离线状态。显示已收到的消息，其余将自动补齐。",
  signOn: "您的单位或网络要求重新验证身份。当前显示已收到的消息，验证后其余将自动补齐。",
  goSignOn: "前往验证",
  replaced: "您的收件箱已在别处打开，此页面不再接收消息。",
  useHere: "在此使用",
  loggedOut: "管理员已将您登出。",
  refused: "网关不接受此次登录（{0}）。",
  signInAgain: "重新登录",
  renewLead: "请以 {0} 的身份重新登录以继续。若以其他用户登录，此浏览器中的消息将被清除。",
  linkLead: "打开此页面的链接将以 {0} 的身份登录。",
  linkOther: "登录后，{0} 在此浏览器中的消息将被清除。",
  linkStay: "继续以 {0} 的身份使用",
  storeFailed: "此浏览器无法保存消息：{0}",
  storeClosed: "浏览器关闭了数据库",
  otherRelease: "消息由此页面的另一版本保存。请在连接恢复后重新加载此页面。",
  anew: "此浏览器中的消息由此页面的另一版本保存，现已重新获取。网关已不再保留的消息无法恢复。",
  tryAgain: "重试",
  gone: "第 {0} 至 {1} 条消息缺失：此浏览器请求时网关已不再保留。",
  goneOne: "第 {0} 条消息缺失：此浏览器请求时网关已不再保留。",
  newLog: "网关从此处启用了新的日志，已不在其中的消息无法补齐。",
  onlineOnly: "不保存：仅发送给当前在线的用户",
  from: "发件人",
  number: "序号",
  messageId: "消息 ID",
  moreAbout: "关于此消息",
  notHere: "此浏览器中没有这条消息。",
};

const KEY = ownName("towncrier.language");
const listeners = new Set<() => void>();
let language: Language = initialLanguage();

function initialLanguage(): Language {
  const chosen = kept(KEY);
  if (chosen === "en" || chosen === "zh") return chosen;
  return navigator.language.startsWith("zh") ? "zh" : "en";
}

/** The language the page speaks now. */
export function currentLanguage(): Language {
  return language;
}

/** Speaks another language from now on, also the next time. */
export function speak(next: Language): void {
  language = next;
  keep(KEY, next);
  for (const listener of listeners) listener();
}

/** Calls `listener` when the language changes. */
export function onLanguage(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The words for `name`, with `{0}`, `{1}` … filled in. */
export function say(name: keyof Words, ...values: (string | number | bigint)[]): string {
  const text = (language === "zh" ? ZH : EN)[name];
  return text.replace(/\{(\d)\}/g, (_, index) => String(values[index]));
}

const locale = () => (language === "zh" ? "zh-CN" : "en-GB");
const formats = new Map<string, Intl.DateTimeFormat>();

/** Making a format takes longer than drawing a card. */
function write(time: Date, form: Intl.DateTimeFormatOptions): string {
  const key = locale() + Object.entries(form);
  let format = formats.get(key);
  if (!format) {
    format = new Intl.DateTimeFormat(locale(), form);
    formats.set(key, format);
  }
  return format.format(time);
}

const day = (time: Date) => new Date(time.getFullYear(), time.getMonth(), time.getDate()).getTime();

/** Today, yesterday, or the date: what stands above the messages of one day. */
export function sayDay(time: Date, now: Date): string {
  const ago = Math.round((day(now) - day(time)) / 86_400_000);
  if (ago === 0) return say("today");
  if (ago === 1) return say("yesterday");
  const form = { weekday: "short", day: "numeric", month: "long" } as const;
  return write(time, time.getFullYear() === now.getFullYear() ? form : { ...form, year: "numeric" });
}

/** Hours and minutes. */
export function sayTime(time: Date): string {
  return write(time, { hour: "2-digit", minute: "2-digit", hour12: false });
}

/** As short as it can be told apart: the time today, else the date. */
export function sayBriefly(time: Date, now: Date): string {
  if (day(time) === day(now)) return sayTime(time);
  return write(
    time,
    time.getFullYear() === now.getFullYear() ? { day: "numeric", month: "short" } : { dateStyle: "short" },
  );
}

/** Date and time in full. */
export function sayFully(time: Date): string {
  return write(time, { dateStyle: "full", timeStyle: "short" });
}

/** Minutes and seconds. */
export function sayDuration(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

/** Bytes in the unit that makes them readable. */
export function saySize(bytes: number): string {
  const units = ["B", "KB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log(Math.max(bytes, 1)) / Math.log(1024)), units.length - 1);
  const value = bytes / 1024 ** power;
  return `${value.toLocaleString(locale(), { maximumFractionDigits: value < 10 && power > 0 ? 1 : 0 })} ${units[power]}`;
}

/** A count that stays narrow. */
export function sayCount(count: number): string {
  return count > 999 ? "999+" : String(count);
}
