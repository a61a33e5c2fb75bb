// Keys of the whole page; the list has those of a list (list.js).

import {at, button, h} from "./dom.js";

const KEYS = [
  ["/", "search", () => { at("search").focus(); at("search").select(); }],
  ["l", "the list of routers; then ↑ ↓ Page Up, Page Down, Home, End, and Enter to open", () => at("list").focus()],
  ["d", "details", () => at("content").focus()],
  ["e", "events", () => at("events").focus()],
  ["w", "why? of the router that is open", () => document.querySelector("[data-why-router]")?.click()],
  ["h", "this host", () => { location.hash = "#/"; }],
  ["?", "these keys", showKeys],
];

/** Begin to listen. */
export function startKeys() {
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target === at("search")) {
      at("search").value = "";
      at("search").dispatchEvent(new Event("input"));
      at("list").focus();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, dialog")) return;
    const known = KEYS.find(([key]) => key === event.key);
    if (known) {
      known[2]();
      event.preventDefault();
    }
  });
}

function showKeys() {
  at("keys").replaceChildren(
    h("h2", {}, "Keys"),
    h("dl", {}, KEYS.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)])),
    button("Close", () => at("keys").close(), {class: "primary"}),
  );
  at("keys").showModal();
}
