//! The relays of the simulated network.

use roundelay_core::hub::{ConnectionId, Hub, HubOutput};
use roundelay_core::status::{RelayState, RelayStatus};
use roundelay_core::{Input, Instant, LinkId};

use super::{End, Happening, SECOND, World};

/// The URL of a relay.
pub(super) fn url(relay: usize) -> String {
    format!("ws://{relay}.relay.example/ws")
}

fn relay_of(url: &str) -> usize {
    let number = url.trim_start_matches("ws://").split('.').next();
    number.unwrap().parse().unwrap()
}

impl World {
    /// Whether a process has a way to any other: by a relay that it is attached
    /// to, or by a direct link. A relay has to be attached to all of its own:
    /// without it those at home at either are parted.
    pub fn has_way(&self, index: usize) -> bool {
        let node = self.processes[index].node.as_ref();
        let relays = || node.map(|node| node.status().relays).unwrap_or_default();
        let attached = |relay: RelayStatus| relay.state == RelayState::Attached;
        if index < self.relay_count {
            return relays().into_iter().all(attached);
        }
        let own = End::Node(index, LinkId(0))..End::Node(index + 1, LinkId(0));
        let mut wires = self.wires.range(own);
        let direct = wires.any(|(_, other)| matches!(other, End::Node(..)));
        direct || relays().into_iter().any(attached)
    }

    /// Something happens at a relay, if it runs.
    pub(super) fn at_hub(&mut self, relay: usize, happen: impl FnOnce(&mut Hub, Instant)) {
        let now = Instant::from_micros(self.now);
        if let Some(hub) = &mut self.processes[relay].hub {
            happen(hub, now);
        }
        self.drain_hub(relay);
    }

    fn drain_hub(&mut self, relay: usize) {
        while let Some(output) = self.processes[relay]
            .hub
            .as_mut()
            .and_then(Hub::poll_output)
        {
            match output {
                HubOutput::Send { connection, bytes } => {
                    if let Some(hub) = &mut self.processes[relay].hub {
                        hub.on_drained(connection, bytes.len());
                    }
                    self.transmit(End::Hub(relay, connection), bytes);
                }
                HubOutput::Close { connection, .. } => {
                    if let Some(other) = self.cut(End::Hub(relay, connection)) {
                        let latency = self.latency();
                        self.queue(latency, Happening::Closed(other));
                    }
                }
                HubOutput::Pause { .. } => {}
            }
        }
        let hub = self.processes[relay].hub.as_ref();
        if let Some(at) = hub.and_then(Hub::poll_timeout) {
            let after = at.as_micros().saturating_sub(self.now);
            self.queue(after + 1, Happening::HubWake(relay));
        }
    }

    pub(super) fn dial_relay(&mut self, index: usize, link: LinkId, url: &str) {
        let relay = relay_of(url);
        let start = self.processes[index].start;
        let latency = 2 * self.latency();
        let now = Instant::from_micros(self.now);
        if self.cut.contains(&(index, relay)) || self.cut.contains(&(relay, index)) {
            let reason = "no answer".into();
            let down = Input::LinkDown { link, reason };
            return self.queue(3 * SECOND, Happening::Input(index, start, down));
        }
        let Some(hub) = &mut self.processes[relay].hub else {
            let reason = "connection refused".into();
            let down = Input::LinkDown { link, reason };
            return self.queue(latency, Happening::Input(index, start, down));
        };
        self.connection_count += 1;
        let connection = ConnectionId(self.connection_count);
        let (own, other) = (End::Node(index, link), End::Hub(relay, connection));
        self.wires.insert(own, other);
        self.wires.insert(other, own);
        hub.on_open(connection, now);
        // The link is up before the first frame arrives on it.
        let up = self.input(index, Input::LinkUp { link });
        for (index, event) in up {
            let _ = (index, event);
        }
        self.drain_hub(relay);
    }
}
