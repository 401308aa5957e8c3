// The waterfall of one collection as a picture: a bar for each upstream on a common axis of time,
// by tiers, the moment when the client had its answer, and the sorts below.

import { coded, ms, plural, svg } from "./base.js";

const NARROW = 620; // pixels below which what belongs to a bar stands above it
const BAR = 16;
const AXIS = 26;
const MOST_SORTS = 4; // the latest of them; all are in the table
const TIERS = {
  shared: "Second level", active: "Active tier, at once", staggered: "Staggered tier, in batches",
};
const STEPS = [1, 2, 5];

// How long the axis is: a little longer than until the last good answer. What took longer, an
// upstream that never answered for instance, would make all others short: it goes on beyond.
function spanOf(trace) {
  const good = trace.asked.filter((one) => one.result === "positive" || one.result === "negative");
  const ends = (good.length ? good : trace.asked).map((one) => one.at_ms + (one.took_ms || 0));
  const begins = trace.asked.map((one) => one.at_ms);
  const last = Math.max(1, trace.client_ms || 0, ...ends, ...begins);
  const sorted = trace.sorts.map((one) => one.at_ms + (one.took_ms || 0));
  return Math.max(1.15 * last, Math.min(1.06 * Math.max(0, ...sorted), 1.6 * last));
}

function ticks(span, most) {
  let size = 10 ** Math.floor(Math.log10(span / most));
  const step = STEPS.find((each) => span / (size * each) <= most);
  size *= step || 10;
  const found = [];
  for (let at = 0; at <= span; at += size) found.push(at);
  return found;
}

function shorten(text, pixels, letter = 7.2) {
  const most = Math.max(4, Math.floor(pixels / letter));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function said(one) {
  const took = one.took_ms === null ? "" : `${ms(one.took_ms)}, `;
  return `${took}${what(one)}${one.first ? ", first" : ""}`;
}

function what(one) {
  if (one.alias) return `leads to ${one.alias}`;
  if (one.result === "negative") return coded(one.rcode, true);
  if (one.result !== "positive") {
    return [(one.reason || one.result).replaceAll("_", " "), one.rcode].filter(Boolean).join(", ");
  }
  const brought = one.addresses.length + (one.more || 0);
  const fresh = one.new === brought || one.first ? "" : `, ${one.new} new`;
  return `${plural(brought, "address", "addresses")}${fresh}`;
}

function label(trace) {
  const rows = trace.asked.map((one) => `${one.upstream}, ${one.tier} tier, asked at ${ms(one.at_ms)}: ${said(one)}`);
  const client = trace.client_ms === null ? "" : ` The client had its answer after ${ms(trace.client_ms)}.`;
  return `Waterfall of ${plural(trace.asked.length, "upstream")}. ${rows.join(". ")}.${client}`;
}

export function drawWaterfall(trace, width) {
  const narrow = width < NARROW;
  const left = narrow ? 0 : Math.min(230, Math.max(130, width * 0.22));
  const right = narrow ? 0 : 190;
  const span = spanOf(trace);
  const axis = width - left - right - 2;
  const x = (at) => left + 1 + (axis * Math.min(at, span)) / span;
  const rowHeight = narrow ? 42 : 28;
  const picture = svg("svg", { class: "bars", width, role: "img", "aria-label": label(trace) });
  const grid = svg("g", { class: "grid" });
  const rows = svg("g");
  const client = svg("g", { class: "client" });
  picture.append(grid, client, rows);
  let y = AXIS + 6;

  const text = (at, line, content, attributes = {}) => svg("text", { x: at, y: line, ...attributes }, content);

  // What shows that a bar goes on beyond the axis.
  const beyond = (top, height) => svg("path", {
    class: "beyond", d: `M${width - right - 8} ${top + height / 2 - 4}l4 4l-4 4`,
  });

  function bar(one, top) {
    const end = one.took_ms === null ? span : one.at_ms + one.took_ms;
    const shape = svg("rect", {
      class: `bar ${one.tier} ${one.result}${one.first ? " first" : ""}`,
      x: x(one.at_ms), y: top, width: Math.max(3, x(end) - x(one.at_ms)), height: BAR, rx: 3,
    }, svg("title", {}, `${one.upstream}: ${said(one)}`));
    const group = svg("g", { class: "asked", "data-upstream": one.upstream, "data-tier": one.tier }, shape);
    if (end > span) group.append(beyond(top, BAR));
    return group;
  }

  for (const tier of Object.keys(TIERS)) {
    const asked = trace.asked.filter((one) => one.tier === tier);
    if (!asked.length) continue;
    y += 20;
    rows.append(text(0, y, TIERS[tier], { class: "tier" }));
    y += 8;
    for (const one of asked) {
      const drops = one.dropped.length ? `, ${one.dropped.length} left out` : "";
      if (narrow) {
        const who = shorten(one.upstream, width * 0.5);
        const rest = width - who.length * 8 - 10;
        rows.append(text(0, y + 14, who, { class: "upstream" }),
          text(width - 1, y + 14, shorten(said(one) + drops, rest, 6.6), { class: "said end" }));
        rows.append(bar(one, y + 21));
      } else {
        const top = y + (rowHeight - BAR) / 2;
        rows.append(text(0, top + 12, shorten(one.upstream, left - 10), { class: "upstream" }), bar(one, top),
          text(width - right + 10, top + 12, shorten(said(one) + drops, right - 10, 6.6), { class: "said" }));
      }
      y += rowHeight;
    }
  }
  if (trace.sorts.length) {
    y += 20;
    rows.append(text(0, y, "Sorts by round trip", { class: "tier" }));
    y += 8;
    for (const sort of trace.sorts.slice(-MOST_SORTS)) {
      const name = sort.trigger.replaceAll("_", " ");
      const what = `${sort.took_ms === null ? "" : `${ms(sort.took_ms)}, `}${sort.result.replaceAll("_", " ")}`;
      const end = sort.took_ms === null ? span : sort.at_ms + sort.took_ms;
      const top = narrow ? y + 21 : y + (rowHeight - BAR) / 2;
      rows.append(
        text(0, narrow ? y + 14 : top + 12, shorten(name, narrow ? width * 0.5 : left - 10), { class: "upstream" }),
        svg("rect", {
          class: `bar sort ${sort.result}`, x: x(sort.at_ms), y: top + 4, width: Math.max(3, x(end) - x(sort.at_ms)),
          height: BAR - 8, rx: 3,
        }, svg("title", {}, `${name}: ${what}`)),
        end > span ? beyond(top + 4, BAR - 8) : svg("g"),
        narrow ? text(width - 1, y + 14, what, { class: "said end" })
          : text(width - right + 10, top + 12, what, { class: "said" }));
      y += rowHeight;
    }
  }
  const height = y + 8;
  const marks = ticks(span, narrow ? 4 : Math.max(4, Math.floor(axis / 90)));
  marks.forEach((at, place) => {
    grid.append(svg("line", { x1: x(at), x2: x(at), y1: AXIS - 4, y2: height }),
      text(x(at), AXIS - 10, place ? String(Math.round(at * 100) / 100) : "0 ms",
        { class: place ? "tick" : "tick start" }));
  });
  if (trace.client_ms !== null) {
    const at = x(trace.client_ms);
    client.append(
      svg("line", { x1: at, x2: at, y1: AXIS - 4, y2: height }),
      text(at > left + axis / 2 ? at - 5 : at + 5, AXIS + 7, `client answered, ${ms(trace.client_ms)}`,
        { class: at > left + axis / 2 ? "end" : null }));
  }
  picture.setAttribute("height", height);
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return picture;
}
