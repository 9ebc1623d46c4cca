// What lies on the circle itself: the dial of slots, the arcs to this peer's
// successors, and the mark of the key that was touched last.

import { keyed, setAll, setText, svg } from "./dom.js";
import { arc, mod, num, point, slotFraction } from "./geometry.js";

/** @import { Circle } from "./geometry.js" */
/** @import { Scene } from "./ring-view.js" */

const TICKS = 64;
const CHEVRON_ROOM = 44;
const NUMERALS = [0, 1024, 2048, 3072];

/** @type {WeakMap<SVGElement, string>} */
const drawn = new WeakMap();

/** @param {SVGGElement} layer @param {Circle} circle */
export function drawDial(layer, circle) {
  const key = `${circle.width}`;
  if (drawn.get(layer) === key) return;
  drawn.set(layer, key);
  const track = svg("circle", { class: "track", cx: circle.x, cy: circle.y, r: circle.radius });
  const ticks = Array.from({ length: TICKS }, (_, nth) => tick(circle, nth));
  layer.replaceChildren(track, ...ticks, ...NUMERALS.map((slot) => numeral(circle, slot)));
}

/** @param {Circle} circle @param {number} nth */
function tick(circle, nth) {
  const long = nth % (TICKS / 4) === 0;
  const from = point(circle, nth / TICKS, -4);
  const to = point(circle, nth / TICKS, long ? -12 : -8);
  return svg("line", { class: "tick", x1: num(from.x), y1: num(from.y), x2: num(to.x), y2: num(to.y) });
}

/** @param {Circle} circle @param {number} slot */
function numeral(circle, slot) {
  const { x, y } = point(circle, slotFraction(slot), slot % 2048 ? -16 : -22);
  const anchor = slot === 1024 ? "end" : slot === 3072 ? "start" : "middle";
  const node = svg("text", { class: "numeral", x: num(x), y: num(y + 3.5), "text-anchor": anchor });
  setText(node, String(slot));
  return node;
}

/** @param {SVGGElement} layer @param {Scene} scene */
export function drawSuccessors(layer, { circle, view, at }) {
  const chain = [view.status?.id ?? "", ...(view.status?.successors ?? [])].filter((id) => at.has(id));
  const steps = chain.slice(1).map((to, nth) => ({ from: chain[nth], to, nth }));
  keyed(layer, steps, ({ from, to }) => `${from} ${to}`, makeStep, (node, { from, to, nth }) => {
    const [start, end] = [at.get(from) ?? 0, at.get(to) ?? 0];
    setAll(node, { class: nth === 0 ? "successor first" : "successor" });
    setAll(node.children[0], { d: arc(circle, start, end) });
    const long = mod(end - start) * 2 * Math.PI * circle.radius > CHEVRON_ROOM;
    setAll(node.children[1], { transform: chevron(circle, start, end), display: long ? undefined : "none" });
  });
}

function makeStep() {
  return svg("g", {}, svg("path", { class: "arc" }), svg("path", { class: "chevron", d: "M-3.5 -4.5L3 0L-3.5 4.5" }));
}

/** Halfway along an arc, pointing clockwise. @param {Circle} circle @param {number} from @param {number} to */
function chevron(circle, from, to) {
  const middle = from + mod(to - from) / 2;
  const { x, y } = point(circle, middle);
  return `translate(${num(x)} ${num(y)}) rotate(${num(middle * 360)})`;
}

/** @param {SVGGElement} layer @param {Scene} scene */
export function drawPlace(layer, { circle, view }) {
  const { place } = view;
  keyed(layer, place ? [place] : [], ({ key }) => key, makeMark, (node, { slot }) => {
    const at = slotFraction(slot);
    const { x, y } = point(circle, at);
    setAll(node, { transform: `translate(${num(x)} ${num(y)}) rotate(${num(at * 360)})` });
  });
}

function makeMark() {
  return svg("g", { class: "mark-key" }, svg("path", { d: "M0 -3L7 -15L-7 -15Z" }), svg("line", { x1: 0, y1: -6, x2: 0, y2: 9 }));
}
