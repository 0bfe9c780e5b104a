// What components listen to.
import { useEffect, useReducer, useState } from "preact/hooks";
import { currentRoute, type Route } from "./route.ts";
import { currentLanguage, onLanguage } from "./words.ts";

/** Renders again whenever `listen` says so. */
export function useChanges(listen: (listener: () => void) => () => void): void {
  const [, change] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    const end = listen(() => change(undefined));
    // What changed between the first rendering and this is not told again.
    change(undefined);
    return end;
  }, [listen]);
}

/** Renders again in another language. */
export function useLanguage(): void {
  useChanges(onLanguage);
  const language = currentLanguage();
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
}

/** What is open now. */
export function useRoute(): Route {
  const [route, setRoute] = useState(currentRoute);
  useEffect(() => on(window, ["hashchange"], () => setRoute(currentRoute())), []);
  return route;
}

/** Whether the browser says that there is a network. */
export function useOnline(): boolean {
  const [isOnline, setOnline] = useState(navigator.onLine);
  useEffect(() => on(window, ["online", "offline"], () => setOnline(navigator.onLine)), []);
  return isOnline;
}

/** Whether the page can be seen now. */
export function useVisible(): boolean {
  const isVisible = () => document.visibilityState === "visible";
  const [visible, setVisible] = useState(isVisible);
  useEffect(() => on(document, ["visibilitychange"], () => setVisible(isVisible())), []);
  return visible;
}

function on(target: EventTarget, events: string[], listener: () => void): () => void {
  for (const event of events) target.addEventListener(event, listener);
  return () => {
    for (const event of events) target.removeEventListener(event, listener);
  };
}
