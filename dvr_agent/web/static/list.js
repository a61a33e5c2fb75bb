// The list of routers: only the rows in sight are elements, so that thousands of routers stay fluid.

import {at, button, h} from "./dom.js";
import {ago, count, isFine, severity, short} from "./format.js";
import {found, onChange, search, state} from "./state.js";

const ROW = 54; // pixels, as in page.css
const BEYOND = 6; // rows above and below what is in sight

let rows = [];
let selected = -1; // of rows
let drawn = false;
let openId = "";
const shown = new Map(); // id → element

const list = at("list");
const space = h("div", {class: "space", role: "presentation"});

/** Begin; open(id) is called when a router is chosen. */
export function startList(open) {
  list.append(space);
  list.addEventListener("scroll", draw, {passive: true});
  list.addEventListener("keydown", (event) => move(event, open));
  list.addEventListener("click", (event) => {
    const row = event.target.closest("[data-router]");
    if (row) open(row.dataset.router);
  });
  new ResizeObserver(draw).observe(list);
  at("search").addEventListener("input", () => search(at("search").value, state.only));
  at("search").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") list.focus();
    if (event.key === "Enter" && rows.length) open(rows[0].router.id);
  });
  onChange((what) => {
    if (["routers", "index", "search"].some((one) => what.has(one))) refresh();
    if (["host", "routers", "search"].some((one) => what.has(one))) drawStates();
  });
  setInterval(() => shown.forEach((element) => element.remake?.()), 5000);
}

/** Mark the router that is open. */
export function markOpen(id) {
  openId = id;
  const place = rows.findIndex((row) => row.router.id === id);
  if (place >= 0) select(place);
  draw();
}

function refresh() {
  const id = rows[selected]?.router.id ?? openId;
  rows = found();
  selected = rows.findIndex((row) => row.router.id === id);
  space.style.height = `${rows.length * ROW}px`;
  for (const element of shown.values()) element.remove();
  shown.clear();
  draw();
  const all = state.routers.size;
  at("found").textContent = rows.length === all ? count(all, "router") : `${rows.length} of ${count(all, "router")}`;
  if (!drawn && all) {
    drawn = true;
    performance.mark("routers-drawn");
  }
}

function draw() {
  const first = Math.max(Math.floor(list.scrollTop / ROW) - BEYOND, 0);
  const last = Math.min(Math.ceil((list.scrollTop + list.clientHeight) / ROW) + BEYOND, rows.length);
  const wanted = new Set(rows.slice(first, last).map((row) => row.router.id));
  for (const [id, element] of shown) {
    if (!wanted.has(id)) {
      element.remove();
      shown.delete(id);
    }
  }
  for (let place = first; place < last; place += 1) drawRow(place);
  list.setAttribute("aria-activedescendant", selected >= 0 ? `row-${rows[selected]?.router.id}` : "");
}

function drawRow(place) {
  const {router, hit} = rows[place];
  let element = shown.get(router.id);
  if (element === undefined) {
    element = h("div", {class: "row", role: "option", id: `row-${router.id}`, "data-router": router.id});
    element.remake = () => element.replaceChildren(...cells(router, hit));
    element.remake();
    shown.set(router.id, element);
    space.append(element);
  }
  element.style.transform = `translateY(${place * ROW}px)`;
  element.setAttribute("aria-selected", String(router.id === openId));
  element.classList.toggle("at", place === selected);
}

function cells(router, hit) {
  const fips = state.index.get(router.id)?.fips.length;
  const detail = hit || (isFine(router.state) ? "" : router.reason) || short(router.id);
  const retry = router.retry_at ? `retry ${ago(router.retry_at)}` : "";
  return [
    h("span", {class: `dot ${severity(router.state)}`, title: router.state}),
    h("span", {class: "name"}, router.name || short(router.id)),
    h("span", {class: "right"}, retry || (fips ? count(fips, "FIP") : "")),
    h("span", {class: `detail${hit ? " hit" : ""}`}, detail),
    h("span", {class: "right"}, isFine(router.state) ? router.vrrp : router.state),
  ];
}

function move(event, open) {
  const page = Math.max(Math.floor(list.clientHeight / ROW) - 1, 1);
  const steps = {ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length};
  if (event.key === "Enter" && rows[selected]) {
    open(rows[selected].router.id);
  } else if (event.key in steps) {
    select(Math.min(Math.max(selected + steps[event.key], 0), rows.length - 1));
    draw();
  } else {
    return;
  }
  event.preventDefault();
}

function select(place) {
  selected = place;
  const top = place * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
}

function drawStates() {
  const numbers = new Map();
  for (const router of state.routers.values()) numbers.set(router.state, (numbers.get(router.state) ?? 0) + 1);
  const bad = [...numbers].filter(([one]) => !isFine(one)).reduce((sum, [, number]) => sum + number, 0);
  const chips = [["", "all", state.routers.size], ["!", "need attention", bad]];
  for (const one of [...numbers.keys()].sort()) chips.push([one, one, numbers.get(one)]);
  const focused = document.activeElement?.dataset?.only;
  at("states").replaceChildren(...chips.map(([only, text, number]) => button(
    `${text} ${number}`, () => search(state.query, only),
    {class: `chip ${only && only !== "!" ? severity(only) : ""}`, "aria-pressed": String(state.only === only), "data-only": only},
  )));
  if (focused !== undefined) at("states").querySelector(`[data-only="${CSS.escape(focused)}"]`)?.focus();
}
