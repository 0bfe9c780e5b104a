// The page: signing in, or the inbox of who is signed in.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Account, isSameInbox, onOtherTab, remember, remembered, takeLink } from "./account.ts";
import { Conversations, nameOf } from "./conversations.tsx";
import { Detail } from "./detail.tsx";
import { NOTICES } from "./group.ts";
import { useChanges, useLanguage, useRoute } from "./hooks.ts";
import { Icon } from "./icons.tsx";
import { LanguageButton } from "./language.tsx";
import { Mailbox } from "./mailbox.ts";
import { NotifyButton } from "./notify.tsx";
import { stopPush } from "./push.ts";
import { isServed } from "./release.ts";
import { go, goUp, type Route } from "./route.ts";
import { SignIn } from "./signin.tsx";
import { Anew, Banner, type BannerProps, StateWord } from "./state.tsx";
import { Thread } from "./thread.tsx";
import { currentLanguage, say } from "./words.ts";

/** Waits before a database that is lost again and again is opened, ms: they double from the first to the longest. */
const [REOPEN_FIRST, REOPEN_LONGEST] = [1_000, 60_000];

export function App() {
  const [account, setAccount] = useState(remembered);
  const [isRenewing, setRenewing] = useState(false);
  const [link, setLink] = useLink();
  // Another object for the same account: its mailbox is opened anew. Another tab may have signed out meanwhile.
  const reopen = useCallback(() => setAccount(remembered()), []);
  const { mailbox, failure } = useMailbox(account, reopen);
  const enter = (next: Account | undefined) => {
    setRenewing(false);
    setLink(undefined);
    setAccount(next);
  };
  /** What landed is one user's: it leaves with the sign-in. A tab that is frozen may delay that, but holds nobody up. */
  const forget = () => {
    mailbox?.forget().catch(() => {});
    if (account) stopPush(account).catch(() => {});
  };
  useEffect(
    () =>
      onOtherTab(() => {
        const next = remembered();
        // The other tab removes it too, but this one may have opened it again in between.
        if (account && !(next && isSameInbox(account, next))) forget();
        enter(next);
      }),
    [account, mailbox],
  );
  const signIn = (next: Account) => {
    if (account && !isSameInbox(account, next)) signOut();
    remember(next);
    enter(next);
  };
  const signOut = () => {
    remember(undefined);
    go({});
    forget();
    enter(undefined);
  };
  if (!account || isRenewing || link) {
    const onStay = () => setLink(undefined);
    return <SignIn account={account} link={link} onSignIn={signIn} onSignOut={signOut} onStay={onStay} />;
  }
  const actions = {
    onReconnect: () => mailbox?.reconnect(),
    onReopen: reopen,
    onRenew: () => setRenewing(true),
    onSignOut: signOut,
  };
  if (failure) {
    const status = { state: "ended", reason: "store", text: failure } as const;
    return <Banner status={status} {...actions} />;
  }
  return mailbox ? <Inbox mailbox={mailbox} {...actions} /> : null;
}

/** The account of a link that opened the page or was opened in it; `undefined` once it is dealt with. */
function useLink() {
  const [link, setLink] = useState(takeLink);
  useEffect(() => {
    const onHash = () => setLink((before) => takeLink() ?? before);
    addEventListener("hashchange", onHash);
    return () => removeEventListener("hashchange", onHash);
  }, []);
  return [link, setLink] as const;
}

