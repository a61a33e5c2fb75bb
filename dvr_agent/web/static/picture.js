// Draws the topology of one router (`dvrctl -o json show router`, key "topology") as SVG, with live counters.
//
// From left to right: networks inside, the qrouter namespace, the fip and snat namespaces, external networks.  The snat
// namespace is below the qrouter namespace, so that its ports to the networks inside pass underneath.

import {s} from "./dom.js";
import {bytes, rate} from "./format.js";

const WIDTH = {network: 178, namespace: 226};
const GAP_X = 44;
const GAP_Y = 24;
const LINE = 15;
const PAD = 10;
const FIPS = 8; // floating IPs that a box names
const COLUMNS = 4;

/** Draw a graph; returns {element, update}: update(counters) shows counters by namespace and device. */
export function drawTopology(graph) {
  const boxes = new Map(graph.nodes.filter((node) => node.kind !== "outside").map((node) => [node.id, makeBox(node, graph)]));
  place(graph, boxes);
  const width = Math.max(...[...boxes.values()].map((box) => box.x + box.width)) + PAD;
  const height = Math.max(...[...boxes.values()].map((box) => box.y + box.height)) + PAD;
  const wires = graph.edges.map((edge) => drawEdge(edge, boxes)).filter(Boolean);
  const texts = new Map(); // "namespace device" → element of its counters
  const element = s("svg", {
    viewBox: `0 0 ${width} ${height}`, width, class: "picture", role: "img", "aria-label": `Topology: ${graph.title}`,
  }, wires.map((wire) => wire.path), [...boxes.values()].map((box) => drawBox(box, texts)));
  return {element, update: (counters) => update(counters, texts, wires)};
}

const isExternal = (node) => node.kind === "network" && node.external;

function column(node) {
  if (node.kind === "network") return isExternal(node) ? 3 : 0;
  return node.id.startsWith("qrouter-") ? 1 : 2;
}

/** Lay a box's lines out: {node, column, width, height, title, lines: [{text, class, device}]}. */
function makeBox(node, graph) {
  const lines = [];
  for (const device of node.devices) {
    lines.push({text: device.name, class: `device ${device.state}`, device: device.name, note: device.state === "up" ? "" : device.state});
    for (const address of device.addresses) lines.push({text: address, class: "address"});
    if (node.kind === "namespace") lines.push({text: "", class: "counters", counters: device.name});
  }
  const fips = node.translations;
  if (fips.length) lines.push({text: fips.length === 1 ? "floating IP" : `${fips.length} floating IPs`, class: "heading"});
  for (const one of fips.slice(0, FIPS)) {
    lines.push({text: `${one.floating_ip} → ${one.fixed_ip}${one.ports ? ` (${one.ports})` : ""}`, class: "floating"});
  }
  if (fips.length > FIPS) lines.push({text: `and ${fips.length - FIPS} more`, class: "more"});
  if (node.bridge) lines.push({text: `bridge ${node.bridge}`, class: "address"});
  for (const uplink of node.uplinks) lines.push({text: `uplink ${uplink}`, class: "address"});
  for (const outside of graph.nodes) {
    if (outside.kind === "outside" && isExternal(node) && outside.network_id === node.network_id) {
      lines.push({text: `gateway ${outside.name}`, class: "address"});
    }
  }
  return {
    node, lines, column: column(node), width: WIDTH[node.kind], title: titleOf(node), x: 0, y: 0,
    height: PAD + LINE + 6 + lines.length * LINE + (lines.length ? 6 : 0),
  };
}

function titleOf(node) {
  if (node.kind === "network") return `${isExternal(node) ? "external" : "network"} ${node.name.slice(0, 8)}`;
  const [prefix] = node.name.split("-", 1);
  return `${prefix} ${node.title || node.name.slice(prefix.length + 1, prefix.length + 9)}`;
}

function place(graph, boxes) {
  const columns = Array.from({length: COLUMNS}, () => []);
  for (const box of boxes.values()) columns[box.column].push(box);
  let x = PAD;
  for (const inside of columns) {
    for (const box of inside) box.x = x;
    if (inside.length) x += Math.max(...inside.map((box) => box.width)) + GAP_X;
  }
  stack(columns[1], PAD);
  const below = bottom(columns[1]);
  const [snats, fips] = divide(columns[2], (box) => box.node.id.startsWith("snat-"));
  stack(fips, PAD);
  stack(snats, Math.max(below, bottom(fips)));
  for (const inside of [columns[0], columns[3]]) settle(inside, graph, boxes);
}

const bottom = (inside) => Math.max(PAD - GAP_Y, ...inside.map((box) => box.y + box.height)) + GAP_Y;

