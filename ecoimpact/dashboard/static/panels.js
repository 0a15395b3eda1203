// The parts of the page that are about the whole view: headlines, groups, coverage, and what is estimated again.

import { byId, el, name, num, put, shown, shortened, table } from "./dom.js";
import { METRICS, compact, count, day, moment, number, percent, signed, span, text, unitFor } from "./format.js";
import { address, follow, go, state } from "./state.js";
import { lastDay } from "./chart.js";

// --- headlines ------------------------------------------------------------------------------------------------------

const CARDS = { cost: "cost", energy: "energy", gwp: "gwp", water: "water", requests: "requests" };

export function cards(view) {
  put("cards", Object.keys(CARDS).map((metric) => card(metric, view)));
  const { change } = view;
  byId("compared").textContent = change
    ? `Changes: ${change.is_of_view ? "this period" : `the last ${days(change.hours)}`}, from ${moment(change.since)} to ${moment(change.until)}, against the ${days(change.hours)} before.`
    : "There is no earlier period in the log to compare with.";
}

const days = (hours) => (hours < 48 ? `${count(hours)} hours` : `${count(Math.round(hours / 24))} days`);

function card(metric, view) {
  const { title, exact } = METRICS[metric];
  const value = span(view.total, metric);
  const unit = unitFor(metric, value?.central ?? 0);
  const id = `headline-${metric}`;
  const headline = value === null
    ? el("p", { class: "value unknown", "data-testid": id, "data-unit": exact }, "unknown")
    : el("p", { class: "value", "data-testid": id, "data-value": String(value.central), "data-unit": exact }, number(value.central, unit), unit.symbol ? [" ", el("small", {}, unit.symbol)] : "");
  return el("div", { class: "card", id: `card-${metric}` }, el("h3", {}, title), headline, el("p", { class: "range" }, below(metric, id, value, unit, view.total)), change(metric, id, view.change), ahead(metric, id, view.forecast));
}

function below(metric, id, value, unit, total) {
  if (metric === "requests") return [num(`${id}-input-tokens`, total.input_tokens, compact(total.input_tokens)), " tokens in, ", num(`${id}-output-tokens`, total.output_tokens, compact(total.output_tokens)), " out"];
  if (metric === "cost") return total.unpriced ? [num(`${id}-unpriced`, total.unpriced, count(total.unpriced)), ` without a price`] : [value === null ? "" : "by list price"];
  if (value === null) return [""];
  return [num(`${id}-low`, value.low, number(value.low, unit)), " to ", num(`${id}-high`, value.high, number(value.high, unit)), ` ${unit.symbol}`];
}

function change(metric, id, compared) {
  const now = compared && span(compared.current, metric);
  const before = compared && span(compared.previous, metric);
  if (!now || !before || !before.central) return el("p", { class: "change soft" }, "");
  const share = now.central / before.central - 1;
  const period = compared.is_of_view ? "" : el("span", { class: "soft" }, `${days(compared.hours)}: `);
  return el("p", { class: "change" }, period, num(`${id}-change`, share, signed(share)), el("span", { class: "soft" }, " from ", num(`${id}-previous`, before.central, text(metric, before.central))));
}

function ahead(metric, id, forecast) {
  const then = forecast && span(forecast.expected, metric);
  if (!then) return el("div", { class: "forecast" });
  const unit = unitFor(metric, then.central);
  const range = then.low === then.high ? "" : el("span", {}, num(`${id}-forecast-low`, then.low, number(then.low, unit)), " to ", num(`${id}-forecast-high`, then.high, number(then.high, unit)), ` ${unit.symbol}`);
  return el("div", { class: "forecast" }, el("div", {}, `By the end of ${forecast.month.replace("-", "\u2011")}`, el("br"), num(`${id}-forecast`, then.central, text(metric, then.central), "b"), el("br"), range));
}

// --- groups ---------------------------------------------------------------------------------------------------------

const AFTER = { provider: "model", model: "day", endpoint: "model", day: "hour", month: "day", hour: "model" };

