// The page begins here: token, events of the server, what the address bar names, keys.

import {follow, forgetToken, hasToken, keepToken, takeToken} from "./connection.js";
import {at, button, h} from "./dom.js";
import {startEvents} from "./events.js";
import {count, isFine, severity} from "./format.js";
import {showHost} from "./host.js";
import {startKeys} from "./keys.js";
import {markOpen, startList} from "./list.js";
import {showRouter} from "./router.js";
import {onChange, receive, state} from "./state.js";

let view = null; // {close()} of what the content shows
let open = ""; // id of its router

function route() {
  const id = /^#\/router\/([0-9a-f-]{36})/.exec(location.hash)?.[1] ?? "";
  if (view !== null && id === open) return;
  view?.close();
  open = id;
  document.body.classList.toggle("has-router", id !== "");
  at("content").scrollTop = 0;
  view = id ? showRouter(at("content"), id) : showHost(at("content"));
  markOpen(id);
}

const openRouter = (id) => { location.hash = `#/router/${id}`; };

function drawBar() {
  const host = state.host;
  if (host === null) return;
  const bad = [...state.routers.values()].filter((router) => !isFine(router.state)).length;
  at("host-name").textContent = host.host;
  at("host-state").textContent = host.state;
  at("host-state").className = `pill ${severity(host.state)}`;
  at("host-line").textContent = [
    host.mode, host.version, count(state.routers.size, "router"),
    bad ? count(bad, "needs attention", "need attention") : "", host.queue_depth ? `${host.queue_depth} in the queue` : "", host.progress,
  ].filter(Boolean).join(" · ");
  document.title = `${bad ? `(${bad}) ` : ""}${host.host} – dvr-agent`;
}

function drawOutage() {
  const {down} = state;
  at("outage").hidden = down === null;
  at("outage").textContent = down === null ? ""
    : `${down.error}. What is shown is what was last known; routers go on forwarding without the agent.`;
}

function connectionChanged(what, text = "") {
  at("live").className = `live ${what}`;
  at("live").textContent = what === "live" ? "live" : what === "token" ? "no token" : `lost, connecting again: ${text}`;
  if (what === "token") askForToken(text);
}

function askForToken(text) {
  forgetToken();
  const field = h("input", {type: "password", autocomplete: "off", "aria-label": "Token"});
  const begin = () => {
    const token = field.value.trim().replace(/^.*#token=/, "");
    if (!token) return;
    keepToken(token);
    at("login").close();
    start();
  };
  field.addEventListener("keydown", (event) => { if (event.key === "Enter") begin(); });
  at("login").replaceChildren(
    h("h2", {}, "Which token?"),
    h("p", {}, text || "This page needs the token of the host it is about."),
    h("p", {}, "As root on the host, ", h("code", {}, "dvrctl web --url"), " prints the address with the token; paste it here."),
    field, button("Go on", begin, {class: "primary"}),
  );
  if (!at("login").open) at("login").showModal();
}

function start() {
  if (hasToken()) follow(receive, connectionChanged);
  else connectionChanged("token");
}

onChange((what) => {
  if (what.has("host") || what.has("routers")) drawBar();
  if (what.has("down")) drawOutage();
});
takeToken();
startList(openRouter);
startEvents();
startKeys();
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) {
    takeToken();
    at("login").close();
    start();
  }
  route();
});
route();
start();
