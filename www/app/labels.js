// Places the members' names beside the circle so that none covers another.

import { mod, num, point } from "./geometry.js";

/** @import { Circle } from "./geometry.js" */

const LINE = 16;
const AWAY = 20;
/** Beyond this many members, only the important ones are named. */
const NAMED = 24;

/**
 * @typedef {object} Label
 * @property {string} id
 * @property {number} x
 * @property {number} y
 * @property {"start" | "end"} anchor
 * @property {number} room  Pixels to the edge of the picture.
 * @property {string} leader  The path from the member to its label.
 */

/**
 * @param {Circle} circle
 * @param {{ id: string, at: number, important: boolean }[]} spots
 * @returns {Label[]}
 */
export function placeLabels(circle, spots) {
  const sides = [true, false].map((right) => {
    const half = spots.filter(({ at }) => mod(at) < 0.5 === right);
    return placeSide(circle, thin(half, spots.length), right);
  });
  return sides.flat();
}

/**
 * Keeps the important names, and in a small ring all.
 * @param {{ id: string, at: number, important: boolean }[]} spots
 * @param {number} count
 */
function thin(spots, count) {
  return count <= NAMED ? spots : spots.filter((spot) => spot.important);
}

/**
 * @param {Circle} circle
 * @param {{ id: string, at: number }[]} spots
 * @param {boolean} right
 * @returns {Label[]}
 */
function placeSide(circle, spots, right) {
  const sorted = spots
    .map(({ id, at }) => ({ id, node: point(circle, at, 8), y: point(circle, at, AWAY).y }))
    .sort((a, b) => a.y - b.y);
  separate(sorted, LINE, circle.height - LINE / 2);
  return sorted.map(({ id, node, y }) => label(circle, id, node, y, right));
}

/**
 * Pushes lines down, then up again where they ran out of room.
 * @param {{ y: number }[]} lines
 * @param {number} top
 * @param {number} bottom
 */
function separate(lines, top, bottom) {
  let floor = top - LINE / 2;
  for (const line of lines) {
    line.y = Math.max(line.y, floor);
    floor = line.y + LINE;
  }
  let ceiling = bottom;
  for (const line of [...lines].reverse()) {
    line.y = Math.min(line.y, ceiling);
    ceiling = line.y - LINE;
  }
}

/**
 * @param {Circle} circle
 * @param {string} id
 * @param {{ x: number, y: number }} node
 * @param {number} y
 * @param {boolean} right
 * @returns {Label}
 */
function label(circle, id, node, y, right) {
  const sign = right ? 1 : -1;
  const clear = circle.radius + AWAY;
  const high = Math.min(clear, Math.abs(y - circle.y));
  const beside = Math.sqrt(clear * clear - high * high);
  const x = circle.x + sign * Math.max(beside, Math.abs(node.x - circle.x) + 4, 8);
  const room = (right ? circle.width - x : x) - 2;
  const leader = `M${num(node.x)} ${num(node.y)}L${num(x - sign * 4)} ${num(y)}`;
  return { id, x: num(x), y: num(y), anchor: right ? "start" : "end", room, leader };
}
