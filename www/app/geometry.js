// Where things stand on the circle: fractions of a turn, clockwise from the top.

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const CHARS = 8;
const SLOTS = 4096;

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
 * Nudges places apart until neighbours are `gap` apart, keeping their order and
 * moving each as little as can be (isotonic regression of the places less
 * their due distance). The circle is cut where it is emptiest.
 * @param {number[]} fractions
 * @param {number} gap  As a fraction of the circle.
 * @returns {number[]}  In the order given.
 */
export function spread(fractions, gap) {
  const count = fractions.length;
  const least = Math.min(gap, 1 / Math.max(1, count));
  const order = cutOrder(fractions);
  const first = fractions[order[0]];
  const due = order.map((index, nth) => mod(fractions[index] - first) - nth * least);
  const moved = monotone(due).map((place, nth) => place + nth * least);
  const crowded = count > 1 && moved[count - 1] - moved[0] > 1 - least + 1e-9;
  const result = new Array(count);
  order.forEach((index, nth) => { result[index] = first + (crowded ? nth / count : moved[nth]); });
  return result;
}

/** The places' order clockwise, from behind the widest empty stretch. @param {number[]} fractions */
function cutOrder(fractions) {
  const order = fractions.map((_, index) => index).sort((a, b) => fractions[a] - fractions[b]);
  let start = 0;
  let widest = -1;
  order.forEach((index, nth) => {
    const before = fractions[order[(nth + order.length - 1) % order.length]];
    const empty = nth === 0 ? fractions[index] + 1 - before : fractions[index] - before;
    if (empty > widest) [widest, start] = [empty, nth];
  });
  return [...order.slice(start), ...order.slice(0, start)];
}

/** The closest series that never falls. @param {number[]} values */
function monotone(values) {
  /** @type {{ mean: number, count: number }[]} */
  const blocks = [];
  for (const value of values) {
    let block = { mean: value, count: 1 };
    for (let last = blocks.at(-1); last && last.mean > block.mean; last = blocks.at(-1)) {
      const count = last.count + block.count;
      block = { mean: (last.mean * last.count + block.mean * block.count) / count, count };
      blocks.pop();
    }
    blocks.push(block);
  }
  return blocks.flatMap(({ mean, count }) => new Array(count).fill(mean));
}

/** @param {number} fraction  Into one turn. */
export function mod(fraction) {
  return ((fraction % 1) + 1) % 1;
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
  const radius = Math.max(60, Math.min(width / 2 - side, 192));
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
  const turn = mod(to - from);
  const start = point(circle, from);
  const end = point(circle, to);
  const r = circle.radius;
  return `M${num(start.x)} ${num(start.y)}A${r} ${r} 0 ${turn > 0.5 ? 1 : 0} 1 ${num(end.x)} ${num(end.y)}`;
}

/** @param {number} value */
export function num(value) {
  return Math.round(value * 10) / 10;
}
