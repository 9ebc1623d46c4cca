// Turns the links' running totals into rates and a minute of history.

/** @import { Link, Traffic } from "./types.js" */

const SAMPLES = 60;
const MIN_STEP_MS = 700;

/**
 * A name for each link: one peer may have several of one kind.
 * @param {Link[]} links
 * @returns {{ key: string, link: Link }[]}
 */
export function keyLinks(links) {
  /** @type {Map<string, number>} */
  const seen = new Map();
  return links.map((link) => {
    const base = `${link.peer}/${link.kind}`;
    const nth = seen.get(base) ?? 0;
    seen.set(base, nth + 1);
    return { key: nth ? `${base}/${nth}` : base, link };
  });
}

export function createMeter() {
  /** @type {Map<string, { in: number, out: number, traffic: Traffic }>} */
  let last = new Map();
  let at = 0;

  /** @param {string} key @param {Link} link @param {number} seconds */
  function step(key, link, seconds) {
    const before = last.get(key);
    const rateIn = before ? rate(link.bytes_in - before.in, seconds) : 0;
    const rateOut = before ? rate(link.bytes_out - before.out, seconds) : 0;
    const samples = [...(before?.traffic.samples ?? []), rateIn + rateOut].slice(-SAMPLES);
    return { in: link.bytes_in, out: link.bytes_out, traffic: { rateIn, rateOut, samples } };
  }

  return {
    /**
     * @param {Link[]} links
     * @param {number} now  Milliseconds.
     * @returns {Map<string, Traffic>}
     */
    take(links, now) {
      if (now - at >= MIN_STEP_MS) {
        const seconds = (now - at) / 1000;
        last = new Map(keyLinks(links).map(({ key, link }) => [key, step(key, link, seconds)]));
        at = now;
      }
      return new Map([...last].map(([key, entry]) => [key, entry.traffic]));
    },
  };
}

/** @param {number} bytes @param {number} seconds */
function rate(bytes, seconds) {
  return Math.max(0, bytes) / seconds;
}
