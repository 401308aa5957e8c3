// The overview, and the upstreams.

import {
  ApiError, ask, count, duration, el, heading, ms, notice, octets, percent, plural, rate, row, svg,
} from "./base.js";

const REFRESH = 3_000; // milliseconds
const SOURCES = {
  cache: "cache", stale: "cache, stale", upstream: "upstreams", shared: "other servers",
  local: "local names", blocked: "blocked", refused: "refused",
};

// A line of numbers, some of which may be unknown, from 0 to the largest or to `top`.
function sparkline(values, top = 0) {
  const width = 240, height = 44, pad = 2;
  const most = Math.max(top, ...values.map((value) => value || 0)) || 1;
  const step = (width - 2 * pad) / Math.max(1, values.length - 1);
  const picture = svg("svg", {
    class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  let run = [];
  const close = () => {
    if (run.length > 1) {
      const line = run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
      const [[first], [last]] = [run[0], run[run.length - 1]];
      picture.append(
        svg("path", { class: "area", d: `M${line}L${last.toFixed(1)} ${height}L${first.toFixed(1)} ${height}Z` }),
        svg("path", { class: "line", d: `M${line}` }));
    }
    run = [];
  };
  values.forEach((value, place) => {
    if (value === null) close();
    else run.push([pad + place * step, height - pad - (height - 2 * pad) * (value / most)]);
  });
  close();
  return picture;
}

function tile(label, value, more, picture = null) {
  return el("section", { class: "tile" },
    el("h2", {}, label), el("p", { class: "value" }, value), picture,
    el("p", { class: "more" }, more));
}

// Shares of a whole as one bar, with what each is called and how much it is.
function shares(parts) {
  const whole = parts.reduce((sum, [, number]) => sum + number, 0);
  if (!whole) return el("p", { class: "muted" }, "Nothing has been asked yet.");
  let place = 0;
  const bar = svg("svg", {
    class: "shares", viewBox: "0 0 1000 14", preserveAspectRatio: "none", "aria-hidden": "true",
  });
  const legend = el("ul", { class: "legend" });
  parts.forEach(([key, number]) => {
    const width = 1000 * number / whole;
    bar.append(svg("rect", { x: place, y: 0, width, height: 14, class: `source-${key}` }));
    place += width;
    legend.append(el("li", {}, svg("svg", { class: "key", viewBox: "0 0 10 10", "aria-hidden": "true" },
      svg("rect", { width: 10, height: 10, rx: 2, class: `source-${key}` })),
    ` ${SOURCES[key] || key} `, el("b", {}, percent(number / whole)),
    el("span", { class: "muted" }, ` ${count(number)}`)));
  });
  return el("div", {}, bar, legend);
}

function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.map(([name, value]) => el("div", {},
    el("dt", {}, name), el("dd", {}, value))));
}

function drawOverview(place, overview) {
  const { traffic, latency, history, cache, collections } = overview;
  const upstream = latency.upstream;
  const busy = overview.blocking.filter((one) => one.paused).map((one) => one.group);
  const sources = Object.entries(traffic.sources).filter(([, number]) => number > 0)
    .sort(([, one], [, other]) => other - one);
  place.replaceChildren(
    el("div", { class: "tiles" },
      tile("Queries a second", rate(traffic.queries_per_second),
        `${count(traffic.answered)} answered since the start`,
        sparkline(history.queries_per_second)),
      tile("From the cache", percent(traffic.cache_share),
        `of the last ${duration(traffic.seconds)}`, sparkline(history.cache_share, 1)),
      tile("Half are answered within", ms(latency.all.p50_ms),
        `95 % within ${ms(latency.all.p95_ms)}, last ${duration(latency.seconds)}`),
      tile("New names: half within", ms(upstream.p50_ms),
        `95 % within ${ms(upstream.p95_ms)}, asked of upstreams`)),
    el("section", { class: "card" }, el("h2", {}, "Where answers came from"), shares(sources)),
    el("section", { class: "card" }, el("h2", {}, "Now"), facts([
      ["Phase", overview.phase],
      ["Upstreams", overview.answering ? "answer" : "do not answer"],
      ["Answers kept", `${count(cache.entries)} of ${count(cache.max_entries)}`],
      ["Their memory", `${octets(cache.octets)} of ${octets(cache.max_octets)}`],
      ["Memory of the process", octets(overview.memory)],
      ["Queries that wait", count(overview.pending)],
      ["Collections", `${count(collections.running)} under way, ${count(collections.ended)} ended`],
      ["Last reload", overview.reload === null ? "none"
        : `${overview.reload.ok ? "successful" : "failed"}, ${duration(overview.reload.seconds_ago)} ago`],
      ...(busy.length ? [["Blocking paused for", busy.join(", ")]] : []),
    ])));
}

