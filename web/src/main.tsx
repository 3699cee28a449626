import { render } from "preact";
import { App } from "./app";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/messages.css";
import "./styles/tables.css";
import "./styles/queue.css";
import "./styles/run.css";
import "./styles/samples.css";
import "./styles/records.css";
import "./styles/new-run.css";
import "./styles/phone.css";

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
