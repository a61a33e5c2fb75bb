// History of one router: what the agent changed, rule by rule, in the words of `dvrctl plan`.

import {ask} from "./connection.js";
import {h} from "./dom.js";
import {clock} from "./format.js";

const LIMIT = 50;
const SIGNS = {"+": "add", "-": "remove", "~": "change"};

/** Return all changes of an entry of the history as an element. */
export function changesOf(entry) {
  const lines = [];
  for (const {name, action, changes} of entry.namespaces ?? []) {
    lines.push(h("div", {class: `namespace ${SIGNS[action] ?? ""}`}, `${"+-".includes(action) ? `${action} ` : ""}namespace ${name}`));
    for (const one of changes ?? []) {
      lines.push(h("div", {class: SIGNS[one.action] ?? ""}, `${one.action} ${one.text}${one.was ? ` (was: ${one.was})` : ""}`));
    }
  }
  const by = (entry.by ?? []).map((one) => h("div", {class: "by"}, authorText(one)));
  const about = [entry.reason, entry.request_id, entry.milliseconds !== undefined ? `${entry.milliseconds.toFixed(1)} ms` : ""];
  return h("div", {class: "changes"}, lines, by, h("div", {class: "quiet"}, about.filter(Boolean).join(" · ")));
}

/** What was heard of a drift, and who did it where the kernel told. */
function authorText({text, program, pid}) {
  const known = program && !text?.includes(program);
  return `heard: ${text ?? ""}${known ? `, changed by ${program} (process ${pid})` : ""}`;
}

/** Return the history of a router as an element. */
export async function historyOf(id, signal) {
  try {
    const {entries} = await ask("history", {router: id, limit: LIMIT}, signal);
    if (!entries?.length) return h("p", {class: "quiet"}, "The agent has changed nothing of this router yet.");
    const newest = [...entries].sort((one, other) => other.seq - one.seq).slice(0, LIMIT);
    return h("ol", {class: "history"}, newest.map((entry) => h("li", {}, h("details", {},
      h("summary", {}, h("time", {}, clock(entry.time)), " ", h("span", {class: "kind"}, entry.job), " ", numbers(entry)),
      changesOf(entry)))));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return h("p", {class: "quiet"}, error.kind === "missing" ? `${error.message}: changes are in the journal (journalctl -u dvr-agent).` : error.message);
  }
}

function numbers(entry) {
  const found = {"+": 0, "-": 0, "~": 0};
  for (const {action, changes} of entry.namespaces ?? []) {
    if (action !== "~" && action in found) found[action] += 1;
    for (const one of changes ?? []) found[one.action] = (found[one.action] ?? 0) + 1;
  }
  const words = [["+", "added"], ["~", "changed"], ["-", "removed"]].filter(([sign]) => found[sign]);
  return words.map(([sign, word]) => `${found[sign]} ${word}`).join(", ") || entry.reason || "unchanged";
}
