// The console for keys: reads the form, runs an operation, times it, and has
// its answer and the key's whereabouts shown.

import { byId } from "./dom.js";
import { toProblem } from "./format.js";
import { remember, showBusy, showOutcome, showRefusal } from "./result.js";

/** @import { Mode, Peer, Place, State, Verb } from "./types.js" */
/** @import { Outcome } from "./result.js" */

/** @type {Verb[]} */
const VERBS = ["put", "get", "delete", "locate"];

/** @type {Record<Mode, string>} */
const MODES = {
  quorum: "quorum: done when a majority of the key's voters has it on disk.",
  one: "one: done at the first copy; the last writer wins, also while voters are away.",
};

/** @param {State} state */
export function createConsole(state) {
  const key = /** @type {HTMLInputElement} */ (byId("key"));
  const value = /** @type {HTMLTextAreaElement} */ (byId("value"));
  const mode = /** @type {HTMLSelectElement} */ (byId("mode"));
  let latest = 0;

  /** @param {Verb} verb */
  async function submit(verb) {
    const { peer } = state.view;
    if (!peer) return;
    if (!key.value) return refuse();
    const asked = { verb, key: key.value, mode: /** @type {Mode} */ (mode.value) };
    latest += 1;
    const turn = latest;
    showBusy(verb, asked.key);
    const { place, ...outcome } = await perform(peer, asked, value.value);
    remember(outcome);
    if (turn !== latest) return;
    showOutcome(outcome, place, state.view);
    const found = place ?? (await whereabouts(peer, outcome));
    if (turn !== latest) return;
    state.set({ place: found && { ...found, key: asked.key } });
    showOutcome(outcome, found, state.view);
  }

  function refuse() {
    showRefusal("Write a key first, such as notes/today.");
    key.focus();
  }

  for (const verb of VERBS) byId(verb).addEventListener("click", () => submit(verb));
  byId("key-form").addEventListener("submit", (event) => event.preventDefault());
  onEnter(key, () => submit("get"));
  onEnter(value, () => submit("put"));
  const explain = () => { byId("mode-hint").textContent = MODES[/** @type {Mode} */ (mode.value)]; };
  mode.addEventListener("change", explain);
  explain();
  state.watch(({ phase }) => {
    for (const verb of VERBS) /** @type {HTMLButtonElement} */ (byId(verb)).disabled = phase !== "joined";
  });
}

/**
 * Runs one operation and says how it went; only the operation itself is timed.
 * @param {Peer} peer
 * @param {{ verb: Verb, key: string, mode: Mode }} asked
 * @param {string} value
 * @returns {Promise<Outcome & { place: Place | null }>}
 */
async function perform(peer, asked, value) {
  const { verb, key, mode } = asked;
  const began = performance.now();
  const done = (/** @type {object} */ more) => ({ ...asked, place: null, ms: performance.now() - began, ...more });
  try {
    if (verb === "put") return done({ write: await peer.put(key, value, { mode }) });
    if (verb === "get") return done({ read: await peer.get(key, { mode }) });
    if (verb === "delete") return done({ write: await peer.delete(key, { mode }) });
    return done({ place: await peer.locate(key) });
  } catch (error) {
    return done({ problem: toProblem(error, "It failed") });
  }
}

/**
 * Where the key lives; nothing to say when the key itself was refused.
 * @param {Peer} peer
 * @param {Outcome} outcome
 */
async function whereabouts(peer, { key, verb, problem }) {
  if (problem && (verb === "locate" || problem.code === "bad_key")) return null;
  try {
    return await peer.locate(key);
  } catch {
    return null;
  }
}

/** @param {HTMLElement} field @param {() => void} run */
function onEnter(field, run) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    run();
  });
}
