// The inbox page.
import { render } from "preact";
import { App } from "./app.tsx";
import "../../theme.css";
import "./style.css";

render(<App />, document.body);

// On secure pages only; the page works without it, but then it needs the gateway to be opened.
navigator.serviceWorker?.register("sw.js").catch(() => {});
