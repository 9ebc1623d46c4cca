// The members on the circle: shape by class, marks by state and by what they
// hold, names beside them; pointer, touch and keyboard choose one to look at.

import { keyed, setAll, setText, svg } from "./dom.js";
import { clip, memberName } from "./format.js";
import { num, point } from "./geometry.js";
import { placeLabels } from "./labels.js";
import { memberWords, roleOf } from "./member.js";

/** @import { Scene } from "./ring-view.js" */
/** @import { Label } from "./labels.js" */
/** @import { Member, State } from "./types.js" */

const CHAR_PX = 7.4;
const TOUCH = 14;

/**
 * @param {HTMLElement} box  Around the picture: an svg that listens for focus takes it.
 * @param {SVGGElement} layer
 * @param {SVGGElement} leaders
 * @param {State} state
 */
export function createMembers(box, layer, leaders, state) {
  /** @type {string | null} */
  let tabStop = null;
  listen(box, layer, state, (id) => { tabStop = id; });

  /** @param {Scene} scene */
  function draw(scene) {
    const { members, view } = scene;
    if (!members.some(({ id }) => id === tabStop)) tabStop = view.status?.id ?? members[0]?.id ?? null;
    const labels = new Map(placeLabels(scene.circle, spots(scene)).map((label) => [label.id, label]));
    keyed(layer, members, ({ id }) => id, makeMember, (node, member) => {
      updateMember(node, member, scene, labels.get(member.id));
      setAll(node, { tabindex: member.id === tabStop ? 0 : -1 });
    });
    keyed(leaders, [...labels.values()], ({ id }) => id, () => svg("path", {}), (node, label) => {
      setAll(node, { d: label.leader });
    });
  }

  return { draw };
}

/** @param {Scene} scene */
function spots({ members, view, at }) {
  const important = new Set([view.status?.id, view.shown, ...(view.place?.voters ?? []), ...(view.place?.mirrors ?? [])]);
  return members.map(({ id }) => ({ id, at: at.get(id) ?? 0, important: important.has(id) }));
}

/** @param {Member} member */
function makeMember(member) {
  const shape = member.class === "durable" ? svg("rect", { class: "shape" }) : svg("circle", { class: "shape" });
  return svg(
    "g",
    { class: "member", role: "option", "data-id": member.id, "data-class": member.class },
    svg("circle", { class: "touch" }),
    svg("circle", { class: "halo" }),
    svg("circle", { class: "self-ring" }),
    shape,
    svg("text", { class: "name" }),
  );
}

/**
 * @param {SVGGElement} node
 * @param {Member} member
 * @param {Scene} scene
 * @param {Label | undefined} label
 */
function updateMember(node, member, { circle, view, at, size }, label) {
  const { x, y } = point(circle, at.get(member.id) ?? 0);
  const [touch, halo, ring, shape, name] = node.children;
  const self = member.id === view.status?.id;
  setAll(node, {
    transform: `translate(${num(x)} ${num(y)})`,
    "data-state": member.state,
    "data-self": self,
    "data-role": roleOf(member.id, view) ?? undefined,
    "data-shown": member.id === view.shown,
    "aria-selected": String(member.id === view.shown),
    "aria-label": memberWords(member, view).join(", "),
  });
  setAll(touch, { r: Math.max(TOUCH, size + 12) });
  setAll(halo, { r: size + (self ? 9 : 6.5) });
  setAll(ring, { r: size + 4 });
  setAll(shape, member.class === "durable"
    ? { x: -size, y: -size, width: 2 * size, height: 2 * size, rx: 1 }
    : { r: size + 0.5 });
  if (label) setAll(name, { x: num(label.x - x), y: num(label.y - y + 4), "text-anchor": label.anchor });
  setText(name, label ? nameText(member, self, label.room) : "");
}

/** @param {Member} member @param {boolean} self @param {number} room */
function nameText(member, self, room) {
  if (self) return "you";
  return clip(memberName(member), Math.max(4, Math.floor(room / CHAR_PX)));
}

/**
 * @param {HTMLElement} box
 * @param {SVGGElement} layer
 * @param {State} state
 * @param {(id: string) => void} onFocus
 */
function listen(box, layer, state, onFocus) {
  /** @param {Event} event */
  const idOf = ({ target }) => /** @type {Element} */ (target).closest?.(".member")?.getAttribute("data-id") ?? null;
  /** @param {string | null} id */
  const show = (id) => { if (id !== state.view.shown) state.set({ shown: id }); };

  box.addEventListener("pointerover", (event) => { const id = idOf(event); if (id) show(id); });
  box.addEventListener("pointerleave", () => show(focusedId(layer)));
  box.addEventListener("click", (event) => show(idOf(event)));
  box.addEventListener("focusin", (event) => {
    const id = idOf(event);
    if (id) onFocus(id);
    show(id);
  });
  box.addEventListener("focusout", () => show(null));
  box.addEventListener("keydown", (event) => moveFocus(event, layer));
}

/** @param {SVGGElement} layer */
function focusedId(layer) {
  const focused = document.activeElement;
  return focused && layer.contains(focused) ? focused.getAttribute("data-id") : null;
}

/** @type {Record<string, (at: number, count: number) => number>} */
const MOVES = {
  ArrowRight: (at) => at + 1,
  ArrowDown: (at) => at + 1,
  ArrowLeft: (at, count) => at + count - 1,
  ArrowUp: (at, count) => at + count - 1,
  Home: () => 0,
  End: (_, count) => count - 1,
};

/** @param {KeyboardEvent} event @param {SVGGElement} layer */
function moveFocus(event, layer) {
  const move = MOVES[event.key];
  const nodes = /** @type {SVGGElement[]} */ ([...layer.children]);
  const at = nodes.findIndex((node) => node === document.activeElement);
  if (!move || at < 0) return;
  event.preventDefault();
  nodes[move(at, nodes.length) % nodes.length].focus();
}
