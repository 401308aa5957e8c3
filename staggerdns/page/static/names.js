// The names in the cache, and all about one of them.

import {
  ApiError, ask, bare, coded, count, duration, el, heading, ms, nameLink, notice, percent, plural, table,
} from "./base.js";
import { drawWaterfall } from "./waterfall.js";

const PAGE = 250; // names that are fetched at once
const PIECE = 50; // rows that are drawn at once, so that the page stays responsive
const PAUSE = 200; // milliseconds without a key before a search begins
const REFRESH = 2_000; // milliseconds between two looks at a collection under way
const MOST_DEMAND = 255;

const nextFrame = () => new Promise((done) => { requestAnimationFrame(done); });

// A list, and no table: a browser lays out a table as a whole, and thousands of rows take it long.
function nameItem({ name, types, demand }) {
  return el("li", {},
    nameLink(name, types.includes("A") ? "A" : types[0]),
    el("span", { class: "types" }, types.map((type) => nameLink(name, type, type))),
    el("span", { class: "muted number" }, `in demand ${demand >= MOST_DEMAND ? `${MOST_DEMAND} s or more` : `${demand} s`}`));
}

export function showNames({ main }, wanted) {
  const input = el("input", {
    type: "search", id: "q", name: "q", value: wanted, autocomplete: "off", autocapitalize: "off",
    spellcheck: "false", maxlength: 1020, placeholder: "a part of a name", "aria-describedby": "found",
  });
  const found = el("p", { class: "muted", id: "found", role: "status" });
  const held = el("ul", { class: "card names", "aria-label": "Names in the cache", hidden: true });
  const more = el("button", { type: "button", hidden: true }, "More names");
  const form = el("form", { role: "search", class: "search" },
    el("label", { for: "q" }, "Look for"), input, el("button", {}, "Search"));
  main.append(heading("Names"), form, found, held, more);

  let stop = new AbortController();
  let timer = 0;
  let shown = 0;
  let next = null;

  async function load(signal) {
    const q = input.value.trim();
    more.disabled = true;
    try {
      const answer = await ask("names", { q, after: next, limit: PAGE }, signal);
      if (next === null) {
        held.replaceChildren();
        shown = 0;
      }
      next = answer.next;
      held.hidden = answer.names.length === 0 && shown === 0;
      for (let from = 0; from < answer.names.length; from += PIECE) {
        const piece = answer.names.slice(from, from + PIECE);
        held.append(...piece.map(nameItem));
        shown += piece.length;
        await nextFrame();
        if (signal.aborted) return;
      }
      more.hidden = next === null;
      tell(q, answer.complete);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      found.className = "notice warn";
      found.textContent = error.message;
      held.hidden = more.hidden = true;
    }
    more.disabled = false;
  }

  function tell(q, complete) {
    found.className = "muted";
    const which = q ? ` with “${q}”` : "";
    found.textContent = shown
      ? `${next === null ? "" : "The first "}${plural(shown, "name")}${which}${next === null ? "" : ", in alphabetical order"}.`
      : `The cache has no name${which}.`;
    if (!complete) found.textContent += " The cache is too large to look through all of it.";
    if (!shown && q && !/\s/.test(q)) found.append(" ", nameLink(q, "A", `Look at ${q} all the same`));
  }

  function search() {
    clearTimeout(timer);
    stop.abort();
    stop = new AbortController();
    next = null;
    load(stop.signal);
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, PAUSE);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const q = input.value.trim();
    history.replaceState(null, "", q ? `#/names?q=${encodeURIComponent(q)}` : "#/names");
    search();
  });
  more.addEventListener("click", () => load(stop.signal));
  search();
  return () => {
    clearTimeout(timer);
    stop.abort();
  };
}

const PHASES = {
  collecting: "being collected: others may still bring addresses",
  unranked: "not ranked yet",
  fresh: "fresh",
  stale: "expired, and still given while it is asked for again",
  expired: "expired: it is not given any more",
  failure: "a failure, remembered for a moment",
};

