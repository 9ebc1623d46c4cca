// The table of this peer's links, with live traffic.

import { byId, html, keyed, setAll, setText, svg } from "./dom.js";
import { byteSize, milliseconds, plural } from "./format.js";
import { KINDS, nameOf } from "./member.js";
import { keyLinks } from "./traffic.js";

/** @import { Link, State, Traffic, View } from "./types.js" */

const WIDTH = 90;
const HEIGHT = 20;
const SPAN = 59;

/** @param {State} state */
export function createLinks(state) {
  const table = /** @type {HTMLTableElement} */ (byId("links"));
  const body = table.tBodies[0];
  state.watch((view) => {
    const links = keyLinks(view.status?.links ?? []);
    table.hidden = links.length === 0;
    byId("links-empty").hidden = links.length > 0;
    setText(byId("links-summary"), summary(view.status?.links ?? []));
    const top = peak(view.traffic);
    keyed(body, links, ({ key }) => key, ({ link }) => makeRow(link), (row, { key, link }) => {
      updateRow(row, link, view, view.traffic.get(key), top);
    });
  });
}

/** @param {Link[]} links */
function summary(links) {
  if (!links.length) return "";
  const direct = links.filter((link) => link.kind === "direct").length;
  return `${plural(direct, "direct", "direct")}, ${plural(links.length - direct, "relayed", "relayed")}`;
}

/** @param {Link} link */
function makeRow(link) {
  const line = svg("svg", { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true" }, svg("path", { class: `chord key-${link.kind}`, d: "M1 4H21" }));
  const spark = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, svg("path", {}));
  return html(
    "tr",
    { "data-peer": link.peer, "data-kind": link.kind },
    html("th", { scope: "row" }),
    html("td", { class: "path" }, line, KINDS[link.kind]),
    html("td", { class: "number" }),
    html("td", { class: "number" }),
    html("td", { class: "number" }),
    html("td", { class: "spark-cell" }, spark),
  );
}

/**
 * @param {HTMLTableRowElement} row
 * @param {Link} link
 * @param {View} view
 * @param {Traffic | undefined} traffic
 * @param {number} top
 */
function updateRow(row, link, view, traffic, top) {
  const [peer, , rtt, bytesIn, bytesOut, spark] = row.cells;
  setText(peer, nameOf(view, link.peer));
  peer.title = link.peer;
  setText(rtt, milliseconds(link.rtt_ms));
  setText(bytesIn, byteSize(link.bytes_in));
  setText(bytesOut, byteSize(link.bytes_out));
  const path = spark.firstElementChild?.firstElementChild;
  if (path) setAll(path, { d: sparkPath(traffic?.samples ?? [], top) });
  setAll(spark, { "aria-label": traffic ? `${byteSize(traffic.rateIn + traffic.rateOut)} a second now` : undefined });
}

/** The highest rate of all links, so that their curves compare. @param {Map<string, Traffic>} traffic */
function peak(traffic) {
  let top = 100;
  for (const { samples } of traffic.values()) for (const sample of samples) top = Math.max(top, sample);
  return top;
}

/** @param {number[]} samples @param {number} top */
function sparkPath(samples, top) {
  const start = SPAN - (samples.length - 1);
  return samples
    .map((sample, nth) => {
      const x = ((start + nth) / SPAN) * WIDTH;
      const y = HEIGHT - 1.5 - Math.sqrt(sample / top) * (HEIGHT - 3);
      return `${nth ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    })
    .join("");
}
