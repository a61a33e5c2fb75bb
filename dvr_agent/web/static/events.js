// The list of events, newest first: what was changed, drift, errors, states.

import {at, button, h} from "./dom.js";
import {clock, short} from "./format.js";
import {changesOf} from "./history.js";
import {onChange, state} from "./state.js";

const SHOWN = 200;
const FILTERS = [
  ["all", () => true],
  ["errors", (event) => event.severity === "bad"],
  ["drift", (event) => event.kind === "drift"],
  ["changes", (event) => Boolean(event.entry)],
];

let filter = FILTERS[0];

/** Begin to show events. */
export function startEvents() {
  drawFilters();
  draw();
  onChange((what) => { if (what.has("events")) draw(); });
}

function drawFilters() {
  at("events-filter").replaceChildren(...FILTERS.map((one) => button(one[0], () => {
    filter = one;
    drawFilters();
    draw();
  }, {class: "chip", "aria-pressed": String(one === filter)})));
}

function draw() {
  const wanted = state.events.filter(filter[1]).slice(-SHOWN).reverse();
  const list = at("events");
  const open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  if (wanted.length === 0) list.replaceChildren(h("li", {class: "quiet"}, "Nothing yet: what happens from now on is shown here."));
  else list.replaceChildren(...wanted.map((event) => item(event, open)));
}

function item(event, open) {
  const key = `${event.time} ${event.router} ${event.text}`;
  const who = event.router
    ? h("a", {href: `#/router/${encodeURIComponent(event.router)}`}, event.name || short(event.router))
    : h("b", {}, "host");
  const line = [h("time", {}, clock(event.time)), " ", h("span", {class: "kind"}, event.kind), " ", who];
  const text = h("div", {class: "text"}, event.text);
  if (!event.entry) return h("li", {class: event.severity}, line, text);
  const more = h("details", {"data-key": key, open: open.has(key)}, h("summary", {}, text), changesOf(event.entry));
  return h("li", {class: event.severity}, line, more);
}
