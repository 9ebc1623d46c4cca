/**
 * The types of the public JS API as the page uses it, and of the page's own
 * state. Nothing here runs.
 *
 * @typedef {"one" | "quorum"} Mode
 * @typedef {"durable" | "transient"} NodeClass
 * @typedef {"put" | "get" | "delete" | "locate"} Verb
 *
 * @typedef {object} Write
 * @property {string} version
 * @property {{ have: number, of: number }} copies
 *
 * @typedef {object} Read
 * @property {Uint8Array} value
 * @property {string} version
 *
 * @typedef {object} Place  Where a key lives.
 * @property {number} slot
 * @property {number} view
 * @property {string[]} voters
 * @property {string[]} mirrors
 *
 * @typedef {object} Member
 * @property {string} id
 * @property {string} [name]
 * @property {NodeClass} class
 * @property {"alive" | "suspect"} state
 *
 * @typedef {object} Ring
 * @property {string} ring_id
 * @property {Member[]} members  In ring order, this peer among them.
 *
 * @typedef {object} Link
 * @property {string} peer
 * @property {"relay" | "direct"} kind
 * @property {number | null} rtt_ms
 * @property {number} bytes_in
 * @property {number} bytes_out
 *
 * @typedef {object} Relay
 * @property {string} url
 * @property {string} [id]  The relay's own peer id, once known.
 * @property {"attached" | "connecting" | "lost"} state
 *
 * @typedef {object} Status
 * @property {string} id
 * @property {number} epoch
 * @property {NodeClass} class
 * @property {string} network
 * @property {string} ring_id
 * @property {string} [name]
 * @property {string | null} predecessor
 * @property {string[]} successors
 * @property {Link[]} links
 * @property {{ records: number, bytes: number, under_replicated: number, degraded: number, medium: "indexeddb" | "memory" }} store
 * @property {Record<string, number>} counters
 * @property {Relay[]} [relays]
 *
 * @typedef {object} Peer
 * @property {string} id
 * @property {(key: string, value: Uint8Array | string, opts?: { mode?: Mode }) => Promise<Write>} put
 * @property {(key: string, opts?: { mode?: Mode }) => Promise<Read | undefined>} get
 * @property {(key: string, opts?: { mode?: Mode }) => Promise<Write>} delete
 * @property {(key: string) => Promise<Place>} locate
 * @property {() => Status} status
 * @property {() => Ring} ring
 * @property {(event: "ring" | "link" | "error", cb: (detail: any) => void) => () => void} on
 * @property {() => Promise<void>} leave
 *
 * @typedef {{ network?: string, relays?: string[], secret?: string }} JoinOptions
 * @typedef {{ join(options: JoinOptions): Promise<Peer> }} PeerClass
 *
 * @typedef {{ title: string, text: string, code?: string }} Problem
 *
 * @typedef {object} Traffic  One link's recent past.
 * @property {number} rateIn  Bytes a second.
 * @property {number} rateOut
 * @property {number[]} samples  Bytes a second, both ways, oldest first.
 *
 * @typedef {"loading" | "joining" | "joined" | "failed" | "unsupported"} Phase
 *
 * @typedef {object} View  All that the page shows.
 * @property {Phase} phase
 * @property {Problem | null} problem  Why it failed, or cannot run here.
 * @property {number} waiting  Seconds since the join began.
 * @property {Peer | null} peer
 * @property {Status | null} status
 * @property {Ring | null} ring
 * @property {Map<string, Traffic>} traffic  By `linkKey`.
 * @property {(Place & { key: string }) | null} place
 * @property {string | null} shown  The member under the pointer or the focus.
 *
 * @typedef {ReturnType<typeof import("./state.js").createState>} State
 * @typedef {ReturnType<typeof import("./notices.js").createNotices>} Notices
 */

export {};
