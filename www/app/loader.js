// Loads the peer: the two files that trunk built, named on this page's own
// script tag (see pattern_script in Trunk.toml).

/** @import { PeerClass } from "./types.js" */

/** @returns {Promise<PeerClass>} */
export async function loadPeer() {
  const { js, wasm } = document.getElementById("app")?.dataset ?? {};
  if (!js || !wasm) throw new Error("This page was built without the peer. Build it with: cargo xtask build");
  try {
    const bindings = await import(absolute(js));
    await bindings.default({ module_or_path: absolute(wasm) });
    return bindings.Peer;
  } catch (error) {
    throw new Error(`The peer's program did not load: check the connection and try again, or reload the page. (${/** @type {Error} */ (error).message})`);
  }
}

/** @param {string} path */
function absolute(path) {
  return new URL(path, document.baseURI).href;
}
