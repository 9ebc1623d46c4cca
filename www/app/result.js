// The answer to the last operation, and the short history of those before.

import { byId, html } from "./dom.js";
import { byteSize, clock, milliseconds, showValue } from "./format.js";
import { nameOf } from "./member.js";

/** @import { Mode, Place, Problem, Read, View, Verb, Write } from "./types.js" */

const HISTORY = 20;

/**
 * @typedef {object} Outcome
 * @property {Verb} verb
 * @property {string} key
 * @property {Mode} mode
 * @property {number} ms
 * @property {Problem} [problem]
 * @property {Write} [write]
 * @property {Read} [read]
 */

/** @param {Verb} verb @param {string} key */
export function showBusy(verb, key) {
  fill("busy", verb, key, headline(`${verb[0].toUpperCase()}${verb.slice(1)}…`, key, ""));
}

/** @param {Outcome} outcome @param {Place | null} place @param {View} view */
export function showOutcome(outcome, place, view) {
  const { verb, key, ms, problem, read, write } = outcome;
  fill(
    stateOf(outcome),
    verb,
    key,
    headline(title(outcome), key, milliseconds(ms)),
    ...(problem ? [html("p", { class: "result-words" }, problem.text, ...codeOf(problem))] : []),
    ...(read ? valueBlock(read.value) : []),
    facts([
      ...(write ? [copies(write, outcome.mode)] : []),
      ...versionOf(write ?? read),
      ...(place ? whereabouts(place, view) : []),
    ]),
  );
}

/** @param {string} words */
export function showRefusal(words) {
  fill("error", "", "", headline(words, "", ""));
}

/** @param {string} state @param {string} verb @param {string} key @param {...HTMLElement} children */
function fill(state, verb, key, ...children) {
  const box = byId("result");
  Object.assign(box.dataset, { state, verb, key });
  box.replaceChildren(...children);
}

/** @param {Outcome} outcome */
function stateOf({ verb, read, problem }) {
  if (problem) return "error";
  return verb === "get" && !read ? "missing" : "ok";
}

/** @param {Outcome} outcome */
function title({ verb, problem, read }) {
  if (problem) return problem.title;
  if (verb === "get" && !read) return "Nothing under this key";
  return { put: "Written", get: "Read", delete: "Deleted", locate: "Located" }[verb];
}

/** @param {string} words @param {string} key @param {string} time */
function headline(words, key, time) {
  const said = html("span", {}, html("strong", {}, words), " ", html("code", {}, key));
  return html("p", { class: "headline" }, said, html("span", { class: "time" }, time));
}

/** @param {Problem} problem */
function codeOf({ code }) {
  return code ? [" ", html("code", {}, code)] : [];
}

/** @param {Uint8Array} value */
function valueBlock(value) {
  const { text, kind, cut } = showValue(value);
  const size = byteSize(value.length);
  const what = `${size}, ${kind === "hex" ? "not UTF-8, shown as hex" : "text"}${cut ? ", only the beginning shown" : ""}`;
  return [
    html("pre", { id: "result-value", class: "value", "data-kind": kind, tabindex: "0", "aria-label": "Value" }, text),
    html("p", { class: "hint" }, value.length ? what : "empty value"),
  ];
}

/** @param {[string, string, string?][]} rows */
function facts(rows) {
  return html("dl", {}, ...rows.map(([term, text, kind]) => html("div", {}, html("dt", {}, term), html("dd", { class: kind }, text))));
}

/** @param {Write} write @param {Mode} mode @returns {[string, string, string?]} */
function copies({ copies: { have, of } }, mode) {
  if (have >= of) return ["Copies", `${have}/${of}, mode ${mode}`];
  return ["Copies", `${have}/${of}, mode ${mode}: the missing copies follow`, "short"];
}

/** @param {{ version: string } | undefined} held @returns {[string, string, string?][]} */
function versionOf(held) {
  return held ? [["Version", held.version, "mono"]] : [];
}

/** @param {Place} place @param {View} view @returns {[string, string, string?][]} */
function whereabouts(place, view) {
  const names = (/** @type {string[]} */ ids) => ids.map((id) => nameOf(view, id)).join(", ");
  return [
    ["Voters", names(place.voters) || "none", "voters"],
    ...(place.mirrors.length ? [/** @type {[string, string, string]} */ (["Mirrors", names(place.mirrors), "mirrors"])] : []),
    ["Slot", `${place.slot} of 4096, view ${place.view}`],
  ];
}

/** @param {Outcome} outcome */
export function remember(outcome) {
  const { verb, key, mode, ms, problem, write } = outcome;
  const copies = write ? ` ${write.copies.have}/${write.copies.of}` : "";
  const how = verb === "locate" ? "" : mode;
  const list = byId("history");
  list.prepend(
    html(
      "li",
      { "data-state": stateOf(outcome) },
      html("time", {}, clock(new Date())),
      html("span", { class: "verb" }, verb),
      html("span", { class: "mono history-key", title: key }, key),
      html("span", { class: "how" }, problem ? (problem.code ?? "error") : stateOf(outcome) === "missing" ? "nothing" : `${how}${copies}`),
      html("span", { class: "number" }, milliseconds(ms)),
    ),
  );
  while (list.children.length > HISTORY) list.lastElementChild?.remove();
}
