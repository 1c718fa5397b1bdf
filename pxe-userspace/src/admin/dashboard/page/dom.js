// The few things that the page does with its elements. Values become text, never markup.

export const $ = (id) => document.getElementById(id);

/** Returns a new element with attributes and children; text becomes text nodes. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Sets the text of an element unless it is the same, so that a selection in it survives. */
export function setText(node, text) {
  const wanted = String(text);
  const only = node.firstChild;
  if (only && only === node.lastChild && only.nodeType === Node.TEXT_NODE) {
    if (only.data !== wanted) only.data = wanted;
  } else if (node.textContent !== wanted) {
    node.textContent = wanted;
  }
}

/** Sets an attribute unless it is the same; without a value it is removed. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

/**
 * Makes the children of `parent` those of `items`, by key: a child that stays is the same element and is not moved needlessly, so that
 * focus, selection and scroll survive.
 */
export function keep(parent, items, keyOf, make, update) {
  const have = new Map();
  for (const child of parent.children) have.set(child.dataset.key, child);
  const wanted = items.map((item) => {
    const key = String(keyOf(item));
    let child = have.get(key);
    if (child) have.delete(key);
    else {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    return child;
  });
  for (const child of have.values()) child.remove();
  let place = parent.firstElementChild;
  for (const child of wanted) {
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}

const madeFrom = new WeakMap();

/** Replaces the children of `parent` if `data` is not what it was made from. */
export function remake(parent, data, make) {
  const text = JSON.stringify(data);
  if (madeFrom.get(parent) === text) return;
  madeFrom.set(parent, text);
  parent.replaceChildren(...[make()].flat());
}

/** Returns whether a person is busy with what is in `node`: the focus or a selection is there. */
export function isInUse(node) {
  if (node.contains(document.activeElement)) return true;
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && selection.containsNode(node, true);
}
