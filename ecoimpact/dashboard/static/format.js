// Quantities as people read them: three digits and the prefix that fits.

const UNITS = { energy: ["Wh", 1e3], gwp: ["gCO2eq", 1e3], water: ["L", 1], primary_energy: ["J", 1e6], minerals: ["gSbeq", 1e3] };
const PREFIXES = [["G", 1e9], ["M", 1e6], ["k", 1e3], ["", 1], ["m", 1e-3], ["µ", 1e-6], ["n", 1e-9], ["p", 1e-12], ["f", 1e-15]];

// name, how it is called, its fields in the totals, the unit of those, the count of requests that have it.
export const METRICS = {
  energy: { title: "Energy", field: "energy_kwh", exact: "kWh", known: "energy_known" },
  gwp: { title: "Carbon", field: "gwp_kgco2eq", exact: "kgCO2eq", known: "gwp_known" },
  water: { title: "Water", field: "wcf_l", exact: "L", known: "wcf_known" },
  cost: { title: "Cost", field: "cost_usd", exact: "USD", isPlain: true },
  requests: { title: "Requests", field: "requests", exact: "", isPlain: true },
  output_tokens: { title: "Output tokens", field: "output_tokens", exact: "", isPlain: true },
  primary_energy: { title: "Primary energy", field: "pe_mj", exact: "MJ", known: "pe_known" },
  minerals: { title: "Minerals", field: "adpe_kgsbeq", exact: "kgSbeq", known: "adpe_known" },
};

export function span(figures, metric) {
  const { field, isPlain } = METRICS[metric];
  const [low, central, high] = isPlain ? [figures[field], figures[field], figures[field]]
    : [figures[`${field}_min`], figures[`${field}_central`], figures[`${field}_max`]];
  return central === null || central === undefined ? null : { low, central, high };
}

export function unitFor(metric, value) {
  if (metric === "cost") return Math.abs(value) > 0 && Math.abs(value) < 0.995 ? { symbol: "US¢", factor: 100 } : { symbol: "USD", factor: 1 };
  if (!(metric in UNITS)) return { symbol: "", factor: 1, isCount: true };
  const [symbol, factor] = UNITS[metric];
  const amount = Math.abs(value) * factor;
  const [prefix, size] = amount ? (PREFIXES.find(([, each]) => amount >= 0.9995 * each) ?? PREFIXES.at(-1)) : ["", 1];
  return { symbol: prefix + symbol, factor: factor / size };
}

const fixed = (value, digits) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function number(value, unit) {
  if (unit.isCount) return fixed(value, 0);
  const amount = value * unit.factor;
  const size = Math.abs(amount);
  if (!size) return "0";
  if (size < 0.995) return size >= 1e-3 ? amount.toPrecision(2) : amount.toExponential(1).replace(/e-(\d)$/, "e-0$1");
  return fixed(amount, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

export const text = (metric, value) => {
  const unit = unitFor(metric, value);
  return unit.symbol ? `${number(value, unit)} ${unit.symbol}` : number(value, unit);
};
export const count = (value) => fixed(value, 0);

export function compact(value) {
  const [suffix, size] = [["G", 1e9], ["M", 1e6], ["k", 1e3]].find(([, each]) => value >= (each === 1e3 ? 1e4 : each)) ?? ["", 1];
  const scaled = value / size;
  return suffix ? `${scaled.toLocaleString("en-US", { maximumSignificantDigits: 3 })}${suffix}` : fixed(value, Number.isInteger(value) ? 0 : 2);
}
export const percent = (share, digits = 0) => `${(share * 100).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })} %`;
export const signed = (share) => `${share >= 0 ? "+" : "−"}${percent(Math.abs(share), Math.abs(share) < 0.1 ? 1 : 0)}`;
export const day = (time) => (time ? time.slice(0, 10) : "");
export const moment = (time) => (time ? `${time.slice(0, 10)} ${time.slice(11, 16)}` : "");
