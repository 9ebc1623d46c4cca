// Notices: what went wrong, in words, until it is over or dismissed.

import { byId, html, keyed } from "./dom.js";

const LIMIT = 5;

/**
 * @typedef {object} Notice
 * @property {string} id  Says which condition this is; one notice each.
 * @property {"error" | "warning" | "note"} level
 * @property {string} title
 * @property {string} text
 * @property {string} [code]
 * @property {{ label: string, run: () => void }} [action]
 */

export function createNotices() {
  const box = byId("notices");
  /** @type {Map<string, Notice>} */
  const open = new Map();
  /** @type {Set<string>} */
  const dismissed = new Set();

  function draw() {
    keyed(box, [...open.values()], (notice) => notice.id, make, update);
  }

  /** @param {Notice} notice */
  function make(notice) {
    const close = html("button", { type: "button", class: "small" }, "Dismiss");
    close.addEventListener("click", () => dismiss(notice.id));
    return html(
      "div",
      { class: "notice", "data-level": notice.level, role: notice.level === "error" ? "alert" : undefined },
      html("p", { class: "notice-words" }),
      html("div", { class: "notice-actions" }, ...actionButton(notice), close),
    );
  }

  /** @param {Notice} notice */
  function actionButton({ action }) {
    if (!action) return [];
    const button = html("button", { type: "button", class: "small primary" }, action.label);
    button.addEventListener("click", action.run);
    return [button];
  }

  /** @param {HTMLElement} node @param {Notice} notice */
  function update(node, notice) {
    const words = /** @type {HTMLElement} */ (node.firstElementChild);
    const told = `${notice.title}\n${notice.text}\n${notice.code}`;
    if (node.dataset.told === told) return;
    node.dataset.told = told;
    words.replaceChildren(html("strong", {}, `${notice.title}.`), ` ${notice.text}`);
    if (notice.code) words.append(" ", html("code", {}, notice.code));
  }

  /** @param {string} id */
  function dismiss(id) {
    dismissed.add(id);
    open.delete(id);
    draw();
  }

  return {
    /**
     * Shows a notice, or renews its words. A dismissed one stays away until
     * its condition was cleared.
     * @param {Notice} notice
     */
    show(notice) {
      if (dismissed.has(notice.id)) return;
      open.set(notice.id, notice);
      const oldest = open.keys().next().value;
      if (open.size > LIMIT && oldest !== undefined) open.delete(oldest);
      draw();
    },

    /** @param {string} id  The condition is over. */
    clear(id) {
      dismissed.delete(id);
      if (open.delete(id)) draw();
    },
  };
}