const divide = (all, condition) => [all.filter(condition), all.filter((one) => !condition(one))];

function stack(inside, from) {
  let y = from;
  for (const box of inside) {
    box.y = y;
    y += box.height + GAP_Y;
  }
}

/** Put boxes beside what they are connected with. */
function settle(inside, graph, boxes) {
  const wanted = new Map(inside.map((box) => {
    const ends = [];
    for (const edge of graph.edges) {
      if (edge.target === box.node.id) ends.push(anchor(boxes.get(edge.source), edge.source_device));
      if (edge.source === box.node.id) ends.push(anchor(boxes.get(edge.target), edge.target_device));
    }
    const known = ends.filter((one) => one !== null);
    return [box, known.length ? Math.min(...known) : PAD];
  }));
  inside.sort((one, other) => wanted.get(one) - wanted.get(other));
  let y = PAD;
  for (const box of inside) {
    box.y = Math.max(y, wanted.get(box) - PAD - LINE);
    y = box.y + box.height + GAP_Y;
  }
}

/** Return the height at which a device's wire ends at its box, null for a box that is not placed. */
function anchor(box, device) {
  if (box === undefined) return null;
  const line = box.lines.findIndex((one) => one.device === device);
  return line < 0 ? box.y + PAD + LINE - 4 : lineY(box, line) - 4;
}

const lineY = (box, line) => box.y + PAD + LINE + 6 + (line + 1) * LINE - 3;

function drawBox(box, texts) {
  const {node} = box;
  const kind = node.kind === "namespace" ? node.id.split("-", 1)[0] : isExternal(node) ? "external" : node.kind;
  return s("g", {class: `box ${kind}`},
    s("title", {}, node.kind === "network" ? `network ${node.name}` : node.name),
    s("rect", {x: box.x, y: box.y, width: box.width, height: box.height, rx: 6}),
    s("text", {x: box.x + PAD, y: box.y + PAD + LINE - 4, class: "title"}, cut(box.title, box.width)),
    box.lines.map((line, number) => {
      const text = s("text", {
        x: box.x + PAD + (line.device || line.class === "heading" || line.class === "more" ? 0 : 8), y: lineY(box, number), class: line.class,
      }, cut(line.note ? `${line.text} (${line.note})` : line.text, box.width));
      if (line.counters) texts.set(`${node.id} ${line.counters}`, text);
      return text;
    }));
}

/** Cut a text to what fits in a box. */
function cut(text, width) {
  const most = Math.floor((width - 2 * PAD) / 6.7);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function drawEdge(edge, boxes) {
  const ends = [[boxes.get(edge.source), edge.source_device], [boxes.get(edge.target), edge.target_device]];
  if (ends.some(([box]) => box === undefined)) return null;
  ends.sort(([one], [other]) => one.column - other.column);
  const [[from, fromDevice], [to, toDevice]] = ends;
  const [x1, y1] = [from.x + from.width, anchor(from, fromDevice)];
  const [x2, y2] = [to.x, anchor(to, toDevice)];
  const bend = GAP_X / 2;
  // A wire over more than one column goes straight at the height of its far end, and bends right after its near end.
  const far = to.column - from.column > 1 && edge.kind === "port";
  const turn = far ? x1 + GAP_X - 8 : x2;
  const line = `M${x1} ${y1}C${x1 + bend} ${y1} ${turn - bend} ${y2} ${turn} ${y2}H${x2}`;
  const path = s("path", {d: line, class: `wire ${edge.kind}`}, s("title", {}, [fromDevice, toDevice].filter(Boolean).join(" – ")));
  return {path, keys: [`${edge.source} ${edge.source_device}`, `${edge.target} ${edge.target_device}`]};
}

function update(counters, texts, wires) {
  const busy = new Set();
  for (const [namespace, devices] of Object.entries(counters)) {
    for (const [device, one] of Object.entries(devices)) {
      const key = `${namespace} ${device}`;
      if (one.rx_rate > 0 || one.tx_rate > 0) busy.add(key);
      const text = texts.get(key);
      if (text) text.textContent = counterText(one);
      text?.classList.toggle("drops", one.drops > 0);
    }
  }
  for (const {path, keys} of wires) path.classList.toggle("busy", keys.some((key) => busy.has(key)));
}

function counterText(one) {
  const way = (sign, total, speed) => `${sign} ${speed > 0 ? rate(speed) : bytes(total)}`;
  const drops = one.drops ? ` · ${one.drops} dropped` : "";
  return `${way("↓", one.rx_bytes, one.rx_rate)}  ${way("↑", one.tx_bytes, one.tx_rate)}${drops}`;
}
