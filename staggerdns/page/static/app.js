// Which view is shown: by what stands behind the # in the address. A view draws into an element and
// returns what ends it.

import { ApiError, ask, duration, el, notice } from "./base.js";
import { showLive } from "./live.js";
import { showName, showNames } from "./names.js";
import { showOverview, showUpstreams } from "./overview.js";

const TITLES = { overview: "Overview", upstreams: "Upstreams", names: "Names", live: "Live" };
const WATCH_EVERY = 5_000; // milliseconds between two looks at the phase

const main = document.getElementById("main");
const phase = document.getElementById("phase");
const foot = document.getElementById("foot");
let end = () => {};
let navigated = false;
let shows = { names: true, clients: true };

function parse() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { view: parts[0] || "overview", parts: parts.slice(1), query: new URLSearchParams(query) };
}

function draw() {
  const { view, parts, query } = parse();
  if (view === "main") return; // the link that skips to the content
  end();
  main.replaceChildren();
  const current = view === "name" ? "names" : view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[view] || parts[0] || "Nothing here"} – StaggerDNS`;
  main.className = `view-${view}`;
  const tools = { main, shows };
  if (view === "overview") end = showOverview(tools);
  else if (view === "upstreams") end = showUpstreams(tools);
  else if (view === "names") end = showNames(tools, query.get("q") || "");
  else if (view === "name" && parts[0]) end = showName(tools, parts[0], parts[1] || "");
  else if (view === "live") end = showLive(tools);
  else {
    end = () => {};
    main.append(el("h1", { tabindex: "-1" }, "Nothing here"), notice("There is no such view."));
  }
  if (navigated) {
    const title = main.querySelector("h1");
    if (title) title.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  navigated = true;
}

// The phase is told once for each change of it: it is the one thing that is read out.
function tell(kind, text) {
  if (phase.textContent !== text) phase.textContent = text;
  phase.dataset.kind = kind;
}

async function watch() {
  if (!document.hidden) {
    try {
      const overview = await ask("overview");
      const before = shows;
      shows = overview.shows;
      if (overview.phase !== "serving") tell("warn", overview.phase);
      else if (!overview.answering) tell("bad", "no upstream answers");
      else tell("good", "serving");
      foot.textContent = `StaggerDNS ${overview.version} (${overview.build}), up for `
        + `${duration(overview.uptime)}, listening on ${overview.listeners.join(", ")}`;
      main.dispatchEvent(new CustomEvent("overview", { detail: overview }));
      if (before.names !== shows.names || before.clients !== shows.clients) draw();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      tell(error.code === "busy" ? "warn" : "bad", error.code === "busy" ? "busy" : "not reached");
    }
  }
  const often = main.className === "view-overview";
  setTimeout(watch, often ? WATCH_EVERY / 2.5 : WATCH_EVERY);
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", draw);
draw();
watch();
