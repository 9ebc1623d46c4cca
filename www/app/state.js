// The page's one state: a plain object, patched by whoever learns something,
// and told to the views once per turn of the event loop.

/** @import { View } from "./types.js" */

/** @type {View} */
const START = {
  phase: "loading",
  problem: null,
  waiting: 0,
  peer: null,
  status: null,
  ring: null,
  traffic: new Map(),
  place: null,
  shown: null,
};

export function createState() {
  let view = START;
  let told = true;
  /** @type {((view: View) => void)[]} */
  const watchers = [];

  function tell() {
    told = true;
    for (const watcher of watchers) watcher(view);
  }

  return {
    /** @returns {View} */
    get view() {
      return view;
    },

    /** @param {Partial<View>} patch */
    set(patch) {
      view = { ...view, ...patch };
      if (!told) return;
      told = false;
      queueMicrotask(tell);
    },

    /** @param {(view: View) => void} watcher */
    watch(watcher) {
      watchers.push(watcher);
      watcher(view);
    },
  };
}