function into(by, key) {
  const next = { sort: "", rows: "", group_by: AFTER[by] };
  if (by === "provider" || by === "model" || by === "endpoint") return { ...next, [by]: key };
  if (by === "day") return { ...next, since: key, until: key, group_by: state().label ? "model" : "hour" };
  if (by === "month") return { ...next, since: `${key}-01`, until: lastDay(key) };
  if (by === "hour") return { ...next, since: `${key}:00`, until: `${new Date(Date.parse(`${key}:00Z`) + 3600000).toISOString().slice(0, 16)}` };
  if (by.startsWith("label:")) return { ...next, label: `${by.slice(6)}=${key}`, group_by: "model" };
  return null;
}

export const title = (by) => (by.startsWith("label:") ? `label ${by.slice(6)}` : by);

export function groups(view) {
  const by = view.group_by;
  byId("h-groups").textContent = `By ${shortened(title(by), 60)}`;
  const largest = (metric) => Math.max(0, ...view.groups.map((row) => span(row, metric)?.central ?? 0));
  const units = Object.fromEntries(["cost", "energy", "gwp", "water"].map((metric) => [metric, unitFor(metric, largest(metric))]));
  const per = unitFor("gwp", Math.max(0, ...view.groups.map((row) => (row.gwp_gco2eq_per_1000_output_tokens_central ?? 0) / 1e3)));
  const sorted = (metric) => view.sort === metric && !["hour", "day", "month"].includes(by);
  const sort = (metric, label, unit) => ({ name: metric, label, unit, sorted: sorted(metric), sort: () => go({ sort: metric }) });
  const heads = [
    { label: shortened(title(by), 40) }, sort("requests", "requests"), { label: "tokens in" }, sort("output_tokens", "tokens out"),
    sort("cost", "cost", units.cost.symbol), sort("energy", "energy", units.energy.symbol), sort("gwp", "carbon", units.gwp.symbol), sort("water", "water", units.water.symbol),
    { label: "carbon per 1k tokens out", unit: per.symbol }, { label: `share of ${METRICS[view.sort].title.toLowerCase()}` },
  ];
  const cells = (key, row) => {
    const middle = (metric) => {
      const value = span(row, metric);
      const ends = value && value.low !== value.high ? el("small", {}, num(`top-${metric}-low`, value.low, number(value.low, units[metric])), " to ", num(`top-${metric}-high`, value.high, number(value.high, units[metric]))) : "";
      return el("td", {}, num(`top-${metric}`, value?.central, value && number(value.central, units[metric])), ends);
    };
    const perThousand = row.gwp_gco2eq_per_1000_output_tokens_central;
    const tokens = row.output_tokens || row.tokens_unknown < row.requests ? row.output_tokens : null;
    return [
      el("th", { scope: "row" }, key), num("top-requests", row.requests, count(row.requests), "td"),
      num("top-input-tokens", row.input_tokens, compact(row.input_tokens), "td"), num("top-output-tokens", tokens, tokens === null ? "" : compact(tokens), "td"),
      middle("cost"), middle("energy"), middle("gwp"), middle("water"),
      num("top-per-1000", perThousand, perThousand === null ? "" : number(perThousand / 1e3, per), "td"),
      el("td", {}, num("top-share", row.share, row.share === null ? "" : percent(row.share, 1)), row.share === null ? "" : el("span", { class: "share", "aria-hidden": "true" }, el("i", { style: { width: `${Math.min(100, row.share * 100)}%` } }))),
    ];
  };
  const rows = view.groups.map((row) => ({ testid: "top-row", key: row.key, cells: cells(link(by, row.key), row) }));
  const foot = [];
  if (view.others) {
    const more = Math.min(200, Math.max(view.groups.length * 2, 50));
    const label = `${count(view.group_count - view.groups.length)} others`;
    const all = view.groups.length < 200 ? el("a", { href: address({ rows: more }), "data-testid": "more", on: { click: follow } }, label) : label;
    foot.push({ testid: "top-others", key: "", cells: cells(all, view.others) });
  }
  foot.push({ testid: "top-total", key: "", cells: cells("total", { ...view.total, share: null }) });
  put("groups", table("top-table", `${count(view.group_count)} ${view.group_count === 1 ? "group" : "groups"}; low and high ends stand below each figure. A name leads to its own figures.`, heads, rows, view.groups.length ? foot : []));
}

function link(by, key) {
  const target = into(by, key);
  if (target === null) return name(key);
  return el("a", { href: address(target), "data-testid": "drill", on: { click: follow } }, name(key));
}