export function showOverview({ main }) {
  const place = el("div", {}, el("p", { class: "muted" }, "One moment …"));
  main.append(heading("Overview"), place);
  const update = (event) => drawOverview(place, event.detail);
  main.addEventListener("overview", update);
  ask("overview").then((overview) => drawOverview(place, overview), (error) => {
    if (!(error instanceof ApiError)) throw error;
    place.replaceChildren(notice(error.message, "bad"));
  });
  return () => main.removeEventListener("overview", update);
}

const UPSTREAM_COLUMNS = [
  ["Upstream", "name"], ["Health", null], ["Reply time", "number"], ["First answers", "number"],
  ["Only it brings", "number"], ["Under way", "number"], ["Answered", "number"],
  ["Failed", "number"],
];

function meter(share) {
  return svg("svg", { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", width: 100, height: 8, rx: 4 }),
    svg("rect", { class: "part", width: Math.max(0, Math.min(100, 100 * share)), height: 8, rx: 4 }));
}

function upstreamCells(one) {
  const health = el("span", { class: `health ${one.state}` }, one.state);
  const why = one.state !== "healthy" && one.because ? el("span", { class: "because" }, one.because) : null;
  const reasons = Object.entries(one.failures).filter(([, number]) => number)
    .map(([reason, number]) => `${reason.replaceAll("_", " ")}: ${count(number)}`).join(", ");
  return [
    one.name,
    el("span", {}, health, why),
    one.latency === null ? "–" : el("span", {}, ms(1000 * one.latency),
      el("span", { class: "muted" }, ` ± ${ms(1000 * one.deviation)}`)),
    one.first_share === null || one.first_share === undefined ? "–"
      : el("span", {}, percent(one.first_share), meter(one.first_share)),
    one.only_here === null || one.only_here === undefined ? "–" : count(one.only_here),
    `${count(one.inflight)} of ${count(one.max_inflight)}`,
    count(one.answered),
    el("span", {}, count(one.failed), reasons ? el("span", { class: "because" }, reasons) : null),
  ];
}

export function showUpstreams({ main }) {
  const state = el("p", { class: "muted" }, "One moment …");
  const body = el("tbody");
  const held = el("div", { class: "scroll card", hidden: true }, el("table", { class: "stack" },
    el("caption", { class: "hidden" }, "Upstreams"),
    el("thead", {}, el("tr", {}, UPSTREAM_COLUMNS.map(([text, kind]) =>
      el("th", { scope: "col", class: kind }, text)))), body));
  main.append(heading("Upstreams"), state, held);
  const stop = new AbortController();
  let timer = 0;
  async function refresh() {
    if (!document.hidden) {
      try {
        const { upstreams, collections } = await ask("upstreams", {}, stop.signal);
        body.replaceChildren(...upstreams.map((one) => row(UPSTREAM_COLUMNS, upstreamCells(one))));
        held.hidden = false;
        state.className = "muted";
        state.textContent = collections
          ? `First answers, and addresses that one upstream alone brings, are those of the last ${plural(collections, "collection")}.`
          : "";
      } catch (error) {
        if (stop.signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        state.className = "notice bad";
        state.textContent = error.message;
      }
    }
    timer = setTimeout(refresh, REFRESH);
  }
  refresh();
  return () => {
    stop.abort();
    clearTimeout(timer);
  };
}
