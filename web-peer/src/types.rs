//! The types of the JS API, as TypeScript sees them.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What a call promises. `quorum`, the default: a majority of the key's voters
 * has it, synced. `one`: any copy; the last writer wins, merged later.
 * `linearizable`: one order for all, and no writes of mode `one` any more. */
export type Mode = "one" | "quorum" | "linearizable";

/** Whether a node keeps what it is given: it has a disk, or is a page. */
export type NodeClass = "durable" | "transient";

/** The code of an error. Codes are never renamed. */
export type ErrorCode =
  | "unavailable" | "outcome_unknown" | "too_large" | "full" | "busy"
  | "condition_failed" | "conflict" | "not_joined" | "bad_key" | "bad_bucket" | "bad_mode" | "bad_ttl"
  | "bad_options" | "not_built" | "relay_unreachable" | "secret_required" | "wrong_secret" | "wrong_network"
  | "join_timeout" | "relay_lost" | "no_direct_path" | "other_ring" | "storage" | "trouble";

/** What a failed call rejects with, and what `on("error", …)` is told. */
export interface PeerError extends Error {
  code: ErrorCode;
}

export interface JoinOptions {
  /** The network's name. Default: the one that the relay serves. */
  network?: string;
  /** Relays by URL: `http`, `https`, `ws` or `wss`; without a path `/ws` is
   * meant. Default: the page's own origin. */
  relays?: string[];
  /** The network's secret. */
  secret?: string;
  /** This peer's name, for people, at most 64 bytes. Default: `page-` and
   * the first four characters of its id. */
  name?: string;
}

export interface CallOptions {
  mode?: Mode;
}

export interface PutOptions extends CallOptions {
  /** For how many whole seconds the key keeps the value, from 1 to ten years;
   * for ever, without it. As exact as the members' clocks agree. */
  ttl?: number;
}

export interface CasOptions {
  /** As in `PutOptions`. */
  ttl?: number;
}

export interface Copies {
  /** Voters that hold the write, synced. */
  have: number;
  /** Voters of the key. */
  of: number;
}

export interface PutResult {
  version: string;
  copies: Copies;
}

export interface GetResult {
  value: Uint8Array;
  version: string;
}

export interface ListOptions {
  /** What is promised. `quorum`, the default: every write of the bucket that was
   * acknowledged before the call and falls into the page is there, with that
   * version or a later one. `one`: what any copy holds. */
  mode?: "one" | "quorum";
  /** The whole key after which the page begins: the `next` of the page before. */
  after?: string;
  /** At most so many keys, 1 to 1,000. Default: 1,000. */
  limit?: number;
}

/** A page of a bucket, in the order of the keys' bytes. */
export interface ListResult {
  keys: { key: string; version: string }[];
  /** After which key the next page begins; `undefined` if this is the last. A
   * page may be short, or empty, and not the last. */
  next: string | undefined;
}

/** What a watch tells. `reset`: forget what was told before; the keys that exist
 * follow as changes. `change`: a key has another version; read it for its value.
 * The newest version of each key is told, and between two resets never an older
 * one after it; versions between may be left out, and one may be told twice. */
export type WatchEvent =
  | { type: "reset" }
  | { type: "change"; key: string; version: string; deleted: boolean };

/** Where a key lives, as far as this peer knows. */
export interface Place {
  slot: number;
  /** The number of the slot's view; 0 while none is known. */
  view: number;
  voters: string[];
  /** Pages that keep further copies. */
  mirrors: string[];
}

export interface LinkStatus {
  peer: string;
  kind: "relay" | "direct";
  rtt_ms: number | null;
  bytes_in: number;
  bytes_out: number;
}

export interface RelayStatus {
  url: string;
  state: "connecting" | "attached" | "lost";
}

export interface StoreStatus {
  records: number;
  bytes: number;
  under_replicated: number;
  degraded: number;
  /** Whether the node's storage takes writes. */
  state: "ok" | "full" | "failing";
  /** Where a page keeps its identity and its share. What is in memory is gone with
   * the page. */
  medium: "indexeddb" | "memory";
  /** Why they are in memory, for people; `null` where they are not. */
  in_memory_because: string | null;
}

/** Messages over all links each second, on an average of the last minute. */
export interface TrafficRate {
  frames_in: number;
  bytes_in: number;
  frames_out: number;
  bytes_out: number;
}

export interface Status {
  id: string;
  epoch: number;
  class: NodeClass;
  name: string;
  network: string;
  ring_id: string | null;
  ready: boolean;
  predecessor: string | null;
  /** Nearest first, without this peer. */
  successors: string[];
  links: LinkStatus[];
  relays: RelayStatus[];
  store: StoreStatus;
  rate: TrafficRate;
  counters: Record<string, number>;
}

export interface Member {
  id: string;
  name: string;
  class: NodeClass;
  /** A suspect does not answer, and is routed around. */
  state: "alive" | "suspect";
}

export interface Ring {
  ring_id: string | null;
  /** Clockwise from position zero, this peer among them. Whoever left or died
   * is none. */
  members: Member[];
}

/** What a listener is told, by the name that it listens to. */
export interface PeerEvents {
  ring: Ring;
  link: LinkStatus[];
  error: PeerError;
}

export interface Peer {
  /** Calls back whenever the ring or a link changes, or something is wrong.
   * Returns a function that ends it.
   *
   * ```js
   * const stop = peer.on("error", (error) => console.warn(error.code, error.message));
   * ```
   */
  on<Name extends keyof PeerEvents>(
    event: Name,
    callback: (detail: PeerEvents[Name]) => void,
  ): () => void;

  /** Watches a key, or, with a slash at its end, the keys of a bucket: first what
   * is there, then what changes, until the function is called that this returns.
   * Throws where the first argument is neither.
   *
   * ```js
   * const stop = peer.watch("chat/", (event) => console.log(event));
   * ```
   */
  watch(keyOrBucket: string, callback: (event: WatchEvent) => void): () => void;
}
"#;
