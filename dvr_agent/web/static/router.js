// The view of one router: state, why, picture, floating IPs, interfaces, history, objects in the kernel.

import {ask} from "./connection.js";
import {followCounters} from "./counters.js";
import {button, h, table} from "./dom.js";
import {ago, clock, count, epoch, isFine, severity} from "./format.js";
import {historyOf} from "./history.js";
import {drawTopology} from "./picture.js";
import {onChange, state} from "./state.js";
import {whyButton} from "./why.js";

const AGAIN_MS = 20000;
const SOON_MS = 700; // several changes of a router in a row are one look at it

let current = null;

onChange((what) => {
  if (current && (what.has("routers") || what.has("down"))) current.statusChanged();
});

/** Show a router; returns {close}. */
export function showRouter(place, id) {
  current = new RouterView(place, id);
  return current;
}

class RouterView {
  constructor(place, id) {
    this.id = id;
    this.abort = new AbortController();
    this.namespaces = [];
    this.parts = {};
    for (const name of ["head", "picture", "fips", "inside", "history", "kernel"]) this.parts[name] = h("section", {class: name});
    place.replaceChildren(...Object.values(this.parts));
    this.parts.picture.append(h("p", {class: "waiting"}, "reading the kernel …"));
    this.statusChanged();
    this.look();
    followCounters(() => this.namespaces, id, (counters) => this.picture?.update(counters), this.abort.signal);
  }

  close() {
    this.abort.abort();
    clearTimeout(this.timer);
    if (current === this) current = null;
  }

  statusChanged() {
    const router = state.routers.get(this.id);
    const text = JSON.stringify(router ?? null);
    if (text === this.lastStatus) return;
    const first = this.lastStatus === undefined;
    this.lastStatus = text;
    this.drawHead(router);
    if (!first) this.later(SOON_MS);
  }

  later(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), milliseconds);
  }

  async look() {
    clearTimeout(this.timer);
    if (document.visibilityState === "visible") {
      await Promise.all([this.lookAtKernel(), this.lookAtHistory()]);
    }
    if (!this.abort.signal.aborted) this.later(AGAIN_MS);
  }

  async lookAtKernel() {
    try {
      const answer = await ask("router", {id: this.id}, this.abort.signal);
      const text = JSON.stringify(answer);
      if (text !== this.lastAnswer) this.drawAnswer(answer);
      this.lastAnswer = text;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.lastAnswer = undefined;
      this.parts.picture.replaceChildren(h("h2", {}, "Topology"), h("p", {class: "bad"}, error.message));
    }
  }

  async lookAtHistory() {
    try {
      const found = await historyOf(this.id, this.abort.signal);
      if (found.textContent === this.lastHistory) return;
      this.lastHistory = found.textContent;
      this.parts.history.replaceChildren(h("h2", {}, "History"), found);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  drawHead(router) {
    const copy = button("copy id", () => navigator.clipboard.writeText(this.id), {class: "small"});
    if (router === undefined) {
      this.parts.head.replaceChildren(h("h1", {}, "Router"), h("p", {class: "id"}, h("code", {}, this.id)),
        h("p", {class: "quiet"}, state.host ? "The daemon knows no such router (any more)." : ""));
      return;
    }
    const facts = [
      ["retry", router.retry_at && `${ago(router.retry_at)}, after ${router.failures} failed`],
      ["VRRP", router.vrrp],
      ["last change", epoch(router.last_change) && `${clock(epoch(router.last_change))} (${countsText(router.last_counts)})`],
      ["last job", router.last_seconds && `${(router.last_seconds * 1000).toFixed(1)} ms`],
    ];
    this.parts.head.replaceChildren(
      h("h1", {}, router.name || "(no name)", " ", h("span", {class: `pill ${severity(router.state)}`}, router.state)),
      h("p", {class: "id"}, h("code", {}, this.id), " ", copy, " ",
        whyButton(this.id, router.name || this.id, {"data-why-router": true, "aria-keyshortcuts": "w"})),
      router.reason && h("p", {class: isFine(router.state) ? "quiet" : "reason"}, router.reason),
      h("dl", {class: "facts"}, facts.filter(([, text]) => text).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))),
    );
  }

  drawAnswer(answer) {
    this.namespaces = answer.namespaces.map((one) => one.name).slice(0, 8);
    const omitted = answer.omitted.map((text) => h("p", {class: "bad"}, `left out: ${text}`));
    this.picture = answer.topology ? drawTopology(answer.topology) : null;
    this.parts.picture.replaceChildren(h("h2", {}, "Topology"), ...omitted,
      answer.note && h("p", {class: "quiet"}, answer.note) || "",
      this.picture ? h("div", {class: "scroll"}, this.picture.element)
        : h("p", {class: "quiet"}, "This version of dvrctl draws no topology."));
    this.parts.fips.replaceChildren(h("h2", {}, "Floating IPs"), fipsOf(answer));
    this.parts.inside.replaceChildren(h("h2", {}, "Interfaces"), portsOf(answer));
    const open = new Set([...this.parts.kernel.querySelectorAll("details[open]")].map((one) => one.dataset.key));
    this.parts.kernel.replaceChildren(h("h2", {}, "In the kernel"), ...answer.namespaces.map((one) => namespaceOf(one, open)));
  }
}

