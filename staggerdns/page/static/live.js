// Answers as they happen: rows by server-sent events, the newest above.

import { bare, count, el, heading, ms, nameLink, plural, row } from "./base.js";

const MAX_ROWS = 200; // that the page keeps
const SOURCES = ["cache", "stale", "upstream", "shared", "local", "blocked", "refused"];
const COLUMNS = [
  ["Time", "time"], ["Client", "name"], ["Name", "name"], ["Type", null], ["From", null],
  ["Took", "number"], ["Answer", "name"],
];
const WAIT = 3_000; // milliseconds before another try

function cells(one, shows) {
  const time = new Date(1000 * one.time);
  const shown = one.addresses.slice(0, 3).join(", ");
  const others = one.addresses.length - 3 + one.more;
  return [
    el("time", { datetime: time.toISOString() },
      `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`),
    shows.clients ? one.client : "not shown",
    one.name === null ? "not shown" : nameLink(one.name, one.type),
    one.type,
    el("span", { class: `from source-${one.source}` }, one.source + (one.list ? `: ${one.list}` : "")),
    ms(one.ms),
    one.rcode !== "NOERROR" ? one.rcode
      : `${shown}${others > 0 ? ` and ${count(others)} more` : ""}` || one.rcode,
  ];
}

export function showLive({ main, shows }) {
  const state = el("p", { class: "muted", role: "status" }, "Connecting …");
  const pause = el("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const clear = el("button", { type: "button" }, "Clear");
  const filter = el("input", {
    type: "search", id: "filter", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    placeholder: "name or client",
  });
  const source = el("select", { id: "source" }, el("option", { value: "" }, "all"),
    SOURCES.map((each) => el("option", { value: each }, each)));
  const body = el("tbody");
  const held = el("div", { class: "scroll card" }, el("table", { class: "live" },
    el("caption", { class: "hidden" }, "Answers, the newest first"),
    el("thead", {}, el("tr", {}, COLUMNS.map(([text, kind]) =>
      el("th", { scope: "col", class: kind }, text)))), body));
  main.append(heading("Live"),
    el("div", { class: "tools" }, el("label", { for: "filter" }, "Show"), filter,
      el("label", { for: "source" }, "from"), source, pause, clear), state, held);

  let waiting = [];
  let stream = null;
  let frame = 0;
  let timer = 0;
  let lost = 0;
  let seen = 0;
  let paused = false;
  let said = "";

  // What is read out is short and changes seldom: not each row.
  function tell(text) {
    if (text !== said) state.textContent = said = text;
  }

  function tellState() {
    const missing = lost ? ` ${plural(lost, "row")} left out: there were more than could be shown.` : "";
    tell(paused ? `Paused.${missing}` : seen ? `Live.${missing}` : `Live. Nobody has asked yet.${missing}`);
  }

  function matches(one) {
    const text = filter.value.trim().toLowerCase();
    if (source.value && one.source !== source.value) return false;
    return !text || (one.name || "").toLowerCase().includes(text) || (one.client || "").includes(text);
  }

  function draw() {
    frame = 0;
    const rows = waiting.filter(matches).slice(-MAX_ROWS).reverse();
    waiting = [];
    body.prepend(...rows.map((one) => row(COLUMNS, cells(one, shows))));
    while (body.childElementCount > MAX_ROWS) body.lastElementChild.remove();
    tellState();
  }

  function connect() {
    stream = new EventSource("/api/live");
    stream.addEventListener("open", tellState);
    stream.addEventListener("rows", (event) => {
      if (paused) return;
      const rows = JSON.parse(event.data);
      seen += rows.length;
      waiting.push(...rows);
      if (waiting.length > MAX_ROWS) waiting = waiting.slice(-MAX_ROWS);
      frame ||= requestAnimationFrame(draw);
    });
    stream.addEventListener("lost", (event) => {
      lost = JSON.parse(event.data).lost;
      tellState();
    });
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) {
        tell("The connection is broken. Trying again …");
        return;
      }
      tell("No live rows at the moment: too many watch, or the program does not answer. Trying again …");
      timer = setTimeout(connect, WAIT);
    });
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    tellState();
  });
  clear.addEventListener("click", () => body.replaceChildren());
  connect();
  return () => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    stream.close();
  };
}
