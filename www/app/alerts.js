// Decides which conditions deserve a notice: failed joins, lost relays, links
// that found no direct path, errors that the peer reports.

import { hasWebRtc } from "./environment.js";
import { listing, memberName, plural, toProblem } from "./format.js";

/** @import { Notices, State, View } from "./types.js" */

/** A link may take this long to become direct before it is worth a word. */
const DIRECT_WAIT_MS = 10_000;

/** Events whose condition the status shows too, and for as long as it lasts. */
const TOLD_ELSEWHERE = new Set(["relay_lost", "relay_unreachable", "no_direct_path"]);

/**
 * @param {State} state
 * @param {Notices} notices
 * @param {() => void} retry
 */
export function watchAlerts(state, notices, retry) {
  const relays = relayAlerts(notices);
  const paths = pathAlerts(notices);
  state.watch((view) => {
    joinAlert(view, notices, retry);
    relays(view);
    paths(view);
  });
}

/**
 * @param {Notices} notices
 * @returns {(error: unknown) => void}  Tells of an error that the peer reports.
 */
export function errorAlerts(notices) {
  return (error) => {
    if (TOLD_ELSEWHERE.has(/** @type {{ code?: string }} */ (error)?.code ?? "")) return;
    const problem = toProblem(error, "The peer reports an error");
    const id = `error ${problem.code ?? ""} ${problem.text}`;
    notices.clear(id);
    notices.show({ id, level: "warning", ...problem });
  };
}

/** @param {View} view @param {Notices} notices @param {() => void} retry */
function joinAlert({ phase, problem }, notices, retry) {
  if (!problem) return notices.clear("join");
  const action = phase === "failed" ? { label: "Try again", run: retry } : undefined;
  notices.show({ id: "join", level: "error", ...problem, action });
}

/** @param {Notices} notices */
function relayAlerts(notices) {
  /** @type {Set<string>} */
  const lost = new Set();

  /** @param {View} view */
  return ({ status, phase }) => {
    for (const { url, state } of status?.relays ?? []) {
      if (phase !== "joined") continue;
      if (state === "lost") lost.add(url);
      if (state === "attached" && lost.delete(url)) notices.clear(`relay ${url}`);
      if (lost.has(url)) notices.show({ id: `relay ${url}`, level: "warning", ...relayWords(url, status?.links ?? []) });
    }
  };
}

/** @param {string} url @param {import("./types.js").Link[]} links */
function relayWords(url, links) {
  const direct = links.filter((link) => link.kind === "direct").length;
  const rest = direct
    ? `${plural(direct, "direct link")} ${direct === 1 ? "goes" : "go"} on working; relayed peers are out of reach until then.`
    : "No other peer can be reached until then.";
  return { title: "The relay is lost", text: `${url} is being redialled. ${rest}` };
}

/** @param {Notices} notices */
function pathAlerts(notices) {
  /** @type {Map<string, number>} */
  const since = new Map();
  let told = "";

  /** @param {View} view */
  return ({ status, ring }) => {
    const relays = new Set(status?.relays?.map((relay) => relay.id));
    const links = status?.links.filter((link) => !relays.has(link.peer)) ?? [];
    const late = relayedFor(links, since);
    const names = late.map((id) => memberName(ring?.members.find((member) => member.id === id) ?? { id }));
    const now = late.join(" ");
    if (now !== told) notices.clear("paths");
    told = now;
    if (late.length) notices.show({ id: "paths", level: "note", ...pathWords(names) });
  };
}

/**
 * The peers that have had only a relayed link for a while.
 * @param {import("./types.js").Link[]} links
 * @param {Map<string, number>} since
 */
function relayedFor(links, since) {
  const now = performance.now();
  const direct = new Set(links.filter((link) => link.kind === "direct").map((link) => link.peer));
  const relayed = new Set(links.map((link) => link.peer).filter((peer) => !direct.has(peer)));
  for (const peer of since.keys()) if (!relayed.has(peer)) since.delete(peer);
  for (const peer of relayed) if (!since.has(peer)) since.set(peer, now);
  return [...since].filter(([, start]) => now - start > DIRECT_WAIT_MS).map(([peer]) => peer).sort();
}

/** @param {string[]} names */
function pathWords(names) {
  const shown = names.length > 4 ? [...names.slice(0, 3), `${names.length - 3} more`] : names;
  const why = hasWebRtc()
    ? "Traffic goes through the relay, sealed from end to end; everything works, only slower."
    : "This browser has no WebRTC, so traffic goes through the relay, sealed from end to end.";
  return { title: `No direct path to ${listing(shown)}: relayed`, text: why };
}
