// What all views need: elements, numbers as text, and answers of /api/.
//
// Names, addresses and texts of strangers come into the document as text alone: there is nothing
// here that makes markup of a string, and the policy of the page forbids it.

const SVG = "http://www.w3.org/2000/svg";
const TIMEOUT = 10_000; // milliseconds that an answer may take

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// An element with attributes and children; functions under names like onclick are listeners.
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// The same of a picture.
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function count(number) {
  return number === null || number === undefined ? "–" : number.toLocaleString("en");
}

export function rate(number) {
  if (number === 0) return "0";
  return number < 10 ? number.toFixed(1) : count(Math.round(number));
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = 100 * share;
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

export function ms(number) {
  if (number === null || number === undefined) return "–";
  if (number < 0.1) return "< 0.1 ms";
  if (number < 10) return `${number.toFixed(1)} ms`;
  return number < 10_000 ? `${Math.round(number)} ms` : `${(number / 1000).toFixed(1)} s`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const steps = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = steps.findIndex(([, size]) => seconds >= size);
  if (first < 0) return `${seconds.toFixed(1)} s`;
  const [unit, size] = steps[first];
  const text = `${Math.floor(seconds / size)} ${unit}`;
  if (first === steps.length - 1) return text;
  const [nextUnit, nextSize] = steps[first + 1];
  const rest = Math.floor((seconds % size) / nextSize);
  return rest ? `${text} ${rest} ${nextUnit}` : text;
}

export function octets(number) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (number >= size) return `${(number / size).toFixed(number < 10 * size ? 1 : 0)} ${unit}`;
  }
  return `${number} B`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

// A name without its final dot, but for the root.
export function bare(name) {
  return name.length > 1 && name.endsWith(".") && !name.endsWith("\\.") ? name.slice(0, -1) : name;
}

// Where the page has one name: its waterfall and its answer.
export function nameLink(name, type, text = bare(name)) {
  const path = [name, type].filter(Boolean).map(encodeURIComponent).join("/");
  return el("a", { href: `#/name/${path}` }, text);
}

// What an answer without records is called, by its code: that of one without any is NOERROR.
export function coded(rcode, negative) {
  return negative && rcode === "NOERROR" ? "NODATA" : rcode;
}

export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// The answer of /api/PATH as an object; an ApiError says why there is none.
export async function ask(path, query = {}, signal = undefined) {
  const url = new URL(`/api/${path}`, location.origin);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  const patience = AbortSignal.timeout(TIMEOUT);
  let response;
  try {
    response = await fetch(url, { signal: signal ? AbortSignal.any([signal, patience]) : patience });
  } catch (error) {
    if (signal && signal.aborted) throw error;
    throw new ApiError("unreachable", "The program does not answer.");
  }
  let body;
  try {
    body = await response.json();
  } catch {
    throw new ApiError("unreachable", "That was no answer of the program.");
  }
  if (!response.ok) throw new ApiError(body.error.code, sentence(body.error.message));
  return body;
}

export function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

export function notice(text, kind = "info") {
  return el("p", { class: `notice ${kind}` }, text);
}

export function heading(text, ...more) {
  return el("div", { class: "heading" }, el("h1", { tabindex: "-1" }, text), ...more);
}

// A table, whose cells carry the heads of their columns for narrow screens. A head is a text, or
// [text, class].
export function table(caption, heads, rows, more = {}) {
  const columns = heads.map((head) => (Array.isArray(head) ? head : [head, null]));
  return el("div", { class: "scroll" }, el("table", more,
    el("caption", {}, caption),
    el("thead", {}, el("tr", {},
      columns.map(([text, kind]) => el("th", { scope: "col", class: kind }, text)))),
    el("tbody", {}, rows.map((cells) => row(columns, cells)))));
}

export function row(columns, cells) {
  return el("tr", {}, cells.map((cell, place) => {
    const [label, kind] = columns[place];
    const attributes = { "data-label": label, class: kind };
    if (place === 0) return el("th", { scope: "row", ...attributes }, cell);
    return el("td", attributes, cell);
  }));
}