function addressRows(addresses) {
  const slowest = Math.max(...addresses.map((one) => one.rtt_ms || 0), 1);
  return addresses.map((one, place) => [
    String(place + 1),
    el("code", {}, one.address),
    one.rtt_ms === null ? "–" : el("span", {}, ms(one.rtt_ms),
      el("meter", { min: 0, max: slowest, value: one.rtt_ms, "aria-hidden": "true" })),
    one.loss ? percent(one.loss) : "–",
    one.from.join(", ") || "–",
    one.why,
    one.seconds_left === undefined || one.seconds_left === null ? "–"
      : duration(Math.max(0, one.seconds_left)),
  ]);
}

function answerSection({ answer, scope, list, local }) {
  const section = el("section", { class: "card", "aria-labelledby": "answer" },
    el("h2", { id: "answer" }, "The answer as it stands"));
  if (list) section.append(notice(`The list ${list} blocks it.`, "warn"));
  if (local && local.rcode) {
    const found = local.addresses.length ? `: ${local.addresses.join(", ")}` : "";
    section.append(el("p", {}, `It is answered here, and nobody is asked: ${local.rcode}${found}.`));
    return section;
  }
  if (local) section.append(el("p", {}, `A record here leads to ${local.cnames.map(bare).join(" → ")}.`));
  if (answer === null) {
    const route = scope.route ? ` Route: ${scope.route}.` : "";
    section.append(el("p", { class: "muted" }, `No answer is kept.${route}`));
    return section;
  }
  const pairs = [
    ["Code", coded(answer.rcode, answer.negative)], ["Phase", PHASES[answer.phase] || answer.phase],
    ["TTL", `${count(answer.ttl)} s`], ["Age", duration(answer.age)],
    ["Route", scope.route || "the default upstreams"],
  ];
  if (answer.error) pairs.push(["Error", answer.error]);
  if (answer.cnames && answer.cnames.length) pairs.push(["Leads to", answer.cnames.map(bare).join(" → ")]);
  const records = Object.entries(answer.records || {}).filter(([, number]) => number);
  if (records.length) {
    pairs.push(["Records", records.map(([where, number]) => `${count(number)} ${where}`).join(", ")]);
  }
  section.append(el("dl", { class: "facts" }, pairs.map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
  if (answer.suppressed) {
    section.append(notice("IPv6 is not given: IPv4 is nearer, or IPv6 accepts no connection.", "warn"));
  }
  if (answer.addresses.length) {
    const [first] = answer.addresses;
    const distance = first.rtt_ms === null ? "" : `, ${ms(first.rtt_ms)} away`;
    const from = first.from.length ? `, brought by ${first.from.join(" and ")}` : "";
    section.append(el("p", { class: "why" }, el("code", {}, first.address), " is first: ",
      el("b", {}, first.why), `${distance}${from}.`));
    section.append(table("Addresses, in the order in which clients get them",
      [["Place", "number"], "Address", ["Round trip", "number"], ["Loss", "number"], "Brought by",
        "Why there", ["Lives for", "number"]],
      addressRows(answer.addresses), { class: "stack" }));
  }
  return section;
}

function askedTable(trace) {
  return el("details", {}, el("summary", {}, "The same as a table"),
    table("Who was asked, and what came of it",
      ["Upstream", "Tier", ["Asked at", "number"], ["Took", "number"], "Result", "Brought",
        ["New", "number"], "Left out"],
      trace.asked.map((one) => [
        one.upstream, one.tier, ms(one.at_ms), ms(one.took_ms),
        [one.result.replaceAll("_", " "), coded(one.rcode, one.result === "negative"),
          one.reason.replaceAll("_", " "), one.first && "first"].filter(Boolean).join(", "),
        one.addresses.join(", ") + (one.more ? ` and ${one.more} more` : "") || "–",
        count(one.new),
        one.dropped.map((drop) => `${drop.address}: ${drop.why}`).join(", ") || "–",
      ]), { class: "stack" }));
}

function sortTable(trace) {
  if (!trace.sorts.length) return null;
  return el("details", {}, el("summary", {}, plural(trace.sorts.length, "sort")),
    table("Sorts, and the orders that they found",
      ["Because of", ["At", "number"], ["Took", "number"], "Result", "Order"],
      trace.sorts.map((one) => [
        one.trigger.replaceAll("_", " "), ms(one.at_ms), ms(one.took_ms),
        one.result.replaceAll("_", " "),
        one.order.map(({ address, rtt_ms: rtt }) => `${address} (${rtt === null ? "not measured" : ms(rtt)})`).join(", ") || "–",
      ]), { class: "stack" }));
}

function traceSection(found, waterfalls) {
  const section = el("section", { class: "card", "aria-labelledby": "waterfall" },
    el("h2", { id: "waterfall" }, "How it was found"));
  const { trace } = found;
  if (trace === null) {
    section.append(el("p", { class: "muted" }, "The collection is not among the latest, which alone are kept."));
    return section;
  }
  const began = new Date(1000 * trace.began);
  section.append(
    el("p", { class: "muted" }, `${trace.running ? "Under way since" : "At"} ${began.toLocaleTimeString("en-GB")}, strategy ${trace.strategy}.`,
      trace.client_ms === null ? "" : ` The client had its answer after ${ms(trace.client_ms)}.`),
    waterfalls.make(trace),
    trace.spared ? el("p", {}, `${plural(trace.spared, "upstream")} left out, to save queries: nothing new was expected there.`) : "",
    askedTable(trace), sortTable(trace) || "");
  return section;
}

// Waterfalls have the width of the screen: they are drawn anew when that changes.
class Waterfalls {
  constructor() {
    this.watcher = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) {
        const width = Math.round(contentRect.width);
        if (width && width !== target.drawnWidth) {
          target.drawnWidth = width;
          // In the next frame: to change a size while sizes are told of would be an error.
          requestAnimationFrame(() => target.replaceChildren(drawWaterfall(target.trace, width)));
        }
      }
    });
  }

  make(trace) {
    const held = el("div", { class: "waterfall" });
    held.trace = trace;
    this.watcher.observe(held);
    return held;
  }

  end() {
    this.watcher.disconnect();
  }
}

