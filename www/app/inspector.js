// The strip under the ring: the member that is looked at, and the legend.

import { byId, html, svg } from "./dom.js";
import { memberName } from "./format.js";
import { CLASSES, STATES, findMember, linkWords, linksOf, roleOf } from "./member.js";

/** @import { Member, State, View } from "./types.js" */

/** @param {State} state */
export function createInspector(state) {
  const box = byId("inspector");
  let told = "";
  byId("legend").append(...legend());
  state.watch((view) => {
    const rows = inspect(view);
    const now = JSON.stringify(rows);
    if (now === told) return;
    told = now;
    box.replaceChildren(...rows.map(([kind, text]) => html("span", { class: kind }, text)));
  });
}

/** @param {View} view @returns {[string, string][]} */
function inspect(view) {
  if (!view.ring) return [["quiet", "The ring shows here once this page has joined."]];
  const shown = view.shown ? findMember(view, view.shown) : undefined;
  if (shown) return inspectMember(shown, view);
  const hint = view.ring.members.length === 1
    ? "You are alone. Open this page in another window to see it join."
    : "Point at a member or tap it, or tab to the ring and use the arrow keys.";
  const self = findMember(view, view.status?.id ?? "");
  return [...(self ? inspectMember(self, view) : []), ["what quiet", hint]];
}

/** @param {Member} member @param {View} view @returns {[string, string][]} */
function inspectMember(member, view) {
  const self = member.id === view.status?.id;
  const role = roleOf(member.id, view);
  const links = linksOf(member.id, view);
  const named = memberName(member);
  return [
    ["who", self ? `${named} (you)` : named],
    ["mono id", member.id],
    ["what", [CLASSES[member.class], STATES[member.state], role && `${role} of ${view.place?.key}`].filter(Boolean).join(" · ")],
    ...links.map((link) => /** @type {[string, string]} */ (["what", linkWords(link)])),
    ...(self || links.length ? [] : [/** @type {[string, string]} */ (["what", "no link: reached over others"])]),
  ];
}

function legend() {
  return [
    entry("durable node", svg("rect", { class: "shape", x: 5, y: 3, width: 12, height: 12, rx: 1 })),
    entry("page", svg("circle", { class: "shape", cx: 11, cy: 9, r: 6 })),
    entry("you", svg("circle", { class: "shape key-self", cx: 11, cy: 9, r: 4.5 }), svg("circle", { class: "self-ring key-self", cx: 11, cy: 9, r: 7.5 })),
    entry("does not answer", svg("circle", { class: "shape key-suspect", cx: 11, cy: 9, r: 5.5 })),
    entry("direct link", svg("path", { class: "chord key-direct", d: "M1 9H21" })),
    entry("relayed link", svg("path", { class: "chord key-relay", d: "M1 9H21" })),
    entry("successors", svg("path", { class: "arc key-arc", d: "M1 12Q11 4 21 12" }), svg("path", { class: "chevron key-arc", d: "M9 4.5L14 8L9 11.5" })),
    entry("key's slot", svg("path", { class: "key-slot", d: "M11 14L16 4H6Z" })),
    entry("voter of the key", svg("circle", { class: "halo key-voter", cx: 11, cy: 9, r: 7 })),
    entry("mirror of the key", svg("circle", { class: "halo key-mirror", cx: 11, cy: 9, r: 7 })),
  ];
}

/** @param {string} words @param {...SVGElement} shapes */
function entry(words, ...shapes) {
  return html("li", {}, svg("svg", { class: "swatch", viewBox: "0 0 22 18", "aria-hidden": "true" }, ...shapes), words);
}