function countsText(counts) {
  const texts = Object.entries(counts ?? {}).map(([kind, number]) => count(number, kind, kind.endsWith("s") ? `${kind}es` : `${kind}s`));
  return texts.join(", ") || "nothing";
}

function fipsOf(answer) {
  const places = new Map((answer.topology?.floating_ips ?? []).map((one) => [one.floating_ip, one.translated_in]));
  const rows = answer.floating_ips.map((fip) => {
    const there = places.get(fip.floating_ip);
    const mark = there === undefined ? null : there.length ? h("span", {class: "good"}, there.map((name) => name.split("-", 1)[0]).join(", "))
      : h("span", {class: fip.belongs.startsWith("here") ? "bad" : "quiet"}, "not here");
    return [h("code", {}, fip.floating_ip), h("code", {}, fip.fixed_ip), fip.belongs, mark, whyButton(fip.floating_ip, fip.floating_ip)];
  });
  return table(["floating IP", "fixed IP", "belongs", "translated in", ""], rows, "The document has none.");
}

function portsOf(answer) {
  const ports = [...answer.interfaces.map((one) => ["interface", one]), ...(answer.gateway ? [["gateway", answer.gateway]] : [])];
  const rows = ports.map(([kind, port]) => [kind, h("code", {}, port.device), port.addresses.join(", "), h("code", {}, port.mac), port.mtu,
    h("code", {title: port.network}, port.network.slice(0, 8)), kind === "gateway" ? `on ${port.host || "no host"}, SNAT ${port.enable_snat ? "on" : "off"}` : ""]);
  const routes = answer.routes.map((text) => h("p", {}, "extra route ", h("code", {}, text)));
  return [table(["", "device", "addresses", "MAC", "MTU", "network", ""], rows, "The document has none."), routes]
    .flat().reduce((all, one) => { all.append(one); return all; }, h("div"));
}

function namespaceOf({name, objects, rules}, open) {
  const list = h("pre", {}, objects.join("\n"));
  const tables = Object.entries(rules).map(([table, number]) => `${table}: ${number}`).join(", ");
  const shown = h("pre", {class: "rules"});
  const show = button("show rules", async () => {
    try {
      shown.textContent = (await ask("rules", {namespace: name})).rules.join("\n");
    } catch (error) {
      shown.textContent = error.message;
    }
  }, {class: "small"});
  return h("details", {"data-key": name, open: open.has(name)},
    h("summary", {}, h("code", {}, name), ` ${objects.length} objects`), list, h("p", {}, `rules of the agent: ${tables || "none"} `, show), shown);
}
