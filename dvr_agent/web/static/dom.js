// Makes elements.  Texts become text nodes and nothing else: what documents contain is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(2)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Make an HTML element.  An attribute whose value is a function is a listener: {click: open}. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Make an SVG element. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Return the element with an id. */
export const at = (id) => document.getElementById(id);

/** Make a button. */
export const button = (text, click, attributes = {}) => h("button", {type: "button", click, ...attributes}, text);

/** Make a table; cells are texts, or elements.  Without rows it is a line that says so. */
export function table(header, rows, nothing) {
  if (rows.length === 0) return h("p", {class: "quiet"}, nothing);
  const head = h("thead", {}, h("tr", {}, header.map((text) => h("th", {scope: "col"}, text))));
  const body = rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell ?? "–"))));
  return h("div", {class: "scroll"}, h("table", {}, head, h("tbody", {}, body)));
}
