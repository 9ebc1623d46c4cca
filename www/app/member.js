// What can be said in words about one member.

import { byteSize, memberName, milliseconds } from "./format.js";

/** @import { Link, Member, View } from "./types.js" */

/** @type {Record<Member["class"], string>} */
export const CLASSES = { durable: "durable node", transient: "page" };

/** @type {Record<Member["state"], string>} */
export const STATES = { alive: "alive", suspect: "suspect: does not answer" };

/** @type {Record<Link["kind"], string>} */
export const KINDS = { direct: "direct", relay: "relayed" };

/** @param {View} view @param {string} id @returns {Member | undefined} */
export function findMember(view, id) {
  return view.ring?.members.find((member) => member.id === id);
}

/** @param {View} view @param {string} id */
export function nameOf(view, id) {
  return id === view.status?.id ? "you" : memberName(findMember(view, id) ?? { id });
}

/** @param {string} id @param {View} view @returns {"voter" | "mirror" | null} */
export function roleOf(id, { place }) {
  if (place?.voters.includes(id)) return "voter";
  if (place?.mirrors.includes(id)) return "mirror";
  return null;
}

/**
 * A member's links, the direct one first.
 * @param {string} id
 * @param {View} view
 */
export function linksOf(id, { status }) {
  const links = status?.links.filter((link) => link.peer === id) ?? [];
  return links.sort((a, b) => a.kind.localeCompare(b.kind));
}

/** @param {Link} link */
export function linkWords(link) {
  const rtt = link.rtt_ms === null ? "round trip not measured" : milliseconds(link.rtt_ms);
  return `${KINDS[link.kind]}, ${rtt}, ${byteSize(link.bytes_in)} in, ${byteSize(link.bytes_out)} out`;
}

/** @param {Member} member @param {View} view @returns {string[]} */
export function memberWords(member, view) {
  const self = member.id === view.status?.id;
  const role = roleOf(member.id, view);
  const links = linksOf(member.id, view).map(linkWords);
  return [
    self ? `${memberName(member)}, this peer` : memberName(member),
    CLASSES[member.class],
    STATES[member.state],
    ...(role ? [`${role} of ${view.place?.key}`] : []),
    ...(self ? [] : links.length ? links : ["no link: reached over others"]),
  ];
}
