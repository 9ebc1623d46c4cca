// Where things stand on the circle: fractions of a turn, clockwise from the top.

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const CHARS = 8;
const SLOTS = 4096;
const ROUNDS = 80;

/**
 * An id's place on the ring, from its first 40 bits.
 * @param {string} id  Base32.
 */
export function ringFraction(id) {
  let fraction = 0;
  for (let at = 0; at < CHARS; at += 1) {
    const digit = Math.max(0, ALPHABET.indexOf(id[at] ?? "a"));
    fraction += digit / 32 ** (at + 1);
  }
  return fraction;
}

/** @param {number} slot */
export function slotFraction(slot) {
  return slot / SLOTS;
}

/**
 * Nudges places apart until neighbours are `gap` apart, keeping their order.
 * @param {number[]} fractions
 * @param {number} gap  As a fraction of the circle.
 * @returns {number[]}  In the order given.
 */
export function spread(fractions, gap) {
  const order = fractions.map((_, index) => index).sort((a, b) => fractions[a] - fractions[b]);
  const places = order.map((index) => fractions[index]);
  const least = Math.min(gap, 0.96 / places.length);
  for (let round = 0; round < ROUNDS; round += 1) if (!push(places, least)) break;
  const result = new Array(places.length);
  order.forEach((index, nth) => { result[index] = places[nth]; });
  return result;
}

/** One round of pushing neighbours apart; says whether any moved. @param {number[]} places @param {number} least */
function push(places, least) {
  let moved = false;
  for (let nth = 0; nth < places.length && places.length > 1; nth += 1) {
    const next = (nth + 1) % places.length;
    const turn = next === 0 ? 1 : 0;
    const lack = least - (places[next] + turn - places[nth]);
    if (lack <= 1e-6) continue;
    places[nth] -= lack / 2;
    places[next] += lack / 2;
    moved = true;
  }
  return moved;
}

/**
 * @typedef {object} Circle
 * @property {number} width
 * @property {number} height
 * @property {number} x  Its centre.
 * @property {number} y
 * @property {number} radius
 */

/**
 * The circle that fits a box, with room for labels beside it.
 * @param {number} width
 * @returns {Circle}
 */
export function fitCircle(width) {
  const side = width < 480 ? 62 : 104;
  const radius = Math.max(60, Math.min(width / 2 - side, 205));
  const height = 2 * radius + 76;
  return { width, height, x: width / 2, y: height / 2, radius };
}

/**
 * @param {Circle} circle
 * @param {number} fraction
 * @param {number} [outward]  Pixels beyond the circle.
 */
export function point(circle, fraction, outward = 0) {
  const angle = (fraction - 0.25) * 2 * Math.PI;
  const radius = circle.radius + outward;
  return { x: circle.x + radius * Math.cos(angle), y: circle.y + radius * Math.sin(angle) };
}

/**
 * The path of an arc, clockwise.
 * @param {Circle} circle
 * @param {number} from
 * @param {number} to
 */
export function arc(circle, from, to) {
  const turn = (((to - from) % 1) + 1) % 1;
  const start = point(circle, from);
  const end = point(circle, to);
  const r = circle.radius;
  return `M${num(start.x)} ${num(start.y)}A${r} ${r} 0 ${turn > 0.5 ? 1 : 0} 1 ${num(end.x)} ${num(end.y)}`;
}

/** @param {number} value */
export function num(value) {
  return Math.round(value * 10) / 10;
}
