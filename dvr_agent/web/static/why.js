// The answer of `dvrctl why` in a dialog.

import {ask} from "./connection.js";
import {at, button, h} from "./dom.js";
import {count} from "./format.js";

let abort = null;

/** Ask why a floating IP, an address or a router does not work, and show the answer. */
export async function showWhy(subject, title) {
  abort?.abort();
  abort = new AbortController();
  const {signal} = abort;
  const dialog = at("why");
  draw(title, h("p", {class: "waiting"}, "looking at document, kernel and daemon …"));
  if (!dialog.open) dialog.showModal();
  dialog.onclose = () => abort?.abort();
  try {
    draw(title, answer(await ask("why", {of: subject}, signal)));
  } catch (error) {
    if (error.name === "AbortError") return;
    draw(title, h("p", {class: error.kind === "missing" ? "quiet" : "bad"},
      error.kind === "missing" ? `${error.message}.` : error.message));
  }
}

/** Make the button that asks. */
export const whyButton = (subject, title, attributes = {}) =>
  button("why?", () => showWhy(subject, title), {class: "small", "aria-label": `Why: ${title}`, ...attributes});

function draw(title, content) {
  at("why").replaceChildren(
    h("h2", {}, `Why? ${title}`), ...[content].flat().filter(Boolean),
    button("Close", () => at("why").close(), {class: "primary", autofocus: true}),
  );
}

function answer({sentence, steps, advice}) {
  const all = steps ?? [];
  const wrong = all.filter((step) => step.verdict === "wrong");
  const notOk = all.filter((step) => step.verdict !== "ok");
  const list = (some) => h("ol", {class: "steps"}, some.map((step) => h("li", {class: step.verdict},
    h("span", {class: "verdict"}, step.verdict), h("b", {}, step.step), " ", step.text, step.object && h("code", {}, step.object))));
  return [
    h("p", {class: `sentence ${wrong.length ? "bad" : "good"}`}, sentence ?? ""),
    advice && h("p", {class: "advice"}, "What to do: ", withCode(advice)),
    wrong.length ? list(notOk) : "",
    wrong.length ? h("details", {}, h("summary", {}, `all ${count(all.length, "step")}`), list(all)) : list(all),
  ];
}

/** Make the parts of a text between backticks code. */
const withCode = (text) => text.split("`").map((part, number) => (number % 2 ? h("code", {}, part) : part));
