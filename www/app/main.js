// Wires the page: one state, one session, and the views that show them.

import { errorAlerts, watchAlerts } from "./alerts.js";
import { createConsole } from "./console.js";
import { secretIn } from "./environment.js";
import { createFacts } from "./facts.js";
import { createInspector } from "./inspector.js";
import { createLinks } from "./links.js";
import { createNotices } from "./notices.js";
import { createRingView } from "./ring-view.js";
import { createSession } from "./session.js";
import { createState } from "./state.js";

const state = createState();
const notices = createNotices();
const session = createSession(state, errorAlerts(notices));

createFacts(state);
createRingView(state);
createInspector(state);
createConsole(state);
createLinks(state);
watchAlerts(state, notices, session.start);

addEventListener("pagehide", () => session.leave());
// Back from the browser's cache of pages, this peer has left: join anew.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
// Another secret in the address means another peer.
const secret = secretIn(location.hash);
addEventListener("hashchange", () => { if (secretIn(location.hash) !== secret) location.reload(); });

session.start();
