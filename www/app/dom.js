// Small helpers to make and update elements without a framework.

const SVG = "http://www.w3.org/2000/svg";

/**
 * The element that the page is known to have.
 * @template {Element} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return /** @type {any} */ (found);
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | boolean | undefined>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function html(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  setAll(node, attributes);
  node.append(...children);
  return node;
}

/**
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | number | boolean | undefined>} [attributes]
 * @param {...Node} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  setAll(node, attributes);
  node.append(...children);
  return node;
}

/**
 * Sets attributes; `false` and `undefined` remove one, `true` makes it empty.
 * @param {Element} node
 * @param {Record<string, string | number | boolean | undefined>} attributes
 */
export function setAll(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * Writes text only when it differs, so that live regions stay quiet and
 * selections live on.
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @type {WeakMap<Element, Map<string, Element>>} */
const kept = new WeakMap();

/**
 * Makes the children of `parent` follow `items`, keeping each key's element
 * (with its focus) for as long as the key is there.
 * @template T
 * @template {Element} E
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => E} make
 * @param {(node: E, item: T) => void} update
 */
export function keyed(parent, items, keyOf, make, update) {
  const before = kept.get(parent) ?? new Map();
  const now = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, node] of before) if (!now.has(key)) node.remove();
  const after = new Map();
  for (const [key, item] of now) {
    const node = /** @type {E} */ (before.get(key) ?? make(item));
    const here = parent.children[after.size] ?? null;
    if (here !== node) parent.insertBefore(node, here);
    update(node, item);
    after.set(key, node);
  }
  kept.set(parent, after);
}
