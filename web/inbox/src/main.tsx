import { render } from "preact";
import "./style.css";

render(<h1>Towncrier Inbox</h1>, document.body);
