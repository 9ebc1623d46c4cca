// The head of the page: the join state in words, and who this peer is.

import { byId, setText } from "./dom.js";
import { byteSize, plural, shortId } from "./format.js";

/** @import { State, Status, View } from "./types.js" */

/** @param {State} state */
export function createFacts(state) {
  byId("copy-id").addEventListener("click", () => copyId(state.view.peer?.id ?? ""));
  note();
  state.watch((view) => {
    setText(byId("status"), statusWords(view));
    byId("lamp").dataset.phase = lamp(view);
    setText(byId("ring-summary"), ringSummary(view));
    if (view.peer) identity(view.peer.id, view.status);
    if (view.status) facts(view.status);
  });
}

/** @param {View} view */
function statusWords({ phase, waiting, ring }) {
  if (phase === "loading") return "Loading the peer…";
  if (phase === "joining") return waiting < 5 ? "Connecting to relay…" : `Connecting to relay… no answer for ${waiting} s`;
  if (phase === "joined") return ring ? `Joined: ${plural(ring.members.length, "member")}` : "Joined";
  return phase === "failed" ? "Not joined" : "This browser cannot join";
}

/** @param {View} view */
function lamp({ phase, status }) {
  const relays = status?.relays ?? [];
  const cut = relays.length > 0 && relays.every((relay) => relay.state === "lost");
  return phase === "joined" && cut ? "cut" : phase;
}

/** @param {View} view */
function ringSummary({ ring }) {
  if (!ring) return "";
  const durable = ring.members.filter((member) => member.class === "durable").length;
  return `${plural(durable, "durable node")}, ${plural(ring.members.length - durable, "page")}`;
}

/** @param {string} id @param {Status | null} status */
function identity(id, status) {
  const place = byId("self-id");
  setText(place, id);
  place.title = id;
  setText(byId("self-name"), status?.name ?? "");
  /** @type {HTMLButtonElement} */ (byId("copy-id")).disabled = false;
}

/** @param {Status} status */
function facts(status) {
  setText(byId("fact-network"), status.network);
  setText(byId("fact-ring"), shortId(status.ring_id));
  byId("fact-ring").title = status.ring_id;
  setText(byId("fact-relay"), relayWords(status));
  setText(byId("fact-store"), storeWords(status));
}

/** @type {Record<string, string>} */
const RELAY_STATES = { attached: "attached", connecting: "connecting…", lost: "lost, redialling…" };

/** @param {Status} status */
function relayWords({ relays = [] }) {
  if (relays.length === 1) return RELAY_STATES[relays[0].state];
  const attached = relays.filter((relay) => relay.state === "attached").length;
  return relays.length ? `${attached} of ${relays.length} attached` : "–";
}

/** @param {Status} status */
function storeWords({ store }) {
  const words = [`${plural(store.records, "record")}, ${byteSize(store.bytes)}`];
  if (store.medium === "memory") words.push("gone with this page");
  if (store.under_replicated) words.push(`${store.under_replicated} short of copies`);
  if (store.degraded) words.push(`${plural(store.degraded, "slot")} degraded`);
  return words.join("; ");
}

function note() {
  if (isSecureContext) return;
  const box = byId("self-note");
  setText(box, "Served over plain http: this peer's identity is kept in memory only and is new after each reload.");
  box.hidden = false;
}

/** @param {string} id */
async function copyId(id) {
  const button = byId("copy-id");
  setText(button, (await copy(id)) ? "Copied" : "Press Ctrl+C");
  setTimeout(() => setText(button, "Copy id"), 1800);
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard on plain http: select the id, so that a key press copies it.
    getSelection()?.selectAllChildren(byId("self-id"));
    return document.execCommand("copy");
  }
}
