// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// Elements from data, and the one place where the page is changed: what is drawn anew is compared with
// what stands there, so that nothing flickers and what has the focus keeps it.

const PROPERTIES = new Set(["value", "checked", "disabled"]);

/** An element: attributes by name, `on` with listeners, `style` with properties of it. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      element.listeners = value;
    } else if (name === "style") {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else if (name === "chart") {
      element.chart = value;
    } else if (PROPERTIES.has(name)) {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  listen(element);
  return element;
}

function listen(element) {
  for (const kind of Object.keys(element.listeners ?? {})) {
    // The listener is looked up when it is called, since a later drawing may bring another.
    element.addEventListener(kind, (event) => element.listeners?.[kind]?.(event));
  }
}

function alike(one, other) {
  if (one.nodeType !== other.nodeType) return false;
  if (one.nodeType !== Node.ELEMENT_NODE) return true;
  return one.tagName === other.tagName && one.dataset.key === other.dataset.key;
}

function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) === value) continue;
    // The policy of the page lets scripts set properties of styles, but not the attribute.
    if (name === "style") old.style.cssText = value;
    else old.setAttribute(name, value);
  }
  if (fresh.listeners || old.listeners) {
    const before = Object.keys(old.listeners ?? {});
    old.listeners = fresh.listeners;
    for (const kind of Object.keys(fresh.listeners ?? {})) {
      if (!before.includes(kind)) {
        old.addEventListener(kind, (event) => old.listeners?.[kind]?.(event));
      }
    }
  }
  if (fresh.chart) {
    old.chart = fresh.chart;
    return;
  }
  if (old.tagName === "INPUT" || old.tagName === "TEXTAREA" || old.tagName === "SELECT") return;
  morph(old, [...fresh.childNodes]);
}

/** Make the children of an element what they should be, changing as little as possible. */
export function morph(parent, wanted) {
  let at = parent.firstChild;
  for (const fresh of wanted) {
    let found = at;
    while (found && !alike(found, fresh)) found = fresh.dataset?.key ? found.nextSibling : null;
    if (found) {
      while (at !== found) {
        const next = at.nextSibling;
        at.remove();
        at = next;
      }
      patch(found, fresh);
      at = found.nextSibling;
    } else {
      parent.insertBefore(fresh, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
