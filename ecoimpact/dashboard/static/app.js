// The page: it asks for the view that its address names, shows it, and looks again while it is seen.

import { byId, el, put, shortened, shown } from "./dom.js";
import { METRICS, count, day } from "./format.js";
import { NAMES, address, follow, go, query, state } from "./state.js";
import { courseTable, draw, redraw } from "./chart.js";
import * as panels from "./panels.js";

const LOOK_MS = 3000;
const SLOW_MS = 15000; // what is estimated again is not asked for at every look
const [FEW, MANY] = [10, 100];
const GROUPS = ["model", "provider", "endpoint", "zone", "methodology", "day", "hour", "month"];

let view = null;
let tag = null;
let shownQuery = null;
let besideAt = 0;
let asking = null;

// --- asking -----------------------------------------------------------------------------------------------------------

class Refused extends Error {}

async function ask(path, signal, headers = {}) {
  const answer = await fetch(path, { signal, headers, cache: "no-store" });
  if (answer.status === 304) return null;
  if (!answer.ok) throw new Refused(await answer.text());
  if (path.startsWith("/api/overview")) tag = answer.headers.get("ETag");
  return answer.json();
}

async function load() {
  asking?.abort();
  const mine = (asking = new AbortController());
  const wanted = query();
  const place = location.search || "?";
  const isNew = wanted !== shownQuery;
  try {
    const found = await ask(`/api/overview${wanted}`, mine.signal, !isNew && tag ? { "If-None-Match": tag } : {});
    if (mine.signal.aborted) return;
    if (found !== null) {
      view = found;
      shownQuery = wanted;
      show();
      if (isNew) byId("said").textContent = `${count(view.total.requests)} requests are shown`;
    }
    live(true);
    problem(null);
    if (isNew || (found !== null && Date.now() - besideAt > SLOW_MS)) await beside(wanted, mine.signal);
    document.documentElement.dataset.ready = place; // all of it is shown
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused) {
      if (isNew) controls();
      problem(error.message);
    } else {
      live(false);
    }
  }
}

async function beside(wanted, signal) {
  besideAt = Date.now();
  const asked = (name, draw_) => ask(`/api/${name}${wanted}`, signal).then((found) => signal.aborted || draw_(found));
  await Promise.all([
    asked("budgets", panels.budgets),
    newest(wanted, signal),
    asked("methodologies", (found) => panels.methodologies(found, view)),
    asked("models", (found) => panels.models(found, view)),
  ]);
}

let listed = FEW;
async function newest(wanted, signal) {
  const path = `/api/requests${wanted}${wanted ? "&" : "?"}number=${listed}`;
  const found = await ask(path, signal);
  if (!signal?.aborted) panels.requests(found, explain, listed === FEW ? () => ((listed = MANY), newest(query())) : null);
}

async function explain(row) {
  const dialog = byId("explained");
  put("steps", el("p", { class: "soft" }, "Working it out"));
  dialog.showModal();
  try {
    panels.steps(await ask(`/api/request?id=${encodeURIComponent(row.id)}`));
  } catch (error) {
    put("steps", el("p", { class: "alert" }, error instanceof Refused ? error.message : "The dashboard cannot be reached."));
  }
}

// --- showing ----------------------------------------------------------------------------------------------------------

function show() {
  const { total } = view;
  document.title = `What LLM calls cost: ${shown(view.log)}`;
  const period = view.first ? (day(view.first) === day(view.last) ? day(view.first) : `${day(view.first)} to ${day(view.last)}`) : "no requests";
  byId("heading").textContent = `${shown(view.log)}, ${period}`;
  const gap = byId("gap");
  gap.hidden = Boolean(total.requests) && !total.unestimated;
  gap.textContent = total.requests
    ? `${count(total.unestimated)} of ${count(total.requests)} requests have no estimate, and are in none of the figures for energy, carbon and water.`
    : "There are no requests in this part of the log.";
  panels.cards(view);
  panels.groups(view);
  panels.coverage(view);
  panels.equivalences(view);
  controls();
  downloads();
  draw(view);
}

function problem(message) {
  const box = byId("problem");
  box.hidden = !message;
  box.textContent = message ?? "";
}

function live(reached) {
  const status = byId("live");
  const text = reached ? "live" : "not reached; these are the last figures";
  if (status.textContent !== text) status.textContent = text;
  status.dataset.state = reached ? "live" : "lost";
}

