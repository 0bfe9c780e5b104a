// Notices while no page is open: this browser's subscription at its maker's push service, and the gateway's word of it.
import type { Account } from "./account.ts";
import { currentLanguage } from "./words.ts";

/** `none`: this browser or this gateway has no such notices. `denied`: the user has forbidden them in the browser. */
export type PushState = "none" | "denied" | "off" | "on";

const canPush = () =>
  "serviceWorker" in navigator && "PushManager" in globalThis && "Notification" in globalThis;

/** The present state, without a question to the user. Where it is on, the gateway is told again, as a new sign-in needs it. */
export async function pushState(account: Account): Promise<PushState> {
  if (!canPush()) return "none";
  const key = await gatewayKey(account);
  if (!key) return "none";
  if (Notification.permission === "denied") return "denied";
  const subscription = await currentSubscription();
  if (!subscription) return "off";
  await tell("POST", account, subscription);
  return "on";
}

/** Asks the user, subscribes, and tells the gateway. Only a click may call this: browsers ask for no other reason. */
export async function startPush(account: Account): Promise<PushState> {
  const permission = await Notification.requestPermission();
  if (permission !== "granted") return permission === "denied" ? "denied" : "off";
  const [key, registration] = await Promise.all([gatewayKey(account), navigator.serviceWorker.ready]);
  if (!key) return "none";
  const options = { userVisibleOnly: true, applicationServerKey: key };
  const subscription = await registration.pushManager.subscribe(options).catch(async () => {
    // One that was made for another key of the gateway stands in the way.
    await (await currentSubscription())?.unsubscribe();
    return registration.pushManager.subscribe(options);
  });
  await tell("POST", account, subscription);
  return "on";
}

/** Ends it, here and at the gateway. */
export async function stopPush(account: Account): Promise<PushState> {
  if (!canPush()) return "none";
  const subscription = await currentSubscription();
  if (subscription) {
    // A gateway that cannot be told learns it from the push service.
    await Promise.allSettled([tell("DELETE", account, subscription), subscription.unsubscribe()]);
  }
  return "off";
}

async function currentSubscription(): Promise<PushSubscription | null> {
  const registration = await navigator.serviceWorker.getRegistration();
  return (await registration?.pushManager.getSubscription()) ?? null;
}

/** The key for which a subscription is made; nothing where the gateway sends no Web Push. */
async function gatewayKey({ token }: Account): Promise<string | undefined> {
  const response = await fetch("./devices", { headers: { token } });
  if (!response.ok) return undefined;
  const { webpush_key: key } = await response.json();
  return typeof key === "string" ? key : undefined;
}

async function tell(
  method: "POST" | "DELETE",
  account: Account,
  subscription: PushSubscription,
): Promise<void> {
  const lang = currentLanguage() === "zh" ? "zh-CN" : "en";
  const device = {
    provider: "webpush",
    token: JSON.stringify(subscription),
    ...(method === "POST" && { lang }),
  };
  const response = await fetch("./devices", {
    method,
    headers: { token: account.token, "content-type": "application/json" },
    body: JSON.stringify(device),
  });
  if (!response.ok) throw new Error(String(response.status));
}
