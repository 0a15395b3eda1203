// Elements from data. Text is only ever text: nothing here reads markup.

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (key === "style") Object.assign(node.style, value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

export const byId = (id) => document.getElementById(id);
export const put = (id, ...children) => byId(id).replaceChildren(...children.flat().filter(Boolean));

// A number as people read it; the exact one, in the unit of the records, beside it for programs.
export function num(testid, exact, shown, name = "span", attributes = {}, ...more) {
  const known = exact !== null && exact !== undefined;
  return el(name, { "data-testid": testid, "data-value": known ? String(exact) : null, ...attributes }, known ? shown : "–", ...more);
}

// What people write is shown as it is, but for signs that would turn or break the text around it.
const OBEYED = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
export function shown(text) {
  return String(text).replace(OBEYED, (sign) =>
    sign === "\u200c" || sign === "\u200d" ? sign : `\\u{${sign.codePointAt(0).toString(16)}}`);
}
export function shortened(text, most = 80) {
  const signs = [...shown(text)];
  return signs.length <= most ? signs.join("") : `${signs.slice(0, most / 2).join("")}…${signs.slice(-most / 2 + 1).join("")}`;
}
export const name = (text, most = 80) => el("bdi", { title: [...String(text)].length > most ? shown(text) : null }, shortened(text, most));

// A table with roles said in so many words, as narrow screens lay its parts out as blocks.
export function table(testid, caption, heads, rows, foot = []) {
  const cells = (row) => row.cells.map((cell, place) => {
    cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
    if (heads[place].label) cell.setAttribute("data-label", heads[place].label + (heads[place].unit ? `, ${heads[place].unit}` : ""));
    return cell;
  });
  const line = (row) => el("tr", { role: "row", "data-testid": row.testid, "data-key": row.key }, cells(row));
  const head = (each) => el("th", { class: each.isText ? "text" : null, scope: "col", role: "columnheader", "aria-sort": each.sorted ? "descending" : null },
    each.sort ? el("button", { type: "button", on: { click: each.sort }, "data-testid": `sort-${each.name}` }, each.label) : each.label,
    each.unit ? [el("br"), each.unit] : "");
  return el("table", { class: "rows", role: "table", "data-testid": testid },
    el("caption", {}, caption),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads.map(head))),
    el("tbody", { role: "rowgroup" }, rows.map(line)),
    foot.length ? el("tfoot", { role: "rowgroup" }, foot.map(line)) : "");
}