// --- beside them ----------------------------------------------------------------------------------------------------

export function coverage(view) {
  const { total, coverage: found } = view;
  const estimated = total.requests - total.unestimated;
  const partly = Object.entries(METRICS).filter(([, { known }]) => known && total[known] < estimated);
  const shares = {
    estimated: ["with an estimate", estimated],
    ...Object.fromEntries(partly.map(([metric, { title: of, known }]) => [metric, [`with an estimate of ${of.toLowerCase()}`, total[known]]])),
    priced: ["with a price", total.requests - total.unpriced],
    counted: ["with counted tokens", Math.max(0, total.requests - total.tokens_estimated - total.tokens_unknown)],
    ok: ["that succeeded", total.requests - total.not_ok],
  };
  const lines = Object.entries(shares).flatMap(([id, [label, value]]) => {
    const share = total.requests ? value / total.requests : 0;
    return [el("dt", {}, label), el("dd", {}, num(`coverage-${id}`, value, count(value)), ` of ${count(total.requests)} (${percent(Math.floor(share * 1000) / 1000, 1)})`),
      el("dd", { class: "meter", "aria-hidden": "true" }, el("i", { style: { width: `${share * 100}%` } }))];
  });
  const plain = {
    unestimated: ["without an estimate", total.unestimated], unpriced: ["without a price", total.unpriced],
    "tokens-estimated": ["tokens estimated from the answer's length", total.tokens_estimated], "tokens-unknown": ["tokens unknown", total.tokens_unknown],
    "not-ok": ["failed, cancelled or abandoned", total.not_ok], skipped: ["illegible lines in the whole log", found.skipped_lines],
  };
  const missing = Object.entries(plain).flatMap(([id, [label, value]]) => [el("dt", {}, label), num(`coverage-${id}`, value, count(value), "dd")]);
  const codes = (id, title_, all) => Object.keys(all).length
    ? el("div", {}, el("h3", {}, title_), el("dl", {}, Object.entries(all).flatMap(([code, value]) => [el("dt", {}, el("code", {}, shown(code))), num(`${id}-${code}`, value, count(value), "dd")]))) : null;
  put("coverage", el("div", { class: "coverage" },
    el("div", {}, el("h3", {}, "Requests"), el("dl", {}, lines)), el("div", {}, el("h3", {}, "What is missing"), el("dl", {}, missing)),
    [codes("error", "Why there are no figures", found.errors), codes("warning", "What makes figures less certain", found.warnings)].filter(Boolean)),
  el("p", { class: "soft note", "data-testid": "editions" }, found.editions.length ? `Figures by ${found.editions.map(shown).join("; ")}. ` : "", "Records that a program had to drop are known to that program alone: ecoimpact.drops()."));
}

export function equivalences(view) {
  const rows = view.equivalences.flatMap((each) => [el("div", {},
    el("dt", {}, num(`equivalence-${each.name}`, each.central, compactly(each.central), "span", { class: "value" }), ` ${each.unit}`),
    el("dd", {}, num(`equivalence-${each.name}-low`, each.min, compactly(each.min)), " to ", num(`equivalence-${each.name}-high`, each.max, compactly(each.max)), `; ${each.basis} (${each.source}, ${each.date})`))]);
  put("equivalences", rows.length ? el("dl", { class: "feeling" }, rows) : el("p", { class: "soft" }, "Nothing is known to compare."));
}
const compactly = (value) => number(value, { factor: 1 });

