import { render } from "preact";
import "./style.css";

render(<h1>Towncrier Console</h1>, document.body);