/** The mailbox of the account, open as long as it is signed in here; opened again after its database was lost. */
function useMailbox(account: Account | undefined, reopen: () => void) {
  const [mailbox, setMailbox] = useState<Mailbox>();
  const [failure, setFailure] = useState("");
  const wait = useRef(0);
  useEffect(() => {
    if (!account) return setFailure("");
    let opened: Mailbox | undefined;
    let isOver = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const openedAt = performance.now();
    const lost = (text: string) => {
      if (isOver || timer !== undefined) return;
      // The first time at once, and so again after one that lasted.
      if (performance.now() - openedAt > REOPEN_LONGEST) wait.current = 0;
      if (wait.current > 0) {
        setFailure(text);
        // A tab of another release may want the database otherwise, again and again: one of the two is out of date.
        isServed();
      }
      timer = setTimeout(reopen, wait.current);
      wait.current = Math.min(Math.max(wait.current * 2, REOPEN_FIRST), REOPEN_LONGEST);
    };
    Mailbox.open(account, () => lost(say("storeClosed"))).then(
      (mailbox) => {
        opened = mailbox;
        if (isOver) return void mailbox.close();
        setMailbox(mailbox);
        setFailure("");
      },
      (error) => lost(error instanceof Error ? error.message : String(error)),
    );
    return () => {
      isOver = true;
      clearTimeout(timer);
      setMailbox(undefined);
      opened?.close();
    };
  }, [account, reopen]);
  // The one before is closed, or will be in a moment.
  return { mailbox: mailbox?.account === account ? mailbox : undefined, failure };
}

function Inbox({ mailbox, ...actions }: { mailbox: Mailbox } & Omit<BannerProps, "status">) {
  useLanguage();
  useChanges(useCallback((listener: () => void) => mailbox.onChange(listener), [mailbox]));
  const route = useWideRoute();
  useTitle(mailbox.unread);
  const { groups, status } = mailbox;
  const open = groups.find(({ group }) => group === route.group);
  // A conversation that is not here, as after somebody else was signed in, has no messages to open either.
  const depth = !open ? "list" : route.place === undefined ? "thread" : "detail";
  return (
    <div class={`inbox shows-${depth}`}>
      <Banner status={status} {...actions} />
      {mailbox.isAnew && <Anew />}
      <div class="side">
        <header class="bar">
          <img class="logo" src="icon.svg" alt="" width="28" height="28" />
          <h1 class="bar-title">{say("inbox")}</h1>
          <StateWord status={status} />
        </header>
        <Conversations list={groups} open={open?.group} />
        <footer class="foot">
          <span class="who" title={mailbox.account.user}>
            {mailbox.account.user}
          </span>
          <NotifyButton account={mailbox.account} />
          <LanguageButton />
          <button type="button" class="plain" onClick={actions.onSignOut} title={say("signOutNote")}>
            <Icon name="exit" />
            {say("signOut")}
          </button>
        </footer>
      </div>
      <main class="middle">
        {open ? (
          <>
            <header class="bar">
              <button type="button" class="plain back" onClick={() => goUp({})} aria-label={say("back")}>
                <Icon name="back" />
              </button>
              <h2 class="bar-title">{nameOf(open)}</h2>
            </header>
            <Thread
              key={open.group}
              mailbox={mailbox}
              group={open.group}
              name={nameOf(open)}
              open={route.place}
            />
          </>
        ) : (
          <div class="empty">
            <Icon name="bell" />
            <p class="quiet">{say("choose")}</p>
          </div>
        )}
      </main>
      {open && route.place !== undefined && (
        <Detail mailbox={mailbox} group={open.group} place={route.place} />
      )}
    </div>
  );
}

/** Where there is room for the list and a conversation, the notices are open when nothing else is. */
function useWideRoute(): Route {
  const route = useRoute();
  const [isWide, setWide] = useState(wide.matches);
  useEffect(() => {
    const onChange = () => setWide(wide.matches);
    wide.addEventListener("change", onChange);
    return () => wide.removeEventListener("change", onChange);
  }, []);
  return route.group === undefined && isWide ? { group: NOTICES } : route;
}

/** As in the style sheet. */
const wide = matchMedia("(min-width: 720px)");

/** The number of what is unread, on the tab and on the icon of an installed page. */
function useTitle(unread: number): void {
  const language = currentLanguage();
  useEffect(() => showUnread(unread), [unread, language]);
  // After signing out there is nothing of it left to see.
  useEffect(() => () => showUnread(0), []);
}

function showUnread(unread: number): void {
  document.title = `${unread > 0 ? `(${unread}) ` : ""}${say("inbox")} · Towncrier`;
  // Where there is no icon to mark there is nothing to do.
  navigator.setAppBadge?.(unread).catch(() => {});
}