export function budgets(found) {
  if (!found.budgets.length) {
    put("budgets", el("p", { class: "soft" }, "None are set. A table [tool.ecoimpact.budgets.NAME] in pyproject.toml makes one, such as usd = 200 a month."));
    return;
  }
  put("budgets", found.budgets.map((each, place) => {
    const id = (part) => `budget-${part}-${place}`;
    const amount = (value) => number(value, { factor: 1 });
    const over = each.share !== null && each.share >= 1;
    const ahead_ = each.expected_share ?? 0;
    const scope = each.scope !== null ? `${each.per}=${each.scope}` : each.label;
    return el("div", { class: "budget", "data-testid": "budget", "data-key": each.scope === null ? each.budget : `${each.budget}: ${each.scope}` },
      el("div", { class: "line" }, el("b", {}, name(each.budget, 40), scope ? [" ", el("span", { class: "badge" }, name(scope, 40))] : ""),
        el("span", {}, num(id("used"), each.used, each.used === null ? "" : amount(each.used)), " of ", num(id("limit"), each.limit, amount(each.limit)), ` ${each.unit} `, each.share === null ? "" : num(id("share"), each.share, `(${percent(each.share)})`))),
      el("div", { class: over ? "meter over" : "meter", "aria-hidden": "true" }, el("i", { class: "ahead", style: { width: `${Math.min(100, ahead_ * 100)}%` } }), el("i", { style: { width: `${Math.min(100, (each.share ?? 0) * 100)}%` } })),
      each.expected === null ? "" : el("small", { class: each.expected_share >= 1 ? "bad" : "" }, `by the end of the ${each.period} `, num(id("expected"), each.expected, amount(each.expected)), ` ${each.unit} (`, num(id("expected-share"), each.expected_share, percent(each.expected_share)), ")"),
      el("small", {}, each.period === "total" ? "in all" : `this ${each.period}, since ${day(each.began)}`, each.used_min !== null && each.used_min !== each.used_max ? [", ", num(id("low"), each.used_min, amount(each.used_min)), " to ", num(id("high"), each.used_max, amount(each.used_max)), ` ${each.unit}`, each.bound === "central" ? "" : `; the ${each.bound} end counts`] : "",
        each.uncounted ? [", without ", num(id("uncounted"), each.uncounted, count(each.uncounted)), ` ${each.uncounted === 1 ? "request that has" : "requests that have"} no ${each.unit === "USD" ? "price" : "estimate"}`] : ""));
  }));
}

// --- estimated again ------------------------------------------------------------------------------------------------

const AMOUNTS = ["energy", "gwp", "water"];

function amounts(prefix, row, units) {
  return AMOUNTS.map((metric) => {
    const value = span(row, metric);
    const ends = value && value.low !== value.high ? el("small", {}, num(`${prefix}-${metric}-low`, value.low, number(value.low, units[metric])), " to ", num(`${prefix}-${metric}-high`, value.high, number(value.high, units[metric]))) : "";
    return el("td", {}, num(`${prefix}-${metric}`, value?.central, value && number(value.central, units[metric])), ends);
  });
}
const unitsOf = (rows) => Object.fromEntries(AMOUNTS.map((metric) => [metric, unitFor(metric, Math.max(0, ...rows.map((row) => span(row, metric)?.central ?? 0)))]));
const amountHeads = (units) => [["energy", "energy"], ["gwp", "carbon"], ["water", "water"]].map(([metric, label]) => ({ label, unit: units[metric].symbol }));

export function methodologies(found, view) {
  const rows = found.methodologies;
  const units = unitsOf([view.total, ...rows]);
  const line = (key, row, estimated, said) => ({ testid: "methodology-row", key, cells: [
    el("th", { scope: "row" }, name(key), said), num("methodology-estimated", estimated, count(estimated), "td"), ...amounts("methodology", row, units)] });
  const about = (row) => el("details", { class: "about" }, el("summary", {}, "what it counts"), el("small", {}, `Includes: ${row.includes.join("; ") || "not stated"}. Leaves out: ${row.leaves_out.join("; ") || "not stated"}.`));
  put("methodologies", table("methodology-table", "Methodologies do not count the same things, so nothing is averaged over them.", [{ label: "methodology" }, { label: "requests estimated" }, ...amountHeads(units)],
    [line("as logged", view.total, view.total.requests - view.total.unestimated, ""), ...rows.map((row) => line(row.methodology, row, row.estimated, about(row)))]),
  el("p", { class: "soft note" }, "Estimated again from the mean tokens and latency of each model, provider and zone: exact where a methodology is proportional to tokens, close where it is not."));
}

export function models(found, view) {
  const rows = found.models;
  const units = unitsOf([view.total, ...rows]);
  const money = unitFor("cost", Math.max(0, ...rows.map((row) => row.cost_usd ?? 0), view.total.cost_usd ?? 0));
  const line = (key, row) => ({ testid: "model-row", key, cells: [el("th", { scope: "row" }, name(key)),
    num("model-cost", row.cost_usd, row.cost_usd === null ? "" : number(row.cost_usd, money), "td"), ...amounts("model", row, units)] });
  put("models", table("model-table", "What the same tokens would have taken, had all of them gone to one model where its provider runs it. Another model may need more tokens, or do worse.",
    [{ label: "model" }, { label: "cost", unit: money.symbol }, ...amountHeads(units)], [line("as logged", view.total), ...rows.map((row) => line(row.model, row))]));
}

