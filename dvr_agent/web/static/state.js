// What the page knows: host, routers, index of documents, events.  Views read it and are told what changed.

import {isFine} from "./format.js";

const EVENTS = 1000;

export const state = {
  host: null,
  routers: new Map(), // id → router, as in the daemon's status
  index: new Map(), // id → {name, fips, own, vms}
  events: [], // oldest first
  down: null, // {kind, error} while the daemon does not answer
  query: "",
  only: "", // a state; "!": those that need attention; empty: all
};

const haystacks = new Map(); // id → text to search in, without addresses
const listeners = new Set();

/** Have a function called with the set of what changed: "host", "routers", "index", "events", "down", "search". */
export const onChange = (listener) => listeners.add(listener);

function changed(...what) {
  const set = new Set(what);
  for (const listener of listeners) listener(set);
}

/** Take one server-sent event in. */
export function receive(event, value) {
  handlers[event]?.(value);
}

const handlers = {
  status({host, routers}) {
    state.host = host;
    state.down = null;
    state.routers = new Map(routers.map((router) => [router.id, router]));
    haystacks.clear();
    changed("host", "routers", "down");
  },
  delta({host, routers, gone}) {
    const what = [];
    if (host) {
      state.host = host;
      what.push("host");
    }
    for (const router of routers) {
      state.routers.set(router.id, router);
      haystacks.delete(router.id);
    }
    for (const id of gone) state.routers.delete(id);
    if (routers.length || gone.length) what.push("routers");
    if (state.down) {
      state.down = null;
      what.push("down");
    }
    changed(...what);
  },
  index({routers}) {
    state.index = new Map(Object.entries(routers));
    haystacks.clear();
    changed("index");
  },
  events(found) {
    const known = new Set(state.events.map(key));
    state.events.push(...found.filter((one) => !known.has(key(one))));
    state.events.sort((one, other) => one.time - other.time);
    state.events.splice(0, Math.max(state.events.length - EVENTS, 0));
    changed("events");
  },
  down(value) {
    state.down = value;
    changed("down");
  },
};

const key = (event) => event.entry ? `made ${event.entry.seq} ${event.time}` : `${event.time} ${event.router} ${event.text}`;

/** Search, or show only some states. */
export function search(query, only) {
  state.query = query;
  state.only = only;
  changed("search");
}

/** Return the routers to list, those that need attention first, as {router, hit}: hit is the address that was found. */
export function found() {
  const words = state.query.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [];
  for (const router of state.routers.values()) {
    if (state.only === "!" ? isFine(router.state) : state.only && router.state !== state.only) continue;
    const hit = words.length ? hitOf(router, words) : "";
    if (hit !== null) rows.push({router, hit});
  }
  return rows.sort(order);
}

function order(one, other) {
  const first = Number(isFine(one.router.state)) - Number(isFine(other.router.state));
  return first || compare(one.router.name, other.router.name) || compare(one.router.id, other.router.id);
}

const {compare} = new Intl.Collator("en", {numeric: true});

/** Return the address by which all words find a router, "" if its name or id does, null if they do not. */
function hitOf(router, words) {
  let hit = "";
  for (const word of words) {
    if (haystack(router).includes(word)) continue;
    const address = addressOf(router.id, word);
    if (address === null) return null;
    hit = address;
  }
  return hit;
}

function haystack(router) {
  let text = haystacks.get(router.id);
  if (text === undefined) {
    text = `${router.name} ${router.id} ${router.state} ${router.reason}`.toLowerCase();
    haystacks.set(router.id, text);
  }
  return text;
}

function addressOf(id, word) {
  if (!/^[0-9a-f.:]+$/.test(word)) return null;
  const entry = state.index.get(id);
  if (entry === undefined) return null;
  const fip = entry.fips.find(([floating, fixed]) => floating.startsWith(word) || (fixed === word));
  if (fip) return `floating IP ${fip[0]}${fip[1] ? ` → ${fip[1]}` : ""}`;
  const vm = entry.vms.find((address) => address.startsWith(word));
  if (vm) return `VM ${vm}`;
  const own = entry.own.find((address) => address.startsWith(word));
  return own ? `router ${own}` : null;
}
