// How things are written: ids, names, bytes, times, values, errors.

/** @import { Member, Problem } from "./types.js" */

const SHORT = 8;
const SHOWN_BYTES = 4096;

/** @param {string} id */
export function shortId(id) {
  return id.length > SHORT ? `${id.slice(0, SHORT)}…` : id;
}

/** @param {Pick<Member, "id" | "name">} member */
export function memberName(member) {
  return member.name || shortId(member.id);
}

/** @param {string} text @param {number} length */
export function clip(text, length) {
  return text.length > length ? `${text.slice(0, Math.max(1, length - 1))}…` : text;
}

/** @param {number} count @param {string} one @param {string} [many] */
export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** @param {string[]} words */
export function listing(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** @param {number} bytes */
export function byteSize(bytes) {
  if (bytes < 1000) return `${Math.round(bytes)} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let size = bytes / 1000;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size.toFixed(size < 99.95 ? 1 : 0)} ${units[unit]}`;
}

/** @param {number | null} ms */
export function milliseconds(ms) {
  if (ms === null || !Number.isFinite(ms)) return "–";
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms.toFixed(ms < 99.95 ? 1 : 0)} ms`;
}

/** @param {Date} date */
export function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

/**
 * A value for the eye: text when it is UTF-8, else hex; long ones cut.
 * @param {Uint8Array} value
 * @returns {{ text: string, kind: "text" | "hex", cut: boolean }}
 */
export function showValue(value) {
  const cut = value.length > SHOWN_BYTES;
  const text = utf8(value);
  if (text !== null) return { text: cut ? text.slice(0, SHOWN_BYTES) : text, kind: "text", cut };
  const bytes = Array.from(value.subarray(0, SHOWN_BYTES));
  return { text: bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" "), kind: "hex", cut };
}

/** @param {Uint8Array} value @returns {string | null} */
function utf8(value) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
  } catch {
    return null;
  }
}

/** @type {Record<string, string>} */
const TITLES = {
  unavailable: "Not available: surely not applied",
  outcome_unknown: "Outcome unknown: read the key to learn it",
  bad_key: "Not a key",
  bad_bucket: "Not a bucket",
  bad_mode: "Not a mode",
  bad_ttl: "Not a time to live",
  too_large: "Too large",
  not_found: "Not found",
  conflict: "The key takes no writes of mode one",
  condition_failed: "The key has another version: not applied",
  wrong_secret: "Wrong secret",
  secret_required: "This network wants a secret",
  wrong_network: "The relay does not serve this network",
  relay_unreachable: "No answer from the relay",
  no_direct_path: "No direct path: relayed",
  join_timeout: "No ring took this peer in",
  not_joined: "Not in a ring",
  full: "Storage is full",
  busy: "Too much at once",
  bad_options: "Not a valid request",
  not_built: "Not built yet",
};

/**
 * An error in words. What the API says is kept; the title says what it means.
 * @param {unknown} error
 * @param {string} fallback  The title for a code that has none.
 * @returns {Problem}
 */
export function toProblem(error, fallback) {
  const { code, message } = /** @type {{ code?: string, message?: string }} */ (error ?? {});
  const text = message || String(error);
  return { title: (code && TITLES[code]) || fallback, text, code };
}
