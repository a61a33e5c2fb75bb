// The view of this host: what is wrong, all routers at a glance, namespaces of external networks, the daemon's parts.

import {ask} from "./connection.js";
import {h, s, table} from "./dom.js";
import {bytes, clock, count, epoch, isFine, severity, short} from "./format.js";
import {onChange, state} from "./state.js";

const AGAIN_MS = 5000;
const CELL = 15;
const GAP = 50;
const ACROSS = 28;

let current = null;

onChange((what) => {
  if (current === null) return;
  if (what.has("host") || what.has("routers")) current.drawHost();
  if (what.has("routers") || what.has("index")) current.drawPicture();
});

/** Show the host; returns {close}. */
export function showHost(place) {
  current = new HostView(place);
  return current;
}

class HostView {
  constructor(place) {
    this.abort = new AbortController();
    this.parts = {trouble: h("section"), picture: h("section"), daemon: h("section")};
    this.kernel = null;
    place.replaceChildren(h("h1", {}, "This host"), ...Object.values(this.parts));
    this.drawHost();
    this.drawPicture();
    this.look();
  }

  close() {
    this.abort.abort();
    clearTimeout(this.timer);
    if (current === this) current = null;
  }

  async look() {
    if (document.visibilityState === "visible") {
      try {
        this.kernel = await ask("host", {}, this.abort.signal);
        this.drawPicture();
      } catch {
        // the bar says what is wrong with the connection
      }
    }
    if (!this.abort.signal.aborted) this.timer = setTimeout(() => this.look(), AGAIN_MS);
  }

  drawHost() {
    const {host} = state;
    if (host === null) return;
    const bad = host.source?.bad ?? [];
    const lines = [
      ...(host.guard ? [host.guard] : []),
      ...(host.troubles ?? []),
      ...(host.source?.error ? [host.source.error] : []),
      ...bad.map((one) => `bad document ${one.error}`),
      ...(host.fights ?? []).map(fightText),
    ];
    const sick = [...state.routers.values()].filter((router) => !isFine(router.state)).slice(0, 12);
    this.parts.trouble.replaceChildren(
      ...lines.map((text) => h("p", {class: "reason"}, text)),
      sick.length ? h("h2", {}, "Routers that need attention") : "",
      sick.length ? table(["router", "state", "reason"], sick.map((router) => [
        h("a", {href: `#/router/${encodeURIComponent(router.id)}`}, router.name || short(router.id)),
        h("span", {class: severity(router.state)}, router.state), router.reason,
      ]), "") : lines.length ? "" : h("p", {class: "quiet"}, "Nothing needs attention."),
    );
    this.parts.daemon.replaceChildren(h("h2", {}, "The agent"), facts(host));
  }

  drawPicture() {
    this.parts.picture.replaceChildren(h("h2", {}, "Topology of the host"), h("div", {class: "scroll"}, draw(this.kernel)));
  }
}

function fightText(fight) {
  const by = fight.changed_by ? `, last changed by ${fight.changed_by}` : "";
  return `fight about ${fight.object}: ${fight.refused ? "repair refused" : "repaired"} ${fight.repairs} times in 10 minutes${by}`;
}

