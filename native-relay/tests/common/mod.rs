//! Real processes of the real binary, on loopback.
#![allow(dead_code, reason = "every test binary uses a part of this")]

pub(crate) mod dice;
pub(crate) mod keys;
pub(crate) mod load;

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use ureq::Agent;
use ureq::http::Request;

/// Long, since other tests may have the processors.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// One ring at a time: a machine with two processors is not to be shared by
/// rings whose deadlines are tested.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static RINGS: Mutex<()> = Mutex::new(());
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls a condition until it holds; fails at the deadline, and says what for.
pub(crate) fn wait_until(
    what: &str,
    deadline: Duration,
    mut holds: impl FnMut() -> bool,
) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < deadline,
            "waited {deadline:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// A port that was free just now, for TCP and UDP. None is given twice: the
/// process that got it may not have bound it yet.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}

/// The binary under test: `ROUNDELAY_BIN`, else the one that Cargo built.
pub(crate) fn binary() -> PathBuf {
    let built = env!("CARGO_BIN_EXE_roundelay");
    std::env::var_os("ROUNDELAY_BIN").map_or_else(|| built.into(), PathBuf::from)
}

/// A process, killed at the end of the test.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the binary; what it says goes to a file.
    pub(crate) fn start(args: &[&str], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(binary())
            .args(args)
            .env_clear()
            .env("ROUNDELAY_LOG", "info,roundelay=debug")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let log = log.to_owned();
        Self { child, log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that was said so far.
    pub(crate) fn said(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self, deadline: Duration) -> ExitStatus {
        wait_until("a process to end", deadline, || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {}\n{}", self.log.display(), self.said());
        }
    }
}

/// An answer to an HTTP request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("{name}"));
        value.to_str().unwrap()
    }
}

/// Asks a port of this machine; 0 is the status of no answer.
pub(crate) fn http(method: &str, port: u16, path: &str, body: &[u8]) -> Answer {
    http_with(method, port, path, &[], body)
}

/// As [`http`], with headers.
pub(crate) fn http_with(
    method: &str,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .proxy(None)
        .build()
        .new_agent();
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:{port}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answered = if method == "PUT" || !body.is_empty() {
        agent.run(request.body(body).unwrap())
    } else {
        agent.run(request.body(()).unwrap())
    };
    match answered {
        Ok(mut response) => {
            let body = response.body_mut().with_config().limit(4 << 20);
            Answer {
                body: body.read_to_vec().unwrap_or_default(),
                status: response.status().as_u16(),
                headers: response.headers().clone(),
            }
        }
        Err(error) => Answer {
            status: 0,
            headers: ureq::http::HeaderMap::new(),
            body: error.to_string().into_bytes(),
        },
    }
}

/// How a member is taken away for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Stop,
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::Stop => "SIGSTOP",
        })
    }
}

/// A relay or node that can be killed and started again as it was.
pub(crate) struct Member {
    args: Vec<String>,
    log: PathBuf,
    /// Of its HTTP API.
    pub(crate) http: u16,
    pub(crate) process: Option<Process>,
}

impl Member {
    pub(crate) fn start(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.process = Some(Process::start(&args, &self.log));
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    pub(crate) fn kill_9(&mut self) {
        self.process().kill_9();
        self.process = None;
    }

    /// Takes it away until something is done.
    pub(crate) fn while_away(&mut self, fault: Fault, meanwhile: impl FnOnce()) {
        match fault {
            Fault::Kill => self.kill_9(),
            Fault::Stop => self.process().signal("STOP"),
        }
        meanwhile();
        match fault {
            Fault::Kill => self.start(),
            Fault::Stop => self.process().signal("CONT"),
        }
    }

    pub(crate) fn status(&self) -> Option<Value> {
        let answer = http("GET", self.http, "/v1/status", b"");
        (answer.status == 200).then(|| answer.json())
    }

    /// Ready, and every record where it votes has all its copies.
    pub(crate) fn is_whole(&self) -> bool {
        http("GET", self.http, "/readyz", b"").status == 200
            && self
                .status()
                .is_some_and(|status| status["store"]["under_replicated"] == 0)
    }

    /// Whether it has direct links to so many.
    pub(crate) fn has_direct_links(&self, count: usize) -> bool {
        let Some(status) = self.status() else {
            return false;
        };
        let links = status["links"].as_array().unwrap();
        let direct = links.iter().filter(|link| link["kind"] == "direct");
        direct.count() >= count
    }

    pub(crate) fn put(&self, key: &str, value: &[u8]) -> Answer {
        http("PUT", self.http, &format!("/v1/kv/{key}"), value)
    }

    pub(crate) fn get(&self, key: &str) -> Answer {
        http("GET", self.http, &format!("/v1/kv/{key}"), b"")
    }
}

/// A relay and nodes in directories of their own.
pub(crate) struct Ring {
    /// The relay's `--listen` port.
    pub(crate) listen: u16,
    /// The relay, then the nodes.
    pub(crate) members: Vec<Member>,
    /// Last, since it must outlive the processes.
    pub(crate) dir: TempDir,
}

impl Ring {
    /// Starts a relay and nodes, and waits until all are whole and their
    /// voters are three, or as many as they are.
    pub(crate) fn start(nodes: usize) -> Self {
        let mut ring = Self {
            dir: tempfile::tempdir().unwrap(),
            listen: free_port(),
            members: Vec::new(),
        };
        let listen = format!("127.0.0.1:{}", ring.listen);
        ring.add("relay", &["relay", "--listen", &listen]);
        wait_until("the relay", DEADLINE, || ring.members[0].is_whole());
        for number in 1..=nodes {
            let relay = format!("http://{listen}");
            ring.add(&format!("node-{number}"), &["node", "--relay", &relay]);
        }
        ring.wait_whole();
        ring
    }

    /// Starts one more member.
    pub(crate) fn add(&mut self, name: &str, args: &[&str]) {
        let http = free_port();
        let (data, address) = (self.dir.path().join(name), format!("127.0.0.1:{http}"));
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(["--http", &address, "--data-dir"].map(str::to_owned));
        args.push(data.display().to_string());
        let mut member = Member {
            args,
            log: self.dir.path().join(format!("{name}.log")),
            http,
            process: None,
        };
        member.start();
        self.members.push(member);
    }

    /// Waits until all are ready and whole, and every key has as many voters
    /// as there can be.
    pub(crate) fn wait_whole(&self) {
        let voters = self.members.len().min(3);
        for member in &self.members {
            wait_until("a whole member", DEADLINE, || {
                let located = http("GET", member.http, "/v1/locate/some/key", b"");
                member.is_whole()
                    && located.json()["voters"].as_array().map(Vec::len) == Some(voters)
            });
        }
    }
}
