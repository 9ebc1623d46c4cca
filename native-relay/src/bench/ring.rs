//! A ring of processes of this binary, made to be measured.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;

use super::BenchError;

/// How long a ring may take to come up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Direct links that every member of a large ring has, to its predecessor and its
/// first successors: beyond that core opens as many as it has use for.
const LINKS: usize = 5;

/// A relay and nodes; they end with this.
#[derive(Debug)]
pub(super) struct Ring {
    relay: String,
    members: Vec<Member>,
}

/// One process and its HTTP API.
#[derive(Debug)]
pub(super) struct Member {
    child: Child,
    /// `host:port` of its HTTP API.
    pub(super) http: String,
}

impl Drop for Member {
    fn drop(&mut self) {
        // One that has ended needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Member {
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn status(&self) -> Result<Value, BenchError> {
        self.json("/v1/status")
    }

    /// The JSON at a path of its API.
    fn json(&self, path: &str) -> Result<Value, BenchError> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)))
            .proxy(None)
            .build()
            .new_agent();
        let wrong = |error: ureq::Error| BenchError::Answer(format!("{path}: {error}"));
        let answered = agent.get(format!("http://{}{path}", self.http)).call();
        let text = answered.and_then(|mut answer| answer.body_mut().read_to_string());
        serde_json::from_str(&text.map_err(wrong)?)
            .map_err(|error| BenchError::Answer(format!("{path}: {error}")))
    }

    /// Whether it is filled, each key has so many voters, and it has a direct
    /// link to each of so many others.
    fn is_whole(&self, voters: usize, links: usize) -> bool {
        let (Ok(status), Ok(located)) = (self.status(), self.json("/v1/locate/bench")) else {
            return false;
        };
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        let direct = status["links"].as_array().into_iter().flatten();
        let direct = direct.filter(|link| link["kind"] == "direct").count();
        status["ready"] == true
            && status["store"]["under_replicated"] == 0
            && count(&located["voters"]) == voters
            && direct >= links
    }
}

impl Ring {
    /// Starts a relay and `members - 1` nodes, on disk below a directory or in
    /// memory, and waits until they are whole and linked directly.
    pub(super) fn start(members: u16, disk: Option<&Path>) -> Result<Self, BenchError> {
        let listen = free_address()?;
        let mut ring = Self {
            relay: format!("http://{listen}"),
            members: Vec::new(),
        };
        ring.spawn(&["relay", "--listen", &listen], disk)?;
        ring.wait("the relay", |ring| {
            ring.members.iter().all(|relay| relay.is_whole(1, 0))
        })?;
        let relay = ring.relay.clone();
        for _ in 1..members {
            let args = ["node", "--udp", "127.0.0.1:0", "--relay", &relay];
            ring.spawn(&args, disk)?;
        }
        let others = usize::from(members) - 1;
        ring.wait("a whole ring with direct links", |ring| {
            let mut members = ring.members.iter();
            members.all(|member| member.is_whole((others + 1).min(3), others.min(LINKS)))
        })?;
        Ok(ring)
    }

    /// The relay first.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The URL that nodes join by.
    pub(super) fn relay(&self) -> &str {
        &self.relay
    }

    fn spawn(&mut self, args: &[&str], disk: Option<&Path>) -> Result<(), BenchError> {
        let http = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args).args(["--http", &http]);
        if let Some(dir) = disk {
            let number = self.members.len().to_string();
            command.arg("--data-dir").arg(dir.join(number));
        }
        let quiet = command.env_clear().env("ROUNDELAY_LOG", "error");
        let child = quiet.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        self.members.push(Member { child, http });
        Ok(())
    }

    fn wait(&self, what: &'static str, holds: impl Fn(&Self) -> bool) -> Result<(), BenchError> {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > DEADLINE {
                return Err(BenchError::Waited(DEADLINE, what));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// An address on loopback that was free just now. None is given twice: who got
/// it may not have bound it yet.
pub(super) fn free_address() -> io::Result<String> {
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    loop {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if given.insert(address) {
            return Ok(address.to_string());
        }
    }
}
