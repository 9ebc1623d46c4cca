// This peer's links as chords of the circle: direct ones solid, relayed ones
// dashed, with a bead travelling along while bytes flow.

import { keyed, setAll, svg } from "./dom.js";
import { num, point } from "./geometry.js";
import { keyLinks } from "./traffic.js";

/** @import { Scene } from "./ring-view.js" */
/** @import { Link, Traffic } from "./types.js" */

/** Chords shorter than this bend more. */
const NEAR = 110;
const QUIET = { rateIn: 0, rateOut: 0, samples: [] };

/** @param {SVGGElement} layer @param {Scene} scene */
export function drawLinks(layer, scene) {
  const { at, view } = scene;
  const self = view.status?.id ?? "";
  const chords = keyLinks(view.status?.links ?? []).filter(({ link }) => at.has(link.peer) && at.has(self));
  keyed(layer, chords, ({ key }) => key, ({ link }) => makeChord(link), (node, { key, link }) => {
    const traffic = view.traffic.get(key) ?? QUIET;
    const path = chordPath(scene, self, link);
    for (const child of node.children) setAll(child, { d: path });
    setAll(node, { class: chordClass(traffic, view.shown === link.peer) });
    setAll(node.children[0], { "stroke-width": num(weight(traffic)) });
  });
}

/** @param {Link} link */
function makeChord(link) {
  const bead = { pathLength: 100, fill: "none" };
  return svg(
    "g",
    { "data-peer": link.peer, "data-kind": link.kind },
    svg("path", { class: "chord" }),
    svg("path", { class: "bead bead-out", ...bead }),
    svg("path", { class: "bead bead-in", ...bead }),
  );
}

/**
 * Relayed chords bend towards the centre, so that a relayed and a direct link
 * to one peer are both seen; so do those to close neighbours, to be seen at all.
 * @param {Scene} scene
 * @param {string} self
 * @param {Link} link
 */
function chordPath({ circle, at, size }, self, link) {
  const from = point(circle, at.get(self) ?? 0);
  const to = point(circle, at.get(link.peer) ?? 0);
  const near = Math.max(0, 1 - Math.hypot(to.x - from.x, to.y - from.y) / NEAR);
  const bend = (link.kind === "relay" ? 0.3 : 0) + 0.14 * near;
  const control = {
    x: ((from.x + to.x) / 2) * (1 - bend) + circle.x * bend,
    y: ((from.y + to.y) / 2) * (1 - bend) + circle.y * bend,
  };
  const start = towards(from, control, size + 6);
  const end = towards(to, control, size + 3);
  return `M${num(start.x)} ${num(start.y)}Q${num(control.x)} ${num(control.y)} ${num(end.x)} ${num(end.y)}`;
}

/** @typedef {{ x: number, y: number }} Point */

/** @param {Point} from @param {Point} to @param {number} by */
function towards(from, to, by) {
  const way = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  return { x: from.x + ((to.x - from.x) * by) / way, y: from.y + ((to.y - from.y) * by) / way };
}

/** @param {Traffic} traffic @param {boolean} shown */
function chordClass({ rateIn, rateOut }, shown) {
  const words = ["link"];
  if (rateIn > 0) words.push("receiving");
  if (rateOut > 0) words.push("sending");
  if (shown) words.push("shown");
  return words.join(" ");
}

/** Thicker with every tenfold of traffic. @param {Traffic} traffic */
function weight({ rateIn, rateOut }) {
  return 1.25 + Math.min(2.25, Math.log10(1 + (rateIn + rateOut) / 100) * 0.75);
}