function facts(host) {
  const counters = host.counters ?? {};
  const source = host.source ?? {};
  const services = Object.entries(host.services ?? {}).filter(([, one]) => one.routers || one.trouble)
    .map(([name, one]) => [name, one.trouble || count(one.routers, "router")]);
  const rows = [
    ["started", `${clock(epoch(host.started))}, process ${host.pid}, version ${host.version}`],
    ["source", [source.source, source.path, source.error || source.state || "ok",
      "documents" in source ? count(source.documents, "document") : ""].filter(Boolean).join(" · ")],
    ["last sync", clock(epoch(host.last_sync))],
    ["audits", `last ${clock(epoch(host.last_audit)) || "none yet"}, next ${clock(epoch(host.next_audit)) || "never"}`],
    ["jobs", `${counters.jobs ?? 0}, ${counters.failures ?? 0} failed, drift repaired in ${counters.drift_repaired ?? 0}`],
    ...services,
  ];
  return h("dl", {class: "facts wide"}, rows.filter(([, text]) => text).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
}

// --- the picture: routers, the namespaces that lead outside, external networks ---------------------------------------

function draw(kernel) {
  const routers = [...state.routers.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  const across = Math.min(Math.max(Math.ceil(Math.sqrt(routers.length * 1.6)), 17), ACROSS);
  const rows = Math.max(Math.ceil(routers.length / across), 1);
  const left = {x: 10, y: 10, width: across * CELL + 20, height: rows * CELL + 44};
  const fips = kernel?.fip ?? [];
  const boxes = fips.map((one, number) => ({x: left.x + left.width + GAP, y: 10 + number * 92, width: 264, height: 78, one}));
  const snat = {x: left.x + left.width + GAP, y: 10 + fips.length * 92, width: 264, height: 44};
  const height = Math.max(left.y + left.height, snat.y + snat.height) + 10;
  const networkX = snat.x + snat.width + GAP;
  const width = networkX + 180;
  const middle = left.y + Math.min(left.height, 90) / 2;
  return s("svg", {viewBox: `0 0 ${width} ${height}`, width, class: "picture", role: "img", "aria-label": "Topology of the host"},
    [...boxes, snat].map((box) => wire(left.x + left.width, middle, box.x, box.y + box.height / 2)),
    boxes.map((box) => wire(box.x + box.width, box.y + box.height / 2, networkX, box.y + box.height / 2)),
    boxes.map((box) => wire(snat.x + snat.width, snat.y + snat.height / 2, networkX, box.y + box.height / 2)),
    cells(left, routers, across, kernel),
    boxes.map((box) => fipBox(box)),
    frame(snat, "snat", [kernel ? `${count(kernel.snat, "snat namespace")}` : "snat namespaces", "traffic without floating IP"]),
    boxes.map((box) => frame({x: networkX, y: box.y + 14, width: 170, height: 44}, "external",
      [`external ${short(box.one.network)}`, box.one.devices.length ? "" : "no fg- device"], `network ${box.one.network}`)));
}

const wire = (x1, y1, x2, y2) => s("path", {d: `M${x1} ${y1}C${x1 + GAP / 2} ${y1} ${x2 - GAP / 2} ${y2} ${x2} ${y2}`, class: "wire"});

function frame(box, kind, lines, title = "") {
  return s("g", {class: `box ${kind}`}, s("title", {}, title || lines[0]),
    s("rect", {x: box.x, y: box.y, width: box.width, height: box.height, rx: 6}),
    lines.filter(Boolean).map((text, number) => s("text", {
      x: box.x + 10, y: box.y + 19 + number * 16, class: number ? "address" : "title",
    }, text)));
}

function fipBox(box) {
  const {one} = box;
  const own = [...state.index.values()].filter((entry) => entry.network === one.network);
  const number = own.reduce((sum, entry) => sum + entry.fips.length, 0);
  return frame(box, "fip", [
    `fip ${short(one.network)}: ${count(one.pairs, "router")}`,
    count(number, "floating IP"),
    ...one.devices.slice(0, 2).map((device) => `${device.name}  ↓ ${bytes(device.rx_bytes)}  ↑ ${bytes(device.tx_bytes)}`),
  ], one.name);
}

function cells(left, routers, across, kernel) {
  const text = `${count(routers.length, "router")}${kernel ? `, ${count(kernel.qrouter, "qrouter namespace")}` : ""}`;
  return s("g", {class: "box qrouter"},
    s("rect", {x: left.x, y: left.y, width: left.width, height: left.height, rx: 6}),
    s("text", {x: left.x + 10, y: left.y + 20, class: "title"}, text),
    routers.map((router, number) => s("a", {href: `#/router/${encodeURIComponent(router.id)}`, tabindex: -1},
      s("rect", {
        x: left.x + 10 + (number % across) * CELL, y: left.y + 32 + Math.floor(number / across) * CELL,
        width: CELL - 3, height: CELL - 3, rx: 2, class: `cell ${severity(router.state)}`,
      }, s("title", {}, `${router.name || router.id}: ${router.state}${router.reason ? `: ${router.reason}` : ""}`)))));
}
