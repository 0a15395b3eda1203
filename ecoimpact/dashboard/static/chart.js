// Stacked bars with the range of each sum, drawn by the plotly of the installed package; it is loaded after the first figures.

import { el, byId, put, name, num, shortened, table } from "./dom.js";
import { METRICS, count, number, unitFor } from "./format.js";
import { go } from "./state.js";

let loading = null;
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = el("script", { src: "/plotly.min.js", async: true });
    script.addEventListener("load", () => resolve(globalThis.Plotly));
    script.addEventListener("error", () => reject(new Error("no plotly")));
    document.head.append(script);
  });
  return loading;
}

// plotly renders some markup in texts.
const plain = (text) => shortened(text, 40).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function colour(variable) {
  const probe = el("i", { style: { color: `var(--${variable})`, display: "none" } });
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

let latest = null;
export async function draw(view) {
  latest = view;
  const { series, metric } = view;
  const highest = Math.max(0, ...series.total.map((each) => (each ? each[2] : 0)));
  const unit = unitFor(metric, highest);
  const parts = [...series.parts.map((part, place) => ({ ...part, variable: `s${place}`, mark: `c${place}` }))];
  if (series.others && series.others.some((value) => value > 0)) {
    const isAll = !parts.length;
    parts.push({ key: isAll ? METRICS[metric].title.toLowerCase() : "others", values: series.others, variable: isAll ? "s0" : "rest", mark: isAll ? "c0" : "rest" });
  }
  const isRoomy = byId("chart").clientWidth >= 7 * series.times.length; // whiskers closer than this are a thicket
  const hasRange = isRoomy && series.total.some((each) => each && each[2] > each[0]);
  put("legend", parts.map((part) => el("li", {}, el("i", { class: part.mark }), name(part.key, 40))),
    hasRange ? el("li", {}, el("i", { class: "whisker" }), "low to high") : null,
    series.total.includes(null) ? el("li", {}, el("b", {}, "?"), "unknown") : null);
  byId("course").hidden = !series.times.length;
  if (byId("course").open) courseTable(view);
  if (!series.times.length) {
    globalThis.Plotly?.purge(byId("chart"));
    byId("chart").classList.remove("js-plotly-plot");
    delete byId("chart").dataset.drawn;
    put("chart", el("p", { class: "waiting" }, "There are no requests in this part of the log."));
    return;
  }
  if (!byId("chart").classList.contains("js-plotly-plot")) put("chart", el("p", { class: "waiting" }, "Drawing"));
  let library;
  try {
    library = await plotly();
  } catch {
    put("chart", el("p", { class: "waiting" }, "The chart needs plotly; its figures are in the table below."));
    byId("course").open = true;
    return;
  }
  if (latest !== view) return;
  byId("chart").querySelector(".waiting")?.remove();
  const scaled = (values) => values.map((value) => value * unit.factor);
  const traces = parts.map((part) => ({
    type: "bar", name: plain(part.key), x: series.times, y: scaled(part.values), marker: { color: colour(part.variable) },
    hoverinfo: "text", hovertext: part.values.map((value, place) => `${series.times[place]}<br>${plain(part.key)}: ${number(value, unit)} ${unit.symbol}`), textposition: "none",
  }));
  const known = series.total.map((each) => each ?? [0, 0, 0]);
  if (hasRange) {
    traces.push({
      type: "scatter", mode: "markers", x: series.times, y: scaled(known.map((each) => each[1])), marker: { color: colour("whisker"), size: 1 },
      error_y: { type: "data", symmetric: false, array: scaled(known.map((each) => each[2] - each[1])), arrayminus: scaled(known.map((each) => each[1] - each[0])), color: colour("whisker"), thickness: 1.1, width: series.times.length > 60 ? 0 : 3 },
      hoverinfo: "text", hovertext: known.map((each, place) => `${series.times[place]}<br>${number(each[1], unit)} (${number(each[0], unit)} to ${number(each[2], unit)}) ${unit.symbol}`),
    });
  }
  const gaps = series.times.filter((_, place) => series.total[place] === null);
  if (gaps.length) traces.push({ type: "scatter", mode: "text", x: gaps, y: gaps.map(() => 0), text: gaps.map(() => "?"), textposition: "top center", textfont: { color: colour("alert") }, hoverinfo: "text", hovertext: gaps.map((time) => `${time}<br>nothing known`) });
  const soft = colour("soft");
  const layout = {
    barmode: "stack", bargap: series.times.length > 60 ? 0.15 : Math.max(0.3, 1 - 0.06 * series.times.length), showlegend: false, hovermode: "closest",
    margin: { l: 58, r: 6, t: 22, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: soft },
    xaxis: { type: "category", tickangle: 0, automargin: false, nticks: Math.max(2, Math.floor(byId("chart").clientWidth / 110)), showgrid: false, linecolor: soft, fixedrange: true },
    yaxis: { rangemode: "tozero", gridcolor: colour("line"), zeroline: false, fixedrange: true, exponentformat: "none", separatethousands: true },
    annotations: [{ text: unit.symbol || METRICS[metric].title.toLowerCase(), xref: "paper", yref: "paper", x: 0, y: 1, xanchor: "right", yanchor: "bottom", xshift: -8, yshift: 6, showarrow: false }],
  };
  const chart = byId("chart");
  const first = !chart.classList.contains("js-plotly-plot");
  await library.react(chart, traces, layout, { displayModeBar: false, responsive: true });
  chart.dataset.drawn = `${series.times.length}`;
  if (first) chart.on("plotly_click", (event) => zoom(event.points[0]?.x));
}

// A click on a bar shows its day, month or hour.
function zoom(time) {
  if (!time) return;
  const { level } = latest.series;
  if (level === "hour") return;
  if (level === "day") go({ since: time, until: time });
  else go({ since: `${time}-01`, until: lastDay(time) });
}
export function lastDay(month) {
  const [year, number_] = month.split("-").map(Number);
  return new Date(Date.UTC(year, number_, 0)).toISOString().slice(0, 10);
}

export function courseTable(view = latest) {
  if (!view) return;
  const { series, metric } = view;
  const unit = unitFor(metric, Math.max(0, ...series.total.map((each) => (each ? each[2] : 0))));
  const cell = (testid, value) => num(testid, value, value === null ? "" : number(value, unit), "td");
  const heads = [series.level, "requests", "low", "middle", "high", ...series.parts.map((part) => shortened(part.key, 30))];
  const rows = series.times.map((time, place) => {
    const total = series.total[place] ?? [null, null, null];
    return { testid: "course-row", key: time, cells: [
      el("th", { scope: "row" }, time), num("course-requests", series.requests[place], count(series.requests[place]), "td"),
      cell("course-low", total[0]), cell("course-central", total[1]), cell("course-high", total[2]),
      ...series.parts.map((part, number_) => cell(`course-part-${number_}`, part.values[place])),
    ] };
  });
  put("course-table", table("course-table", `${METRICS[metric].title}${unit.symbol ? ` in ${unit.symbol}` : ""} by ${series.level}`, heads.map((label) => ({ label })), rows));
}

export const redraw = () => latest && draw(latest);