// --- requests -------------------------------------------------------------------------------------------------------

export function requests(found, explain, more) {
  const heads = ["time (UTC)", "model", "tokens in", "tokens out", "latency", "cost", "energy", "carbon", "labels", ""].map((label) => ({ label, isText: label === "model" || label === "labels" }));
  const between = (row, metric) => {
    const value = span(row, metric);
    if (value === null) return el("td", {}, "–");
    const { low, central, high } = value;
    const unit = unitFor(metric, central);
    return el("td", {}, num(`request-${metric}`, central, `${number(central, unit)} ${unit.symbol}`),
      low === high ? "" : el("small", {}, num(`request-${metric}-low`, low, number(low, unit)), " to ", num(`request-${metric}-high`, high, number(high, unit))));
  };
  const rows = found.requests.map((row) => ({ testid: "request-row", key: row.id, cells: [
    el("td", {}, moment(row.time), row.status === "ok" ? "" : [" ", el("span", { class: "badge bad" }, shown(row.error_type ?? row.status ?? "?"))]),
    el("td", { class: "text" }, name(row.model ?? row.request_model ?? "unknown"), el("small", {}, name([row.provider, row.endpoint].filter(Boolean).join(", ")))),
    num("request-input-tokens", row.input_tokens, row.input_tokens === null ? "" : count(row.input_tokens), "td"),
    num("request-output-tokens", row.output_tokens, row.output_tokens === null ? "" : `${row.tokens_estimated ? "~" : ""}${count(row.output_tokens)}`, "td"),
    num("request-latency", row.latency_s, row.latency_s === null ? "" : `${number(row.latency_s, { factor: 1 })} s`, "td"),
    num("request-cost", row.cost_usd, row.cost_usd === null ? "" : text("cost", row.cost_usd), "td"), between(row, "energy"), between(row, "gwp"),
    el("td", { class: "text" }, Object.entries(row.labels).map(([key, value]) => el("span", { class: "badge" }, name(`${key}=${value}`, 40)))),
    el("td", {}, row.id === null ? "" : el("button", { type: "button", "data-testid": "explain", "aria-label": `Explain the request of ${moment(row.time)}`, on: { click: () => explain(row) } }, "Explain")),
  ] }));
  put("requests", rows.length ? table("request-table", `The newest ${count(rows.length)} of this view. Nobody's words are in a record: neither prompts nor answers.`, heads, rows) : el("p", { class: "soft" }, "There are none among the newest of the log."),
  more && rows.length >= 10 ? el("p", { class: "note" }, el("button", { type: "button", "data-testid": "more-requests", on: { click: more } }, "Show more")) : null);
}

export function steps(found) {
  const exactly = (value) => (value === null ? "" : Number(value.toPrecision(4)).toString());
  const heads = ["symbol", "formula", "low", "high", "unit", "source"].map((label) => ({ label, isText: ["formula", "unit", "source"].includes(label) }));
  const rows = found.steps.map((step) => ({ testid: "step", key: step.symbol, cells: [
    el("th", { scope: "row" }, el("code", {}, step.symbol)), el("td", { class: "text formula" }, step.formula),
    num("step-low", step.low, exactly(step.low), "td"), num("step-high", step.high, exactly(step.high), "td"), el("td", { class: "text unit" }, step.unit), el("td", { class: "text" }, el("small", {}, shown(step.source)))] }));
  const differs = found.is_as_recorded ? "They are those of the record."
    : `They differ from those of the record, which was made by ${shown(found.recorded_methodology ?? "an unknown methodology")}, data ${shown(found.recorded_data_version ?? "unknown")}.`;
  put("steps", el("p", { "data-testid": "explained" }, `Estimated again by ${found.methodology}, data ${found.data_version}. `, found.steps.length ? differs : "There is no estimate."),
    found.notices.map((notice) => el("p", { class: "soft note" }, `! ${shown(notice)}`)),
    rows.length ? table("step-table", "Every step from the request to its figures, with everything low and with everything high", heads, rows) : null);
}
