// The state of the page is its address, and nothing else.

export const NAMES = ["since", "until", "group_by", "metric", "model", "provider", "endpoint", "label", "sort", "rows", "other_model"];

export function state() {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(NAMES.filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
}

export function query(changes = {}) {
  const wanted = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...state(), ...changes })) {
    if (value !== "" && value !== null && value !== undefined) wanted.set(name, value);
  }
  const text = wanted.toString();
  return text ? `?${text}` : "";
}

export const address = (changes) => `/${query(changes)}`;

export function go(changes) {
  const target = address(changes);
  if (target !== location.pathname + location.search) history.pushState(null, "", target);
  dispatchEvent(new Event("statechange"));
}

// A link into the page's own state: a plain click changes it without loading the page anew.
export function follow(event) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", event.currentTarget.getAttribute("href"));
  dispatchEvent(new Event("statechange"));
}