export function showName({ main }, name, type) {
  const stop = new AbortController();
  const waterfalls = new Waterfalls();
  const place = el("div", {}, el("p", { class: "muted" }, "One moment …"));
  const types = el("nav", { class: "types", "aria-label": "Types" });
  const again = el("button", { type: "button" }, "Look again");
  main.append(heading(bare(name), types, again), place);
  let timer = 0;
  let wanted = type;

  // Without them, as when too many search, there is the type that was asked for.
  async function typesOf() {
    try {
      const answer = await ask("names", { q: bare(name), limit: 1000 }, stop.signal);
      const one = answer.names.find((other) => bare(other.name) === bare(name.toLowerCase()));
      return one ? one.types : [];
    } catch (error) {
      if (error instanceof ApiError) return [];
      throw error;
    }
  }

  async function showTypes() {
    const known = await typesOf();
    if (!wanted) wanted = known.includes("A") ? "A" : known[0] || "A";
    if (!known.includes(wanted)) known.push(wanted);
    types.replaceChildren(...known.map((each) => {
      const link = nameLink(name, each, each);
      if (each === wanted) link.setAttribute("aria-current", "page");
      return link;
    }));
  }

  async function load() {
    clearTimeout(timer);
    try {
      if (!types.firstChild) await showTypes();
      const found = await ask("why", { name, type: wanted }, stop.signal);
      const never = found.trace === null && found.answer === null;
      place.replaceChildren(never ? "" : traceSection(found, waterfalls), answerSection(found));
      if (found.trace !== null && found.trace.running) timer = setTimeout(load, REFRESH);
    } catch (error) {
      if (stop.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      place.replaceChildren(notice(error.message, "warn"));
    }
  }

  again.addEventListener("click", load);
  load();
  return () => {
    clearTimeout(timer);
    stop.abort();
    waterfalls.end();
  };
}
