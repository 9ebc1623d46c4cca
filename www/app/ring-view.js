// The ring as a picture: measures the room, decides where members stand, and
// has the layers drawn: dial, successor arcs, links, key marker, members.

import { byId, setAll, svg } from "./dom.js";
import { fitCircle, ringFraction, spread } from "./geometry.js";
import { drawDial, drawPlace, drawSuccessors } from "./ring-dial.js";
import { drawLinks } from "./ring-links.js";
import { createMembers } from "./ring-members.js";

/** @import { State, View, Member } from "./types.js" */
/** @import { Circle } from "./geometry.js" */

/**
 * @typedef {object} Scene  What the layers draw.
 * @property {Circle} circle
 * @property {View} view
 * @property {Member[]} members
 * @property {Map<string, number>} at  Each member's place, nudged.
 * @property {number} size  Half of a member's width, in pixels.
 */

/** @param {State} state */
export function createRingView(state) {
  const root = /** @type {SVGSVGElement} */ (byId("ring"));
  const box = /** @type {HTMLElement} */ (root.parentElement);
  const layers = {
    links: svg("g", { class: "links", "aria-hidden": "true" }),
    dial: svg("g", { class: "dial", "aria-hidden": "true" }),
    successors: svg("g", { class: "successors", "aria-hidden": "true" }),
    place: svg("g", { class: "place", "aria-hidden": "true" }),
    leaders: svg("g", { class: "leaders", "aria-hidden": "true" }),
    members: svg("g", { class: "members", role: "presentation" }),
  };
  root.append(...Object.values(layers));
  const members = createMembers(box, layers.members, layers.leaders, state);
  let width = 0;

  /** @param {View} view */
  function draw(view) {
    if (!width) return;
    const scene = makeScene(view, fitCircle(width));
    const { circle } = scene;
    setAll(root, { viewBox: `0 0 ${circle.width} ${circle.height}`, height: circle.height });
    drawDial(layers.dial, circle);
    drawSuccessors(layers.successors, scene);
    drawLinks(layers.links, scene);
    drawPlace(layers.place, scene);
    members.draw(scene);
  }

  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now === width) return;
    width = now;
    draw(state.view);
  }).observe(box);
  state.watch(draw);
}

/**
 * @param {View} view
 * @param {Circle} circle
 * @returns {Scene}
 */
function makeScene(view, circle) {
  const members = view.ring?.members ?? [];
  const size = members.length <= 24 ? 7 : members.length <= 60 ? 5 : 3;
  const clear = 2 * size + (members.length <= 24 ? 16 : 4);
  const gap = clear / (2 * Math.PI * circle.radius);
  const places = spread(members.map(({ id }) => ringFraction(id)), gap);
  const at = new Map(members.map(({ id }, index) => [id, places[index]]));
  return { circle, view, members, at, size };
}