function options(id, all, chosen, names = {}) {
  const select = byId(id);
  const wanted = chosen && !all.includes(chosen) ? [...all, chosen] : all;
  if (document.activeElement === select && select.dataset.all === JSON.stringify(wanted)) return;
  select.dataset.all = JSON.stringify(wanted);
  select.replaceChildren(...wanted.map((value) => el("option", { value, selected: value === chosen }, names[value] ?? shortened(value, 60))));
}

function controls() {
  const now = state();
  const known = view?.known ?? { models: [], providers: [], labels: {} };
  options("provider", ["", ...known.providers], now.provider ?? "", { "": "all" });
  options("model", ["", ...known.models], now.model ?? "", { "": "all" });
  const labels = Object.keys(known.labels).map((key) => `label:${key}`);
  options("group_by", [...GROUPS, ...labels], now.group_by ?? "model", Object.fromEntries(labels.map((by) => [by, shortened(panels.title(by), 40)])));
  put("labels", Object.entries(known.labels).flatMap(([key, values]) => values.map((value) => el("option", { value: `${key}=${value}` }))).slice(0, 300));
  if (document.activeElement !== byId("label")) byId("label").value = now.label ?? "";
  for (const id of ["since", "until"]) {
    if (document.activeElement !== byId(id)) byId(id).value = /^\d{4}-\d{2}-\d{2}/.test(now[id] ?? "") ? now[id].slice(0, 10) : "";
  }
  for (const button of byId("periods").children) {
    button.setAttribute("aria-pressed", String(!now.until && (now.since ?? "") === button.dataset.since));
  }
  const metric = (shownQuery === query() && view?.metric) || now.metric || "energy";
  put("metrics", Object.entries(METRICS).slice(0, 6).map(([name, { title }]) =>
    el("button", { type: "button", "data-metric": name, "data-testid": `metric-${name}`, "aria-pressed": String(name === metric), on: { click: () => go({ metric: name, sort: "" }) } }, title)));
  byId("clear").hidden = !Object.keys(now).some((name) => !["metric", "sort", "rows", "other_model", "group_by"].includes(name));
  put("path", now.endpoint ? ["only ", el("span", { class: "badge" }, shortened(now.endpoint, 60))] : []);
  if (document.activeElement !== byId("other_model")) byId("other_model").value = now.other_model ?? "";
}

const DOWNLOADS = [
  ["download-csv", "records.csv", "Records, CSV"],
  ["download-jsonl", "records.jsonl", "Records, JSON Lines"],
  ["download-parquet", "records.parquet", "Records, Parquet"],
  ["download-table", "report.csv", "This table, CSV"],
  ["download-html", "report.html", "Report, HTML"],
];

function downloads() {
  put("downloads", DOWNLOADS.map(([id, file, text]) => el("li", {}, el("a", { href: `/download/${file}${query()}`, download: `ecoimpact-${file}`, "data-testid": id }, text))));
}

// --- hearing ----------------------------------------------------------------------------------------------------------

function theme(chosen) {
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  if (chosen) document.documentElement.dataset.theme = chosen;
  byId("theme").setAttribute("aria-pressed", String(dark));
  byId("theme").textContent = dark ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
  redraw();
}

function remembered() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // storage is switched off
  }
}

byId("theme").addEventListener("click", () => {
  const chosen = byId("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark";
  try {
    localStorage.setItem("theme", chosen);
  } catch {
    // it holds until the page is left
  }
  theme(chosen);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(remembered()));
theme(remembered());

for (const button of byId("periods").children) button.addEventListener("click", () => go({ since: button.dataset.since, until: "" }));
for (const id of ["since", "until", "provider", "model", "label"]) byId(id).addEventListener("change", () => go({ [id]: byId(id).value.trim(), rows: "" }));
byId("group_by").addEventListener("change", () => go({ group_by: byId("group_by").value, sort: "", rows: "" }));
byId("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  go({ label: byId("label").value.trim() });
});
byId("other").addEventListener("submit", (event) => {
  event.preventDefault();
  go({ other_model: byId("other_model").value.trim() });
});
byId("clear").addEventListener("click", (event) => {
  event.preventDefault();
  go(Object.fromEntries(NAMES.filter((name) => name !== "metric").map((name) => [name, ""])));
});
byId("close").addEventListener("click", () => byId("explained").close());
byId("course").addEventListener("toggle", () => byId("course").open && courseTable());
addEventListener("statechange", load);
addEventListener("popstate", load);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && load());
setInterval(() => document.visibilityState === "visible" && load(), LOOK_MS);

load();
