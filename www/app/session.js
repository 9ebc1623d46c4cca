// This page's life as a peer: load, join, retry, keep the state fresh, leave.

import { joinOptions, unsupported } from "./environment.js";
import { toProblem } from "./format.js";
import { loadPeer } from "./loader.js";
import { createMeter } from "./traffic.js";

/** @import { Peer, PeerClass, State } from "./types.js" */

const POLL_MS = 1000;
const EVENT_MS = 40;

/**
 * @param {State} state
 * @param {(error: unknown) => void} onError
 */
export function createSession(state, onError) {
  /** @type {PeerClass | undefined} */
  let Peer;
  const meter = createMeter();

  /** @param {Peer | undefined} peer */
  function publish(peer) {
    /** @type {any} */ (window).roundelay = { Peer, peer };
  }

  let failure = "";

  /** Shows the newest status; a failure that repeats is told once. */
  async function refresh() {
    const { peer } = state.view;
    if (!peer) return;
    try {
      const status = await peer.status();
      const ring = await peer.ring();
      state.set({ status, ring, traffic: meter.take(status.links, performance.now()) });
      failure = "";
    } catch (error) {
      if (String(error) !== failure) onError(error);
      failure = String(error);
    }
  }

  /** @param {Peer} peer */
  function follow(peer) {
    let due = false;
    const soon = () => {
      if (due) return;
      due = true;
      setTimeout(() => { due = false; refresh(); }, EVENT_MS);
    };
    peer.on("ring", soon);
    peer.on("link", soon);
    peer.on("error", (error) => { onError(error); soon(); });
    setInterval(() => { if (!document.hidden) refresh(); }, POLL_MS);
    document.addEventListener("visibilitychange", soon);
  }

  async function start() {
    const problem = unsupported();
    if (problem) return state.set({ phase: "unsupported", problem });
    if (state.view.phase === "joining" || state.view.peer) return;
    try {
      state.set({ phase: Peer ? "joining" : "loading", problem: null, waiting: 0 });
      Peer ??= await loadPeer();
      publish(undefined);
      const peer = await joinWith(Peer);
      publish(peer);
      state.set({ phase: "joined", peer });
      follow(peer);
      await refresh();
    } catch (error) {
      state.set({ phase: "failed", problem: toProblem(error, "Could not join the ring") });
    }
  }

  /** @param {PeerClass} Peer */
  async function joinWith(Peer) {
    state.set({ phase: "joining" });
    const began = performance.now();
    const timer = setInterval(() => {
      state.set({ waiting: Math.round((performance.now() - began) / 1000) });
    }, POLL_MS);
    try {
      return await Peer.join(joinOptions());
    } finally {
      clearInterval(timer);
    }
  }

  /** Says goodbye while the page goes away: sent, not waited for. */
  function leave() {
    try {
      state.view.peer?.leave()?.catch(() => {});
    } catch {
      // The page is going; nobody is left to tell.
    }
  }

  return { start, leave };
}
