//! Several endpoints in one task.

use std::future::Future;
use std::task::Poll;
use std::time::{Duration, Instant};

use roundelay::link::direct::{DirectConfig, DirectEvent, DirectLinks};
use roundelay_core::event::{Description, Lane, LinkId, Role};

const DEADLINE: Duration = Duration::from_secs(40);
pub(crate) const LOCALHOST: &str = "127.0.0.1:0";

pub(crate) fn bind(address: &str) -> DirectLinks {
    let bind = address.parse().expect("an address");
    DirectLinks::bind(&DirectConfig { bind }).expect("a socket")
}

/// Endpoints that one task drives, and what each has said.
pub(crate) struct Bench {
    pub(crate) ends: Vec<DirectLinks>,
    pub(crate) events: Vec<Vec<DirectEvent>>,
}

impl Bench {
    pub(crate) fn new(addresses: &[&str]) -> Self {
        let ends: Vec<_> = addresses.iter().map(|address| bind(address)).collect();
        let events = ends.iter().map(|_| Vec::new()).collect();
        Self { ends, events }
    }

    /// One round: waits for any socket or timer, then serves all.
    pub(crate) async fn step(&mut self, limit: Instant) {
        let timers = self.ends.iter().filter_map(DirectLinks::poll_timeout);
        let wake = timers.min().map_or(limit, |at| at.min(limit));
        let mut waits: Vec<_> = self
            .ends
            .iter()
            .map(|end| Box::pin(end.readable()))
            .collect();
        let any = std::future::poll_fn(|context| {
            let mut waits = waits.iter_mut();
            if waits.any(|wait| wait.as_mut().poll(context).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let _ = tokio::time::timeout_at(wake.into(), any).await;
        drop(waits);
        for index in 0..self.ends.len() {
            let now = Instant::now();
            self.ends[index].receive(now);
            self.ends[index].handle_timeout(now);
            self.collect(index);
        }
    }

    pub(crate) fn collect(&mut self, index: usize) {
        while let Some(event) = self.ends[index].poll_event() {
            self.events[index].push(event);
        }
    }

    pub(crate) async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let limit = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < limit, "not in time: {what}");
            self.step(limit).await;
        }
    }

    /// Takes the description that `index` has made for `link`.
    pub(crate) fn description(&mut self, index: usize, link: LinkId) -> Description {
        self.collect(index);
        let mut found = None;
        self.events[index].retain(|event| match event {
            DirectEvent::Local(description) if description.link == link => {
                found = Some(description.clone());
                false
            }
            _ => true,
        });
        found.expect("a description")
    }

    /// Lets two ends exchange descriptions over one link number.
    pub(crate) fn introduce(&mut self, offerer: usize, answerer: usize, link: LinkId) {
        let now = Instant::now();
        self.ends[offerer].open(link, Role::Offerer, now);
        let offer = self.description(offerer, link);
        self.ends[answerer].open(link, Role::Answerer, now);
        self.ends[answerer].remote(&offer, now);
        let answer = self.description(answerer, link);
        self.ends[offerer].remote(&answer, now);
    }

    /// A bench of two ends with a link that is up.
    pub(crate) async fn connected(addresses: [&str; 2], link: LinkId) -> Self {
        let mut bench = Self::new(&addresses);
        bench.introduce(0, 1, link);
        bench.until("up", |bench| bench.both_up(link)).await;
        bench
    }

    pub(crate) fn is_up(&self, index: usize, link: LinkId) -> bool {
        self.events[index].contains(&DirectEvent::Up { link })
    }

    pub(crate) fn both_up(&self, link: LinkId) -> bool {
        self.is_up(0, link) && self.is_up(1, link)
    }

    pub(crate) fn frames(&self, index: usize, link: LinkId) -> Vec<&[u8]> {
        let frame = |event| match event {
            &DirectEvent::Frame {
                link: of,
                ref bytes,
            } if of == link => Some(bytes.as_slice()),
            _ => None,
        };
        self.events[index].iter().filter_map(frame).collect()
    }

    pub(crate) fn down(&self, index: usize, link: LinkId) -> Option<&str> {
        self.events[index].iter().find_map(|event| match event {
            DirectEvent::Down { link: of, reason } if *of == link => Some(reason.as_str()),
            _ => None,
        })
    }

    pub(crate) fn drained(&self, index: usize, lane: Lane) -> usize {
        let part = |event: &DirectEvent| match event {
            DirectEvent::Drained {
                lane: of, bytes, ..
            } if *of == lane => *bytes,
            _ => 0,
        };
        self.events[index].iter().map(part).sum()
    }

    pub(crate) fn send(&mut self, index: usize, link: LinkId, lane: Lane, bytes: &[u8]) {
        self.ends[index].send(link, lane, bytes.to_vec(), Instant::now());
    }
}
