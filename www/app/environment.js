// What the browser and the page's address say: can a peer run here, and which
// network, relays and secret are meant.

/** @import { JoinOptions, Problem } from "./types.js" */

/** @returns {Problem | null} */
export function unsupported() {
  if (typeof WebAssembly !== "object") {
    return {
      title: "This browser cannot run the peer",
      text: "The peer is a WebAssembly program, and WebAssembly is missing or switched off here. Use a current Chromium, Firefox or Safari, and check that no hardened mode forbids it.",
    };
  }
  if (typeof WebSocket !== "function") {
    return {
      title: "This browser cannot reach a relay",
      text: "A peer meets the ring through a WebSocket, which is missing here. Use a current Chromium, Firefox or Safari.",
    };
  }
  return null;
}

export function hasWebRtc() {
  return typeof RTCPeerConnection === "function";
}

/** @returns {JoinOptions} */
export function joinOptions() {
  const query = new URLSearchParams(location.search);
  /** @type {JoinOptions} */
  const options = {};
  const network = query.get("network");
  const relays = query.getAll("relay").filter(Boolean);
  const secret = secretIn(location.hash);
  if (network) options.network = network;
  if (relays.length) options.relays = relays;
  if (secret) options.secret = secret;
  return options;
}

/**
 * The secret in `#secret=…`. A plus sign stays one, as in base64.
 * @param {string} hash
 */
export function secretIn(hash) {
  const part = hash.slice(1).split("&").find((pair) => pair.startsWith("secret="));
  if (!part) return "";
  const raw = part.slice("secret=".length);
  try {
    return decodeURIComponent(raw);
  } catch {
    return raw;
  }
}
